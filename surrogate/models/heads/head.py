"""Base of all heads: a layer that is linear in its weights, as a design and a matrix."""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from surrogate.errors import DataError
from surrogate.models.heads.geometry import Layout, Phase, Position, as_lines
from surrogate.models.heads.gram import Taps, cheaper_plan, correlated
from surrogate.slimtik import Blocks, NormalEquations, Posterior, predictive_std

__all__ = ["BYTE_BUDGET", "Head", "refuse_shape"]

BYTE_BUDGET = 4 * 2**20  # about what caches hold: faster than more


class Head(nn.Module):
    """A layer that is linear in its weights, as slimTrain sees it; make one with `head_of`.

    Its weights as a matrix W have shape (K, M): one column per output channel, rows in the order of the layer's own
    weight (input channels, then kernel taps), the bias last.

    Arguments:
        layer: The user's layer; the head uses its parameters and copies nothing.

    Attributes:
        channels: Number of channels of the features.
        channel_axis: Axis of the channels of features, targets and outputs.
        shape: Shape (K, M) of the weights as a matrix.
    """

    _out_axis = 0  # of the layer's weight
    _in_axis = 1
    _in_name = "in_channels"  # what the layer calls its number of channels
    channel_axis = 1

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self._measure()

    def _measure(self) -> None:
        weight = self.layer.get_parameter("weight")
        M = weight.shape[self._out_axis]
        self.channels = weight.shape[self._in_axis]
        self.shape = (weight.numel() // M + (self.layer.bias is not None), M)

    def forward(self, z: Tensor) -> Tensor:
        return self.layer(z)

    @property
    def weight(self) -> Tensor:
        """Return the layer's weight."""
        return cast(Tensor, self.layer._parameters["weight"])

    @property
    def bias(self) -> Tensor | None:
        """Return the layer's bias, or None."""
        return self.layer._parameters["bias"]

    @torch.no_grad()
    def matrix(self) -> Tensor:
        """Return the weights W as a new matrix of shape (K, M), the bias as its last row."""
        W = self.weight.movedim(self._out_axis, -1).reshape(-1, self.shape[1])
        return W.clone() if self.bias is None else torch.cat([W, self.bias[None]])

    @torch.no_grad()
    def assign_(self, matrix: Tensor) -> None:
        """Write a matrix of shape (K, M) into the layer's parameters, in place and in their own dtype.

        Raises:
            DataError: The matrix has another shape.
        """
        if tuple(matrix.shape) != self.shape:
            raise DataError(f"head weights have shape {tuple(matrix.shape)}, but {self.layer} needs {self.shape}")
        weight = self.weight.movedim(self._out_axis, -1)
        weight.copy_(matrix[: prod(weight.shape[:-1])].reshape(weight.shape))
        if self.bias is not None:
            self.bias.copy_(matrix[-1])

    def widened(self, times: int) -> Self:
        """Return a head of the same kind for `times` as many channels, its weights copies of this one's."""
        twin = copy.deepcopy(self)
        twin.layer.weight = nn.Parameter(torch.cat([self.weight.detach()] * times, self._in_axis))
        setattr(twin.layer, self._in_name, times * self.channels)
        twin._measure()
        return twin

    @torch.no_grad()
    def design(self, z: Tensor) -> Tensor:
        """Return the whole design A of shape (n, K), rows by sample, then output position.

        Meant for small problems and for checking: `normal_equations` never builds it.

        Raises:
            DataError: The features do not fit the layer.
        """
        fields = self._features(z)
        fields = fields if fields.dtype == torch.float64 else fields.float()
        layout = self._layout(tuple(fields.shape[2:]))
        A = fields.new_zeros(fields.shape[1], *layout.outputs, self.shape[0])
        padded, before = _padded(fields, layout.phases)
        for phase in layout.phases:
            rows = A[(slice(None), *phase.writes)]
            block = self._gather(padded, phase, before)
            rows[..., self._columns(phase)] = block.T.reshape(*rows.shape[:-1], -1)
        return A.reshape(-1, self.shape[0])

    def rows(self, targets: Tensor) -> Tensor:
        """Return targets as a matrix of shape (n, M), in the row order of `design`."""
        return targets.movedim(self.channel_axis, -1).reshape(-1, self.shape[1])

    def std(self, posterior: Posterior, z: Tensor) -> Tensor:
        """Return the standard deviation of every output given the features, noise included: see `predictive_std`."""
        return predictive_std(self, posterior, z)

    @torch.no_grad()
    def normal_equations(self, z: Tensor, targets: Tensor, *, byte_budget: int = BYTE_BUDGET) -> NormalEquations:
        """Return the sums A'A, A'C and ||C||^2, gathered in slices so that A is never formed as a whole.

        Products are taken in float64 whatever the dtype of the features: they are exact for float32, so the normal
        equations lose nothing that the features have not lost already.

        Arguments:
            z: Features in the shape that the layer takes, samples first.
            targets: Targets in the shape of the layer's output.
            byte_budget: Most bytes of A at a time; a slice has at least one line of one sample.

        Raises:
            DataError: The features do not fit the layer, or the targets its output.
        """
        fields = self._features(z)
        layout = self._layout(tuple(fields.shape[2:]))
        C = self._targets(targets, z, layout.outputs)
        one_axis = len(layout.sizes) == 1  # then samples are the lines of one field
        planned, samples = (as_lines(layout, len(z)), 1) if one_axis else (layout, len(z))
        plan = cheaper_plan(planned, len(fields), len(C), samples)
        if plan is None:
            return replace(self._gathered(layout, fields, C, byte_budget), samples=len(z)).arranged(self.blocks)
        blocks, taps = self.blocks, self._taps_of_blocks()
        if one_axis:
            fields, C = fields[:, None], C[:, None]
        sums = replace(correlated(plan, fields, C, byte_budget=byte_budget, taps=taps), samples=len(z))
        if self.bias is None:
            sums = replace(sums, packed=sums.packed[..., :-1, :-1], cross=sums.cross[:-1])
        return sums.arranged(blocks) if taps is None else replace(sums, blocks=blocks)

    def statistics(self, z: Tensor, targets: Tensor, *, byte_budget: int = BYTE_BUDGET) -> NormalEquations:
        """Return `normal_equations`, the name since version 0.2; deprecated."""
        warnings.warn("Head.statistics is now Head.normal_equations", DeprecationWarning, stacklevel=2)
        return self.normal_equations(z, targets, byte_budget=byte_budget)

    def _taps_of_blocks(self) -> Taps | None:
        """Return the taps of each block where all blocks have equally many, otherwise None."""
        return None

    def _gathered(self, layout: Layout, fields: Tensor, C: Tensor, byte_budget: int) -> NormalEquations:
        """Return the sums from the rows of A themselves, by phases and in slices."""
        phases = layout.phases
        sums = [NormalEquations.zeros(len(self._columns(phase)), len(C), fields.device) for phase in phases]
        positions = max(1, byte_budget // (8 * max(len(part.gram) for part in sums)))
        samples = max(1, positions // max(prod(phase.counts) for phase in phases))
        for first in range(0, fields.shape[1], samples):
            part = slice(first, first + samples)
            padded, before = _padded(fields[:, part].double(), phases)
            for index, phase in enumerate(phases):
                for piece in phase.slices(positions):
                    X = self._gather(padded, piece, before)
                    rows = C[(slice(None), part, *piece.writes)].double().reshape(len(C), -1)
                    sums[index] += NormalEquations(X @ X.T, X @ rows.T, rows.square().sum(), rows.shape[1], 0)
        return self._merged(sums, phases)

    def _merged(self, sums: Sequence[NormalEquations], phases: Sequence[Phase]) -> NormalEquations:
        """Return the sums over all columns from those of each phase over its own."""
        whole = NormalEquations.zeros(*self.shape, sums[0].gram.device)
        for part, phase in zip(sums, phases, strict=True):
            columns = torch.tensor(self._columns(phase), dtype=torch.long, device=part.gram.device)
            whole.gram[columns[:, None], columns] += part.gram
            whole.cross[columns] += part.cross
        energy = torch.stack([part.energy for part in sums]).sum()
        return NormalEquations(whole.gram, whole.cross, energy, sum(part.rows for part in sums), 0)

    @property
    def blocks(self) -> Blocks | None:
        """Return the blocks of columns of A without products between them; None where all are one block."""
        return None

    def _columns(self, phase: Phase) -> list[int]:
        """Return the columns of A that a phase uses: its taps for every channel, then the bias."""
        kernel = self.weight.shape[2:]
        taps = phase.taps(kernel)
        columns = [channel * prod(kernel) + tap for channel in range(self.channels) for tap in taps]
        return columns if self.bias is None else [*columns, self.shape[0] - 1]

    def _gather(self, padded: Tensor, phase: Phase, before: Sequence[int]) -> Tensor:
        """Gather the rows of A at a phase, only the columns it uses, transposed: (k, n)."""
        channels, samples = padded.shape[:2]
        reads = phase.reads(before)
        used = channels * len(reads)
        X = padded.new_empty(used + (self.bias is not None), samples, *phase.counts)
        taps = X[:used].view(channels, len(reads), samples, *phase.counts)
        for tap, read in enumerate(reads):
            taps[:, tap] = padded[(slice(None), slice(None), *read)]
        X[used:] = 1.0
        return X.flatten(1)

    def _features(self, z: Tensor) -> Tensor:
        """Return features as (C, B, *S)."""
        if z.ndim != self.weight.ndim or z.shape[1] != self.channels:
            raise DataError(f"features have shape {tuple(z.shape)}, but {self.layer} takes (B, {self.channels}, *S)")
        return z.detach().movedim(1, 0)

    def _targets(self, targets: Tensor, z: Tensor, outputs: tuple[int, ...]) -> Tensor:
        """Return targets as (M, B, *S) with the positions `outputs`."""
        refuse_shape(targets, (len(z), self.shape[1], *outputs), self.layer)
        values = targets.detach().movedim(1, 0)
        return values if values.is_floating_point() else values.double()

    @abstractmethod
    def _layout(self, sizes: Position) -> Layout:
        """Return the phases for features of these sizes."""


def _padded(fields: Tensor, phases: Sequence[Phase]) -> tuple[Tensor, list[int]]:
    """Pad features with zeros wherever a tap of any phase reads beyond them; return the zeros before each axis too."""
    margins = [[phase.axes[axis].margins(size) for phase in phases] for axis, size in enumerate(fields.shape[2:])]
    before = [max(first for first, _ in axis) for axis in margins]
    after = [max(last for _, last in axis) for axis in margins]
    flat = [zeros for pair in zip(reversed(before), reversed(after), strict=True) for zeros in pair]
    return functional.pad(fields, flat) if any(flat) else fields, before


def refuse_shape(targets: Tensor, expected: tuple[int, ...], layer: nn.Module) -> None:
    """Raise DataError for targets of another shape than the layer's output."""
    if tuple(targets.shape) != expected:
        raise DataError(f"targets have shape {tuple(targets.shape)}, but the output of {layer} is {expected}")
