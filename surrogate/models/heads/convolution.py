"""Heads around convolutions and transposed convolutions of 1 to 3 dimensions."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any

import torch
from torch import nn

from surrogate.errors import DataError
from surrogate.models.heads.geometry import Layout, Position, conv_layout, transposed_layout
from surrogate.models.heads.gram import Taps
from surrogate.models.heads.head import Head
from surrogate.slimtik import Blocks

__all__ = ["ConvHead", "TransposedConvHead"]


class ConvHead(Head):
    """`nn.Conv1d`, `nn.Conv2d` or `nn.Conv3d`: A holds every patch of the features as a row."""

    def _layout(self, sizes: Position) -> Layout:
        layer: Any = self.layer
        layout = conv_layout(
            sizes, layer.kernel_size, stride=layer.stride, padding=self._padding(), dilation=layer.dilation
        )
        _refuse_empty(layout, layer)
        return layout

    def _padding(self) -> tuple[Position, Position]:
        """Return the zeros before and after each axis."""
        layer: Any = self.layer
        if layer.padding == "same":
            totals = [d * (taps - 1) for taps, d in zip(layer.kernel_size, layer.dilation, strict=True)]
            return tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
        zeros = (0,) * len(layer.kernel_size) if layer.padding == "valid" else layer.padding
        return zeros, zeros


class TransposedConvHead(Head):
    """`nn.ConvTranspose1d`, `nn.ConvTranspose2d` or `nn.ConvTranspose3d`, by phases of its stride."""

    _out_axis = 1
    _in_axis = 0

    def _layout(self, sizes: Position) -> Layout:
        layer: Any = self.layer
        layout = transposed_layout(
            sizes,
            layer.kernel_size,
            stride=layer.stride,
            padding=layer.padding,
            output_padding=layer.output_padding,
            dilation=layer.dilation,
        )
        _refuse_empty(layout, layer)
        return layout

    @property
    def blocks(self) -> Blocks | None:
        return _blocks(self._taps(), self.channels, border=self.bias is not None, device=self.weight.device)

    def _taps_of_blocks(self) -> Taps | None:
        taps = self._taps()
        return taps if len(taps) > 1 and len(set(map(len, taps))) == 1 else None

    def _taps(self) -> Taps:
        layer: Any = self.layer
        return _taps_by_residue(tuple(layer.kernel_size), layer.stride, layer.dilation)


@lru_cache(maxsize=128)
def _taps_by_residue(kernel: Position, stride: Position, dilation: Position) -> Taps:
    """Group the taps that reach outputs of the same residues modulo the stride."""
    residues: dict[Position, list[int]] = {}
    for number, tap in enumerate(product(*map(range, kernel))):
        residue = tuple(d * t % s for d, t, s in zip(dilation, tap, stride, strict=True))
        residues.setdefault(residue, []).append(number)
    return tuple(map(tuple, residues.values()))


@lru_cache(maxsize=128)
def _blocks(taps: Taps, channels: int, *, border: bool, device: torch.device) -> Blocks | None:
    """Return the blocks of the columns of these taps; None where one block has all."""
    if len(taps) == 1:
        return None
    kernel = sum(map(len, taps))
    columns = [[c * kernel + number for c in range(channels) for number in block] for block in taps]
    return Blocks.of(columns, border=border, device=device)


def _refuse_empty(layout: Layout, layer: nn.Module) -> None:
    if min(layout.outputs) < 1:
        raise DataError(
            f"features of size {layout.sizes} are too small for {layer}: its output would be {layout.outputs}"
        )
