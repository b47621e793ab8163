"""V3: content and style of the fragments of pages, without labels, by variance versus invariance.

    (z_c, z_s) = E(x)    (z_q, code) = VQ(z_c)    x^ = D(z_q, z_s)          of every fragment x of a page
    loss = w_recon |x^ - x|^2 + beta (w_content h + w_style h + w_sample h + w_fragment h) + w_commit |sg z_q - z_c|^2

The four hinges h ask that content varies inside pages and not across them, and style the other way, each by a factor of
`relativity`; see `losses/v3.py`. Statistics are those of all pages of the global batch. The codebook follows by running
averages (`nets/quantiser.py`), the networks are those of `nets/v3_autoencoders.py`.

Of its public follow-up (Liu, 2026) are options: the decoder gets the page's mean style, always or at the start
(`style_route`), a quantiser of fewer dimensions (`codebook_width`), a decoder without batch norm, a penalty on pages
whose quantised contents span too few directions (`rank_weight`).

Evaluations read "content" (z_c before the quantiser), "style" and "all" (side by side), of a page their means over its
fragments (`frames`: of every fragment). `codes` says the code of every fragment.

Source: Wu, Wang, Raj, Xia, "Unsupervised Disentanglement of Content and Style via Variance-Invariance Constraints",
ICLR 2025, arXiv 2407.03824.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from datasets import config
from datasets.base import Batch, Spec
from datasets.config import ConfigError, under_default
from trainables.core import dist
from trainables.core.draws import Draws
from trainables.core.method import Diverged, Method, Progress
from trainables.losses.v3 import EPS, Adapted, Pages, Statistics, guard, squared_error, v3_terms, weighed
from trainables.nets.quantiser import Quantised, Quantiser, perplexity
from trainables.nets.v3_autoencoders import Autoencoder, AutoencoderConfig, layout_of

HINGES = ("content", "style", "sample", "fragment")


class Weights(config.Config):
    """Of each term of the loss; 0 = off."""

    recon: float = Field(1.0, ge=0, le=1e6, description="of the mean squared error (V3: 1)")
    content: float = Field(1.0, ge=0, le=1e6, description="content varies in pages more than across (V3: 1)")
    style: float = Field(1.0, ge=0, le=1e6, description="style varies across pages more than in them (V3: 1)")
    sample: float = Field(1.0, ge=0, le=1e6, description="across pages style varies more than content (V3: 1)")
    fragment: float = Field(1.0, ge=0, le=1e6, description="in pages content varies more than style (V3: 1)")
    commit: float = Field(0.1, ge=0, le=1e6, description="of the quantiser's commitment (V3's code: 0.1; paper: 0.01)")


class Config(config.Config):
    """Options of V3; defaults are those of its code for PhoneNums."""

    relativity: float = Field(
        15.0, gt=0, le=1000, description="r, by what factor; up to 1 asks for the order alone (V3: 15; SVHN, speech: 5)"
    )
    beta: float = Field(1.0, ge=0, le=1e6, description="of the four hinges together (V3's code: 1; paper: 0.1)")
    weights: Weights = Field(default_factory=Weights, description="of single terms; those left out keep their default")
    atoms: int = Field(10, ge=1, le=65_536, description="K, of the codebook (V3: the number of contents, or twice it)")
    decay: float = Field(0.98, ge=0, lt=1, description="a, of the codebook's averages (V3's code: 0.98; paper: 0.95)")
    dead: float = Field(
        0.5, ge=0, le=1, description="of the uniform usage, below which a code is replaced; 0 = never (paper: 0.1)"
    )
    exact: bool = Field(
        True, description="vectors of one code are equal to the last bit; off = the published sum, which is 1e-7 off"
    )
    supersample_content: bool = Field(False, description="regroup contents into squarer pages (V3: SVHN, speech)")
    widen_style: int = Field(0, ge=0, le=99, description="fragments that styles are averaged over; 0 = 1 (speech: 3)")
    compat: Literal["clean", "original"] = Field(
        "clean", description="original = the published arithmetic of the two above, without the commitment"
    )
    style_route: Literal["fragment", "page_mean"] = Field(
        "fragment", description="what style the decoder gets (V3: fragment)"
    )
    style_route_epochs: int | None = Field(
        None, ge=1, description="epochs of style_route: page_mean, then fragment; None = always"
    )
    codebook_width: int | None = Field(
        None, ge=1, le=65_536, description="dimensions of the codebook, linear maps around it; None = d_c, no maps"
    )
    rank_weight: float = Field(
        0.0, ge=0, le=1e6, description="of the penalty on contents of low rank (follow-up: 0.01)"
    )
    rank_target: float = Field(3.0, gt=0, le=1000, description="directions from which on it is 0 (follow-up: 2 to 4)")
    collapse_usage: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="share of K below which an epoch's mean perplexity of codes is a collapse; 0 = none",
    )
    collapse_epochs: int = Field(50, ge=1, description="such epochs in a row after which training is given up")
    guard: bool = Field(True, description="stop at the first term that is not finite, and name all of them")
    encoder: AutoencoderConfig = Field(
        default_factory=AutoencoderConfig, description="see trainables/nets/v3_autoencoders.py"
    )

    @field_validator("encoder", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """An option of the encoder without its name is one of the method's own default."""
        return under_default(cls, "encoder", value)


