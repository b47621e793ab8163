"""Waiting for storage: which errors are waited for, how long, and what is said."""

from __future__ import annotations

import errno
import os

import pytest

from datasets.patience import StorageError, patiently, trouble


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO, errno.ESTALE])
def test_a_storage_in_trouble_is_told_by_its_number_or_its_words(number: int) -> None:
    assert trouble(OSError(number, os.strerror(number))) == os.strerror(number)
    assert trouble(RuntimeError(f"failed writing: {os.strerror(number)} (os error {number})")) == os.strerror(number)
    assert trouble(OSError(f"[Errno {number}] Can't write data (errno = {number})")) == os.strerror(number)


@pytest.mark.parametrize(
    "error", [ValueError("no"), FileNotFoundError(2, "No such file"), OSError("weird"), MemoryError()]
)
def test_other_errors_are_not_waited_for(error: Exception) -> None:
    assert trouble(error) == ""
    calls = []
    with pytest.raises(type(error)):
        patiently(lambda: calls.append(1) or raises(error), 100, print, sleep=lambda s: None)
    assert len(calls) == 1


def raises(error: Exception) -> None:
    raise error


def test_it_goes_on_as_soon_as_the_storage_works_and_says_so_once() -> None:
    now, said, fails = [0.0], [], [4]

    def act() -> str:
        fails[0] -= 1
        if fails[0] >= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return "done"

    def sleep(seconds: float) -> None:
        now[0] += seconds

    assert patiently(act, 600, said.append, clock=lambda: now[0], sleep=sleep) == "done"
    assert len(said) == 2
    assert "No space left" in said[0]
    assert now[0] == 0.5 + 1 + 2 + 4


def test_it_gives_up_after_its_time_or_when_hurried() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StorageError, match="No space left"):
        patiently(full, 60, lambda text: None, clock=lambda: now[0], sleep=sleep)
    assert 60 <= now[0] <= 71
    now[0] = 0.0
    with pytest.raises(StorageError):
        patiently(full, 60, lambda text: None, hurry=lambda: True, clock=lambda: now[0], sleep=sleep)
    assert now[0] == 0.0
