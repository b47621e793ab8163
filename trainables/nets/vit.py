"""Vision transformers, of images and of spectrograms: patches, a table of positions, blocks, a last norm.

A block adds attention and then a network of two layers, each behind a norm of its own, and each scaled per channel
where there is LayerScale. Names of weights are those of the `timm` library, which most published files have; others are
translated in `trainables/extractors/vit.py`.

Sources: Dosovitskiy et al., ICLR 2021, arXiv 2010.11929 (ViT); Touvron et al., ICCV 2021, arXiv 2103.17239
(LayerScale); Oquab et al., TMLR 2024, arXiv 2304.07193 (DINOv2); Radford et al., ICML 2021, arXiv 2103.00020 (CLIP).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), CLIP's approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        """Of every element."""
        return x * torch.sigmoid(1.702 * x)


class Attention(nn.Module):
    """Self-attention of tokens (B, N, D), all with all."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, D / heads)
        found: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return found


class Mlp(nn.Module):
    """Two layers with GELU between them."""

    def __init__(self, width: int, hidden: int, quick: bool) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = QuickGELU() if quick else nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        found: Tensor = self.fc2(self.act(self.fc1(x)))
        return found


class LayerScale(nn.Module):
    """A factor for every channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return x * self.gamma


class Block(nn.Module):
    """Attention and a network of two layers, each behind a norm and beside a shortcut."""

    def __init__(
        self, width: int, heads: int, hidden: int, eps: float, quick: bool = False, scaled: bool = False
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps)
        self.attn = Attention(width, heads)
        self.ls1 = LayerScale(width) if scaled else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps)
        self.mlp = Mlp(width, hidden, quick)
        self.ls2 = LayerScale(width) if scaled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        found: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return found


class Patches(nn.Module):
    """Cuts (B, C, H, W) into patches and embeds each: (B, h, w, D)."""

    def __init__(self, channels: int, width: int, patch: tuple[int, int], bias: bool) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, patch, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """What does not fill a patch is left out."""
        found: Tensor = self.proj(x)
        return found.permute(0, 2, 3, 1)


class VisionTransformer(nn.Module):
    """(B, C, H, W) -> tokens (B, [1 +] h w, D) behind the last norm, the class token first where there is one."""

    def __init__(
        self,
        grid: tuple[int, int],
        patch: tuple[int, int],
        width: int,
        depth: int,
        heads: int,
        hidden: int,
        channels: int = 3,
        class_token: bool = True,
        eps: float = 1e-6,
        scaled: bool = False,
        quick: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        offset: float = 0.0,
    ) -> None:
        """Build.

        Args:
            grid: rows and columns of patches that the table of positions has.
            scaled: LayerScale. quick: QuickGELU. norm_first: a norm before the first block (CLIP). bias: of patches.
            offset: added to the wanted rows and columns where the table is resized (DINOv2's code: 0.1).
        """
        super().__init__()
        self.grid, self.patch, self.offset = grid, patch, offset
        self.patch_embed = Patches(channels, width, patch, bias)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if class_token else None
        self.pos_embed = nn.Parameter(torch.zeros(1, int(class_token) + grid[0] * grid[1], width))
        self.norm_pre = nn.LayerNorm(width, eps) if norm_first else nn.Identity()
        self.blocks = nn.Sequential(*[Block(width, heads, hidden, eps, quick, scaled) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps)
        for table in (self.cls_token, self.pos_embed):
            if table is not None:
                nn.init.trunc_normal_(table, std=0.02)

    def forward(self, x: Tensor, cut: bool = False) -> Tensor:
        """Tokens of images or spectrograms of any size; `cut`: a smaller grid has the first rows and columns."""
        tokens = self.patch_embed(x)
        rows, columns = tokens.shape[1:3]
        places = self.cut(rows, columns) if cut else self.resized(rows, columns)
        tokens = (tokens + places).flatten(1, 2)
        if self.cls_token is not None:
            first = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
            tokens = torch.cat([first, tokens], 1)
        found: Tensor = self.norm(self.blocks(self.norm_pre(tokens)))
        return found

    @property
    def table(self) -> Tensor:
        """Positions of patches, (1, rows, columns, D)."""
        patches = self.pos_embed if self.cls_token is None else self.pos_embed[:, 1:]
        return patches.unflatten(1, self.grid)

    def cut(self, rows: int, columns: int) -> Tensor:
        """The first `rows` and `columns` of the table."""
        return self.table[:, :rows, :columns]

    def resized(self, rows: int, columns: int) -> Tensor:
        """The table for another grid, bicubic."""
        if (rows, columns) == self.grid:
            return self.table
        factor = ((rows + self.offset) / self.grid[0], (columns + self.offset) / self.grid[1])
        table = F.interpolate(self.table.permute(0, 3, 1, 2), scale_factor=factor, mode="bicubic")
        return table.permute(0, 2, 3, 1)
