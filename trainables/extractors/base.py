"""What extractors share: encoders that are not trained here, with published weights, or untrained as a baseline.

An extractor is a method without a loss: options, parts, `encode`. Its name, such as `ResNet50_ImageNet`, is an entry of
`trainables/extractors/names.py`, which says its options and what its input is; `sweep eval` makes a checkpoint of it.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from datasets.base import Spec
from datasets.config import ConfigError
from trainables.core.method import Method


class Extractor(Method):
    """A method that is evaluated and not trained."""

    @classmethod
    def check(cls, cfg: Any, spec: Spec) -> None:
        """Refuse to be trained.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"method {cls.__module__.rpartition('.')[2]}: is not trained; evaluate it with `sweep eval`")


class SoundExtractor(Extractor):
    """One that hears sound at a rate of its own, to which items of another rate are resampled."""

    length: int  # samples of an item at the network's rate

    def __init__(self, cfg: Any, spec: Spec, rate: int) -> None:
        """`rate`: of the network, in Hz.

        Raises:
            ConfigError: the data are no sound of one channel.
        """
        super().__init__(cfg, spec)
        if len(spec.shape) != 2 or spec.shape[0] != 1 or spec.rate is None:
            raise ConfigError(
                f"method.name: this encoder takes sound of one channel (1, T), the data have items of {spec.shape}"
            )
        self.have, self.rate = spec.rate, rate
        self.length = -(-spec.shape[1] * rate // spec.rate)

    def at_least(self, samples: int) -> None:
        """Refuse items that are too short.

        Raises:
            ConfigError: they have fewer samples at the network's rate.
        """
        if self.length < samples:
            raise ConfigError(
                f"method.name: this encoder needs {samples} samples at {self.rate} Hz, "
                f"the data's items have {self.length}"
            )

    def heard(self, x: Tensor) -> Tensor:
        """Items (B, 1, T) as the network takes them, (B, T')."""
        if self.have == self.rate:
            return x[:, 0]
        from torchaudio.functional import resample  # takes seconds to import

        with torch.no_grad():
            return resample(x[:, 0], self.have, self.rate)


def needs(package: str, name: str) -> ModuleType:
    """A package that some extractors need and the project does not.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(PACKAGES[package])
    except ImportError as error:
        raise ConfigError(
            f"{name}: needs the package {package} ({error}); `pip install {package}` beside the project"
        ) from None


PACKAGES = {"transformers": "transformers", "music2latent": "music2latent"}
