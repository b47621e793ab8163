"""What methods on networks of modules share: the modules, their parts and frames; and the loss that predicts ahead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, cast

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from datasets.base import Batch, Spec
from datasets.config import Config, ConfigError, under_default
from trainables.core import dist
from trainables.core.draws import Draws, generator, key
from trainables.core.method import Method
from trainables.losses.info_nce import InfoNCE, Sampling, draw_cells, draw_negatives, grid_info_nce, info_nce
from trainables.nets.latent import Latent, Unit
from trainables.nets.modular import ModularConfig, Network, build_units

SKIP = 1  # rows of a grid between a context and its first target: patches of neighbouring rows overlap
SAMPLINGS: tuple[Sampling, ...] = ("exclusive", "any", "sequence")


class ModularMethodConfig(Config):
    """Options of every method on a network of modules."""

    encoder: ModularConfig = Field(default_factory=ModularConfig, description="see trainables/nets/modular.py")

    @field_validator("encoder", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """An option of the encoder without its name is one of the method's own default."""
        return under_default(cls, "encoder", value)


class ModularMethod(Method):
    """Base of methods on a network of modules. A subclass defines `forward`.

    Parts, all of them means over frames (sound) or cells of the grid (images): "module0", "module1", ... latents;
    "context" of the last context network, "context0", ... of those before; "layer2", ... outputs of single layers;
    "all" is the context, or without one the last latent. A module that is a context network alone has no latent of its
    own.

    Attributes:
        net: the modules. places: part -> (L,) or (rows, columns) that `frames` has, for items of the data's shape.
        trained: numbers of the modules that are trained; all others are frozen, in evaluation mode.
    """

    cfg: ModularMethodConfig
    places: dict[str, tuple[int, ...]]
    PROBABILISTIC: ClassVar[bool] = False

    def __init__(self, cfg: ModularMethodConfig, spec: Spec) -> None:
        super().__init__(cfg, spec)
        network = build_units(cfg.encoder, spec.shape, self.PROBABILISTIC)
        self.net = nn.ModuleList(network.units)
        self._name_parts(network)
        chosen = getattr(cfg, "train_module", None)
        self.trained = tuple(range(len(self.net))) if chosen is None else (chosen,)
        self.freeze()

    def _name_parts(self, network: Network) -> None:
        self.parts, self.places = {}, {}
        contexts = [number for number, unit in enumerate(network.units) if unit.predicts is not None]
        self.context_names = {number: f"context{number}" for number in contexts[:-1]}
        self.context_names |= dict.fromkeys(contexts[-1:], "context")
        for number, (unit, places) in enumerate(zip(network.units, network.places, strict=True)):
            named = {f"layer{layer}": (d, network.layers[layer]) for layer, d in unit.layer_widths.items()}
            if unit.has_latent:
                named[f"module{number}"] = unit.width, places
            if number in self.context_names:
                named[self.context_names[number]] = unit.context_width, places
            for part, (d, where) in named.items():
                self.parts[part], self.places[part] = d, where
        self.top = "context" if contexts else f"module{len(network.units) - 1}"
        self.parts["all"], self.places["all"] = self.parts[self.top], self.places[self.top]

    @property
    def units(self) -> list[Unit]:
        """The modules in their order."""
        return cast(list[Unit], list(self.net))

    @classmethod
    def check(cls, cfg: Any, spec: Spec) -> None:
        """Refuse data that the network does not take, and views that nothing would be done with.

        Raises:
            ConfigError: one line.
        """
        if spec.views != 1:
            raise ConfigError(f"{cls.__name__}: takes 1 view, the views section gives {spec.views}; set views.count: 1")
        with torch.device("meta"):
            network = build_units(cfg.encoder, spec.shape, cls.PROBABILISTIC)
        chosen = getattr(cfg, "train_module", None)
        if chosen is not None and chosen >= len(network.units):
            raise ConfigError(f"method.train_module: the last module is {len(network.units) - 1} (got {chosen})")
        cls.check_network(cfg, network)

    @classmethod
    def check_network(cls, cfg: Any, network: Network) -> None:
        """Refuse a network that does not suit the method's own options.

        Raises:
            ConfigError: one line.
        """

    def freeze(self) -> None:
        """Take the gradients from the modules that are not trained, and from what hangs on them."""
        for number, module in enumerate(self.net):
            module.requires_grad_(number in self.trained)

    def train(self, mode: bool = True) -> ModularMethod:
        """Training or evaluation mode; frozen modules stay in the latter, so that their batch statistics do too."""
        super().train(mode)
        for number, module in enumerate(self.net):
            module.train(mode and number in self.trained)
        return self

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the modules, and not the losses, which would be compiled again for every step's draws."""
        for unit in self.net:
            unit.compile(*args, **kwargs)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, *shape) -> part -> (B, d), means over frames or cells."""
        parts = {part: _full(frames).mean(1) for part, frames in self._walk(x, None)}
        return {**parts, "all": parts[self.top]}

    def frames(self, x: Tensor, rng: torch.Generator | None = None) -> dict[str, Tensor]:
        """x (B, *shape), sound of any length, -> part -> (B, L, d); see `core.method.Frames`.

        Args:
            rng: on x's device or the CPU, draws from the latents' distributions, where they are any; None: as `encode`.
        """
        found = dict(self._walk(x, rng))
        return {**found, "all": found[self.top]}

    def signs_of_life(self, x: Tensor) -> Tensor:
        """Frames of every item, at most 16 of each.

        Means over time hardly differ before training: those of a GRU over spoken words have the effective rank 1.007
        at the start, their frames 1.2.
        """
        frames = next(frames for part, frames in self._walk(x, None) if part == self.top)
        return frames[:, :: -(-frames.shape[1] // 16)].flatten(0, 1)

    def _walk(self, x: Tensor, rng: torch.Generator | None) -> Iterator[tuple[str, Tensor]]:
        """Part by part (B, L, d), without "all"."""
        item = x
        for number, unit in enumerate(self.units):
            latent: Latent = unit(x)
            z = latent.sample(self.noise(latent, item, number, rng))
            yield from ((f"layer{layer}", out.transpose(1, 2)) for layer, out in latent.layers.items())
            if unit.has_latent:
                yield f"module{number}", z
            if number in self.context_names:
                yield self.context_names[number], unit.context(z)
            x = unit.onward(latent, z)

    def noise(self, latent: Latent, x: Tensor, number: int, rng: torch.Generator | None) -> Tensor | None:
        """What a latent is sampled with outside of training; None = its mean.

        Args:
            x: the items, as the first module sees them.
        """
        if latent.logvar is None or rng is None:
            return None
        mean = latent.mean
        return torch.randn(mean.shape, generator=rng, device=rng.device, dtype=mean.dtype).to(mean.device)

    def report(self, losses: Mapping[str, Tensor], watched: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What `forward` returns, from values per item (b,): the sum of the losses, each of them, what is watched."""
        rows = torch.stack([*losses.values(), *watched.values()], dim=1)
        means = dist.mean(rows)
        found = dict(zip([*losses, *watched], means.unbind(), strict=True))
        return dist.agree({"loss": means[: len(losses)].sum(), **found})