Options = Config  # inside the class `Config` is its attribute


class V3(Method):
    """Parts: "content" (B, d_c), "style" (B, d_s), "all" both."""

    Config: ClassVar[type[Options]] = Options
    cfg: Options
    VERSION: ClassVar[int] = 2
    coefficients: ClassVar[tuple[str, ...]] = (
        "relativity", "beta", "weights", "atoms", "supersample_content", "widen_style", "compat", "rank_weight",
        "rank_target",
    )  # fmt: skip
    places: dict[str, tuple[int, ...]]
    starved: Tensor
    paged: bool | Tensor

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec)
        content, style = cfg.encoder.content, cfg.encoder.style
        width = cfg.codebook_width or content
        self.net = Autoencoder(cfg.encoder, spec.shape[1:])
        self.into: nn.Module = nn.Identity()
        self.back: nn.Module = nn.Identity()
        if cfg.codebook_width is not None:
            self.into, self.back = nn.Linear(content, width), nn.Linear(width, content)
        self.quantiser = Quantiser(cfg.atoms, width, cfg.decay, cfg.dead, cfg.exact)
        self.register_buffer("starved", torch.zeros((), dtype=torch.int64))  # epochs in a row with few codes in use
        self.usage: list[Tensor] = []  # perplexity of each step of this epoch
        self.parts = {"content": content, "style": style, "all": content + style}
        self.places = dict.fromkeys(self.parts, (spec.shape[0],))
        self.adapted = adapted_of(cfg)
        if cfg.style_route_epochs is None:
            self.paged = cfg.style_route == "page_mean"
        else:  # in the checkpoint, so that one of the beginning is decoded as it was trained
            self.register_buffer("paged", torch.ones((), dtype=torch.bool))

    @classmethod
    def check(cls, cfg: Any, spec: Spec) -> None:
        """Refuse what are no pages, several views, networks that do not fit, and options that contradict each other.

        Raises:
            ConfigError: one line.
        """
        if not spec.fragments:
            raise ConfigError(f"V3: takes pages of fragments, such as data: pages; the data have items of {spec.shape}")
        if spec.views != 1:
            raise ConfigError(f"V3: takes 1 view, the views section gives {spec.views}; set views.count: 1")
        if spec.fragments < 2:
            raise ConfigError("V3: needs pages of at least 2 fragments")
        layout_of(cfg.encoder, spec.shape[1:])
        adapted = adapted_of(cfg)
        if adapted and adapted.widen and spec.fragments < 3:
            raise ConfigError(f"method.widen_style: needs pages of 3 fragments or more, they have {spec.fragments}")
        if cfg.codebook_width is not None and cfg.codebook_width >= cfg.encoder.content:
            raise ConfigError(
                f"method.codebook_width: must be smaller than encoder.content, {cfg.encoder.content} "
                f"(got {cfg.codebook_width})"
            )
        if cfg.style_route_epochs is not None and cfg.style_route == "fragment":
            raise ConfigError("method.style_route_epochs: are those of style_route: page_mean; leave them out")
        if cfg.rank_weight and cfg.rank_target > min(spec.fragments, cfg.atoms) - 1:
            most = min(spec.fragments, cfg.atoms) - 1
            raise ConfigError(f"method.rank_target: pages reach {most} directions at most (got {cfg.rank_target:g})")

    @classmethod
    def doubts(cls, cfg: Any, spec: Spec, batch_size: int, epochs: int) -> list[str]:
        """More codes than a batch has fragments, and a beginning of page means that never ends."""
        found, fragments = [], batch_size * spec.fragments
        if cfg.atoms > fragments:
            found.append(
                f"method.atoms: {cfg.atoms} codes and {fragments} fragments in a batch, so that the codebook begins "
                "with vectors that are equal"
            )
        if (cfg.style_route_epochs or 0) >= epochs:
            found.append(
                f"method.style_route_epochs: all of the {epochs} epochs, so that the decoder never gets the style of "
                "a fragment"
            )
        return found

    def before_step(self, progress: Progress) -> None:
        """Which style the decoder gets."""
        if isinstance(self.paged, Tensor) and self.cfg.style_route_epochs is not None:
            self.paged.fill_(progress.epoch < self.cfg.style_route_epochs)

    def after_step(self, progress: Progress) -> None:
        """At the end of an epoch, whether the codebook has been starved for too long.

        Raises:
            Diverged: it has.
        """
        if progress.step + 1 < progress.steps_per_epoch or not self.cfg.collapse_usage:
            return
        used = float(torch.stack(self.usage).mean())
        self.usage.clear()
        self.starved.copy_(self.starved + 1 if used < self.cfg.collapse_usage * self.cfg.atoms else 0 * self.starved)
        if int(self.starved) >= self.cfg.collapse_epochs:
            raise Diverged(
                f"the codebook collapsed: a perplexity of {used:.2f} of {self.cfg.atoms} codes, below "
                f"{self.cfg.collapse_usage:g} of them for {self.cfg.collapse_epochs} epochs"
            )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the global batch, its terms, the statistics they are made of and the usage of codes."""
        x = batch.views[0]
        draws = Draws(batch.seed, len(x), x.device) if self.training else None
        z_c, z_s = self.net.encode(x)
        found, z_q = self.quantise(z_c, draws)
        x_hat = self.net.decode(z_q, self.routed(z_s))
        codes = found.codes if self.cfg.exact else None
        pages = Pages(squared_error(x_hat, x), found.commit, z_c, z_q, z_s, codes)
        terms, statistics = v3_terms(pages, self.cfg.relativity, self.adapted)
        weights = {name: weight * (self.cfg.beta if name in HINGES else 1) for name, weight in self.cfg.weights}
        loss = weighed(terms, weights, self.adapted)
        if self.cfg.rank_weight:
            terms["rank"] = dist.gather(rank_penalty(z_q, self.cfg.rank_target)).mean()
            loss = loss + self.cfg.rank_weight * terms["rank"]
        if self.cfg.guard:
            guard(terms)
        used, active = perplexity(dist.gather(found.codes.to(loss.dtype)).long(), self.cfg.atoms)
        if self.training:
            self.usage.append(used)
        watched = {"code_perplexity": used, "active_codes": active, **_described(statistics)}
        return dist.agree({"loss": loss, **terms, **watched})

    def routed(self, z_s: Tensor) -> Tensor:
        """The styles (b, n, d_s) that the decoder gets."""
        if self.paged is False:
            return z_s
        mean = z_s.mean(1, keepdim=True).expand_as(z_s)
        return torch.where(self.paged, mean, z_s) if isinstance(self.paged, Tensor) else mean

    def quantise(self, z_c: Tensor, draws: Draws | None = None) -> tuple[Quantised, Tensor]:
        """Contents (b, n, d_c): what the quantiser finds, and the quantised contents (b, n, d_c)."""
        found: Quantised = self.quantiser(self.into(z_c), draws)
        return found, self.back(found.z_q)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, n, *fragment) -> part -> (B, d), means over fragments."""
        return {part: value.mean(1) for part, value in self.frames(x).items()}

    def frames(self, x: Tensor, rng: torch.Generator | None = None) -> dict[str, Tensor]:
        """x (B, n, *fragment) -> part -> (B, n, d); nothing is drawn."""
        z_c, z_s = (z.float() if z.dtype in (torch.bfloat16, torch.float16) else z for z in self.net.encode(x))
        return {"content": z_c, "style": z_s, "all": torch.cat([z_c, z_s], 2)}

    def codes(self, x: Tensor) -> Tensor:
        """x (B, n, *fragment) -> (B, n) int64, the code of each fragment."""
        return self.codes_of(self.net.encode(x)[0])

    def codes_of(self, content: Tensor) -> Tensor:
        """Contents (..., d_c) before the quantiser -> (...) int64, the code of each."""
        return self.quantiser.nearest(self.into(content).to(self.quantiser.embed.dtype))

    def codebook(self) -> Tensor:
        """(K, d_c) the atoms as contents."""
        atoms: Tensor = self.back(self.quantiser.embed)
        return atoms

    def spoken(self, codes: Tensor, style: Tensor) -> Tensor:
        """Codes (B, n) and styles (B, n, d_s) -> (B, n, *fragment), what the decoder makes of them."""
        x: Tensor = self.net.decode(self.codebook()[codes], self.routed(style))
        return x

    def decode(self, parts: dict[str, Tensor]) -> Tensor:
        """`frames`' "content" and "style" (B, n, d), of which the content is quantised -> (B, n, *fragment)."""
        x: Tensor = self.net.decode(self.quantise(parts["content"])[1], self.routed(parts["style"]))
        return x

    def signs_of_life(self, x: Tensor) -> Tensor:
        """Of every fragment: page means of contents are alike where all is well."""
        return self.frames(x)["all"].flatten(0, 1)


