"""Waiting for storage that is full, read-only or away for a while, instead of giving up work that took hours."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from typing import TypeVar

Done = TypeVar("Done")
# full, over quota, read-only, a disk or a mount that answers with errors, a network file system that went away
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN}
# libraries that write files by themselves (safetensors, HDF5, torch) keep only the system's text
_TEXTS = {os.strerror(number).lower(): os.strerror(number) for number in PASSING}
_NUMBER = re.compile(r"(?:errno|os error)[ =:]*(\d+)", re.IGNORECASE)
FIRST_WAIT, LONGEST_WAIT = 0.5, 10.0  # seconds


class StorageError(RuntimeError):
    """Storage stayed unusable for longer than one may wait; one line with what and why."""


def trouble(error: BaseException) -> str:
    """What is wrong with the storage, in the system's words; "" if the error is about something else."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno) if error.errno in PASSING else ""
    text = str(error).lower()
    found = _NUMBER.search(text)
    if found and int(found.group(1)) in PASSING:
        return os.strerror(int(found.group(1)))
    return next((reason for words, reason in _TEXTS.items() if words in text), "")


def patiently(
    act: Callable[[], Done],
    seconds: float,
    say: Callable[[str], None],
    hurry: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Done:
    """What `act` returns, tried again while storage is in trouble.

    Args:
        seconds: how long to wait for it. say: gets one line when the wait begins and one when it is over.
        hurry: whether to give up at once.

    Raises:
        StorageError: it stayed so. Any other error of `act` passes through.
    """
    begin, wait, waited = clock(), FIRST_WAIT, False
    while True:
        try:
            done = act()
        except Exception as error:
            reason = trouble(error)
            if not reason:
                raise
            if clock() - begin >= seconds or hurry():
                raise StorageError(reason) from error
            if not waited:
                say(f"storage: {reason}; waiting up to {seconds / 60:.0f} min for it")
            waited = True
            sleep(min(wait, LONGEST_WAIT))
            wait *= 2
        else:
            if waited:
                say("storage: works again, going on")
            return done
