"""What a decoder of latents makes: of items, of noise, between two items, and without some dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainables.core.draws import generator
from trainables.evals import _latents, _sound
from trainables.evals._decoder import Decoder

STEPS = 10  # of an interpolation
COLUMNS = 10


class Shown:
    """Writes the artifacts of the decoder of one part: in `out`, as the options `cfg` of `latent_decoder` say."""

    def __init__(self, out: Path, part: str, cfg: Any, rate: int | None, seed: int) -> None:
        self.out, self.part, self.cfg, self.rate, self.seed = out, part, cfg, rate, seed
        self.made: dict[str, Path] = {}

    def during(self, decoder: Decoder, form: Mapping[str, Any]) -> None:
        """Samples of N(0, I) after an epoch of training, if it is one of those."""
        if self.cfg.every and decoder.best % self.cfg.every == 0:
            drawn = self._drawn(decoder, (int(torch.Size(form["places"]).numel()), int(form["width"])))
            name = f"samples_{self.part}_epoch{decoder.best:04d}"
            self._write(name, [("", "of N(0, I)", drawn)], f"{self.part}: after epoch {decoder.best}")

    def after(self, decoder: Decoder, z: Tensor, true: Tensor) -> dict[str, Path]:
        """Every artifact, those written during training included, by name; z (n, L, C), true (n, *shape) of `val`."""
        part, z, true = self.part, z[: self.cfg.clips], true[: self.cfg.clips]
        rows = [("original", "original", true), ("decoded", "decoded", decoder(z, 16))]
        self._write(f"reconstructions_{part}", rows, f"decoded from {part}")
        rows = [("", "of N(0, I)", self._drawn(decoder, tuple(z.shape[1:])))]
        self._write(f"samples_{part}", rows, f"decoded from noise in place of {part}")
        self._between(decoder, z)
        self._masks(decoder, z)
        return self.made

    def _drawn(self, decoder: Decoder, shape: tuple[int, ...]) -> Tensor:
        return decoder(torch.randn(self.cfg.clips, *shape, generator=generator(self.seed, "normal")), 16)

    def _between(self, decoder: Decoder, z: Tensor) -> None:
        one, other = z[0], z[1 % len(z)]
        few = _latents.largest(one, other, self._count(z))
        rows = [
            ("whole", "all dimensions", decoder(_latents.interpolated(one, other, STEPS), 16)),
            ("partial", f"{len(few)} most apart", decoder(_latents.interpolated(one, other, STEPS, few), 16)),
        ]
        self._write(f"interpolations_{self.part}", rows, f"between two items of {self.part}")

    def _masks(self, decoder: Decoder, z: Tensor) -> None:
        dims = torch.tensor(self.cfg.masked) if self.cfg.masked else _varying(z)[: self._count(z)]
        rows = [
            ("all", "as they are", decoder(z, 16)),
            ("without", f"{len(dims)} at zero", decoder(_latents.masked(z, dims), 16)),
            ("only", "all others at zero", decoder(_latents.masked(z, dims, keep=True), 16)),
            ("zero", "all at zero", decoder(torch.zeros_like(z), 16)),
        ]
        self._write(f"masks_{self.part}", rows, f"dimensions of {self.part} at zero")

    def _count(self, z: Tensor) -> int:
        return min(self.cfg.dimensions or max(1, z.shape[-1] // 8), z.shape[-1])

    def _write(self, name: str, rows: list[tuple[str, str, Tensor]], title: str) -> None:
        """A figure, and of sounds a file for each row: its suffix, what the figure calls it, and its items."""
        columns = [""] * min(COLUMNS, len(rows[0][2]))
        paths = [
            _sound.picture(
                self.out / f"{name}.png", [items[:COLUMNS] for *_, items in rows], [row for _, row, _ in rows], columns,
                title,
            )
        ]  # fmt: skip
        for suffix, _, items in rows:
            if items.ndim == 3:
                file = self.out / f"{'_'.join(filter(None, (name, suffix)))}.wav"
                paths.append(_sound.wav(file, items, self.rate))
        self.made |= {path.name: path for path in paths}


def _varying(z: Tensor) -> Tensor:
    """Dimensions of z (n, L, C), those first whose means over L vary most from item to item."""
    return z.mean(1).var(0, correction=0).argsort(descending=True, stable=True)