class PredictiveConfig(ModularMethodConfig):
    """Options of every method that predicts latents ahead."""

    prediction_steps: int = Field(
        10, ge=1, le=1000, description="k, steps ahead: frames, or rows of patches (SIM: 10; GIM: 12; images: 5)"
    )
    negatives: int = Field(10, ge=1, le=4096, description="N, of each prediction (CPC, GIM, SIM: 10; images: 16)")
    sampling: Sampling = Field(
        "any",
        description="negatives of sound: any frame of the batch, never the positive (exclusive), or of the same item "
        "(sequence); also as GIM numbers them: 1, 0, 2",
    )
    window: int | None = Field(
        128, ge=2, le=1_000_000, description="frames of an item that predict and are predicted; None = all (SIM: 128)"
    )

    @field_validator("sampling", mode="before")
    @classmethod
    def _numbered(cls, value: Any) -> Any:
        return SAMPLINGS[value] if isinstance(value, int) and 0 <= value < len(SAMPLINGS) else value


class PredictiveMethod(ModularMethod):
    """Base of methods that predict the latents ahead from a context.

    Attributes:
        predictors: of each module, k linear maps side by side, without bias: of the context (sound), or of the targets
            (images).
    """

    cfg: PredictiveConfig

    def __init__(self, cfg: PredictiveConfig, spec: Spec) -> None:
        super().__init__(cfg, spec)
        k = cfg.prediction_steps
        self.predictors = nn.ModuleList(nn.Linear(u.context_width, k * u.width, bias=False) for u in self.units)
        self.freeze()

    @classmethod
    def check_network(cls, cfg: Any, network: Network) -> None:
        """Refuse to predict further than there are frames or rows.

        Raises:
            ConfigError: one line.
        """
        k = cfg.prediction_steps
        for number, places in enumerate(network.places):
            if len(places) == 2 and places[0] <= k + SKIP:
                raise ConfigError(
                    f"method.prediction_steps: {k} need more than {k + SKIP} rows of patches, there are {places[0]}"
                )
            frames = min(places[0], cfg.window or places[0])
            if len(places) == 1 and frames <= k:
                raise ConfigError(
                    f"method.prediction_steps: {k} need more than {k} frames, module {number} has {frames}"
                )

    def freeze(self) -> None:
        """Predictors too."""
        super().freeze()
        for number, predictor in enumerate(getattr(self, "predictors", ())):
            predictor.requires_grad_(number in self.trained)

    def draws(self, batch: Batch) -> Draws:
        """The random numbers of this step, of the global batch."""
        return Draws(batch.seed, len(batch), batch.views[0].device)

    def contrast(self, number: int, c: Tensor, z: Tensor, draws: Draws) -> InfoNCE:
        """InfoNCE of a module, per item: contexts c (b, L, R) against latents z (b, L, C) ahead."""
        cfg, predictor, name = self.cfg, self.predictors[number], f"module {number}"
        if (grid := self.units[number].grid) is not None:
            drawn = draw_cells(draws, name, cfg.negatives, *grid, cfg.prediction_steps, SKIP)
            return grid_info_nce(c.unflatten(1, grid), predictor(z).unflatten(1, grid), drawn, SKIP)
        negatives = draw_negatives(
            draws, name, cfg.sampling, cfg.negatives, z.shape[1], cfg.prediction_steps, cfg.window
        )
        end = None if cfg.window is None else negatives.start + cfg.window
        return info_nce(predictor(c[:, negatives.start : end]), z, negatives)


def noise_of_items(x: Tensor, latent: Latent, number: int) -> Tensor:
    """Noise for the latents of a module that is a function of each item's content, the same in any batch.

    Args:
        x: (B, *shape), the items.
    """
    rows = []
    for item in x.detach().cpu():
        rng = generator(key(item.numpy().tobytes().hex(), number))
        rows.append(torch.randn(latent.mean.shape[1:], generator=rng, dtype=latent.mean.dtype))
    return torch.stack(rows).to(latent.mean.device)


def _full(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