def adapted_of(cfg: Options) -> Adapted | None:
    """The form of the loss.

    Raises:
        ConfigError: an even width.
    """
    if not cfg.supersample_content and not cfg.widen_style:
        return None
    return Adapted(cfg.supersample_content, cfg.widen_style, cfg.compat == "original")


def rank_penalty(z: Tensor, target: float) -> Tensor:
    """max(0, 1 - R / target) of each page z (b, n, d) -> (b,), R = tr(G)^2 / |G|^2 its effective rank, G its Gram."""
    centred = z - z.mean(1, keepdim=True)
    gram = centred @ centred.transpose(1, 2) / (z.shape[1] - 1)
    trace = gram.diagonal(dim1=1, dim2=2).sum(1)
    return F.relu(1 - trace.square() / (gram.square().sum((1, 2)) + 1e-12) / target)


def _described(found: Statistics) -> dict[str, Tensor]:
    """The four statistics, and the four ratios of the hinges."""
    s = found.detached()
    return {
        **s,
        "ratio_content": s["content_fragment"] / (s["content_page"] + EPS),
        "ratio_style": s["style_page"] / (s["style_fragment"] + EPS),
        "ratio_sample": found.compared.detach() / (s["content_page"] + EPS),
        "ratio_fragment": s["content_fragment"] / (s["style_fragment"] + EPS),
    }


METHOD = V3
