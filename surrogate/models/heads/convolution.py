"""Heads around convolutions and transposed convolutions of 1 to 3 dimensions."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import torch
from torch import nn

from surrogate.checks import DataError
from surrogate.models.heads.head import Head
from surrogate.models.heads.taps import Layout, Position, conv_layout, transposed_layout
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
        """Zeros in front of each axis, and behind it."""
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
        layer: Any = self.layer
        return _phase_blocks(
            self.channels,
            tuple(layer.kernel_size),
            stride=layer.stride,
            dilation=layer.dilation,
            border=self.bias is not None,
            device=self.weight.device,
        )


@lru_cache(maxsize=128)
def _phase_blocks(
    channels: int, kernel: Position, *, stride: Position, dilation: Position, border: bool, device: torch.device
) -> Blocks | None:
    """Columns of taps that reach outputs of the same residues modulo the stride; None where all taps do."""
    residues: dict[Position, list[int]] = {}
    for number, tap in enumerate(product(*map(range, kernel))):
        residue = tuple(d * t % s for d, t, s in zip(dilation, tap, stride, strict=True))
        residues.setdefault(residue, []).append(number)
    if len(residues) == 1:
        return None
    columns = [[c * prod(kernel) + number for c in range(channels) for number in taps] for taps in residues.values()]
    return Blocks.of(columns, border=border, device=device)


def _refuse_empty(layout: Layout, layer: nn.Module) -> None:
    if min(layout.outputs) < 1:
        raise DataError(
            f"features of size {layout.sizes} are too small for {layer}: its output would be {layout.outputs}"
        )
