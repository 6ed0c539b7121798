r"""The range of the training inputs: how far an input is from all that a surrogate was trained on.

With every input channel divided by its standard deviation, leading modes V of the inputs (at most 64), coefficients
:math:`c = V^\top (y - \bar y)` and rest :math:`r = y - \bar y - V c`, the distance of an input from training input j is

.. math:: d_j^2 = \|c - c_j\|^2 + \|r\|^2 + \|r_j\|^2 ,

which is :math:`\|y - y_j\|^2` with at most 65 training inputs, else where the rests are orthogonal. The score is

.. math:: s = \min_j d_j \,/\, q ,

with q the distance that 95 % of the training inputs have at most from the nearest one of another simulation. For an
input drawn as the training inputs were, s is above 1 in about one of 20 cases; an error estimated on such inputs says
nothing about an input of a much larger score.

Source: Angelopoulos, Bates, Foundations and Trends in Machine Learning 16(4), 2023, on outlier detection by quantiles;
the distances are those of Ramaswamy, Rastogi, Shim, SIGMOD 2000, doi 10.1145/342009.335437.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from surrogate.data import Stream
from surrogate.errors import DataError
from surrogate.files import regular, replacing

__all__ = ["MOST_INPUTS", "SCORE", "InputRange"]

SCORE = "out_of_range"  # variable of the scores in metrics and predictions

MODES = 64
MOST_INPUTS = 500  # training inputs that are kept
NUMBERS = 2**24  # of the training inputs in memory
SHARE = 0.95  # of the training inputs within the limit
CHECKSUM = "sha256"  # of the tensors, in the metadata of the file
CONSTANT = 1e-6  # of the norm of the inputs, below which distances are rounding


@dataclass(frozen=True)
class InputRange:
    """Training inputs, to which others are compared.

    Arguments:
        scale: Standard deviation of every channel, with shape (C,).
        mean: Mean of the training inputs in units of it, with shape (i,).
        modes: Their leading modes, with shape (i, r).
        coefficients: Of the training inputs, with shape (n, r).
        rest: Squared norm of what the modes leave of them, with shape (n,).
        limit: Distance at which the score is 1.
    """

    scale: Tensor
    mean: Tensor
    modes: Tensor
    coefficients: Tensor
    rest: Tensor
    limit: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, stream: Stream) -> InputRange:
        """Keep at most 500 training inputs, evenly spaced in the order of the stream.

        Arguments:
            stream: The training data, unshuffled.

        Raises:
            DataError: There are fewer than two training inputs.
        """
        stride = -(-stream.samples // max(2, min(MOST_INPUTS, NUMBERS // prod(stream.inputs.shape))))
        rows, simulations, seen = [], [], 0
        for batch in stream:
            kept = torch.arange(-seen % stride, len(batch), stride)
            rows.append(batch.inputs[kept].double())
            simulations.append(batch.sample[kept])
            seen += len(batch)
        if seen < 2:
            raise DataError(f"a range of inputs needs two training inputs, there is {seen}")
        inputs, simulation = torch.cat(rows), torch.cat(simulations)
        values = inputs.transpose(0, 1).flatten(1)
        centre = values.nanmean(1, keepdim=True).nan_to_num(nan=0.0)
        deviation = (values - centre).square().nanmean(1).nan_to_num(nan=0.0).sqrt()
        constant = deviation <= CONSTANT * centre[:, 0].abs()
        scale = torch.where(constant, centre[:, 0].abs(), deviation)
        scale = torch.where(scale > 0, scale, 1.0)
        y = _vectors(inputs, scale)
        mean = y.nanmean(0).nan_to_num(nan=0.0)
        centred = (y - mean).nan_to_num(nan=0.0)  # what is missing counts as the mean
        energies, vectors = torch.linalg.eigh(centred @ centred.mT)
        leading = torch.nonzero(energies > CONSTANT**2 * energies[-1].clamp(min=1e-30))[:, 0].flip(0)[:MODES]
        modes = centred.mT @ vectors[:, leading] / energies[leading].sqrt()
        c = centred @ modes
        rest = (centred - c @ modes.mT).square().sum(1)
        of_other = torch.cdist(c, c).square() + rest[:, None] + rest
        same = simulation[:, None] == simulation if len(simulation.unique()) > 1 else torch.eye(len(y)).bool()
        nearest = of_other.masked_fill(same, torch.inf).amin(1).sqrt()
        limit = torch.quantile(nearest, SHARE, interpolation="higher")
        limit = limit.clamp(min=CONSTANT * float(y.shape[1]) ** 0.5)
        return cls(scale, mean, modes, c, rest, limit)

    @torch.no_grad()
    def score(self, inputs: Tensor) -> Tensor:
        """Return the scores (B,) of inputs in physical units, with shape (B, C, *input_grid).

        NaN where inputs are on another number of points than those of training, as on another mesh.
        """
        if inputs[0].numel() != len(self.mean):
            return torch.full((len(inputs),), torch.nan, dtype=torch.float64)
        centred = (_vectors(inputs.cpu().double(), self.scale) - self.mean).nan_to_num(nan=0.0)
        c = centred @ self.modes
        rest = (centred - c @ self.modes.mT).square().sum(1)
        of_each = torch.cdist(c, self.coefficients, compute_mode="donot_use_mm_for_euclid_dist").square() + self.rest
        return (of_each.amin(1) + rest).sqrt() / self.limit

    def save(self, path: Path) -> None:
        """Write it to a file, atomically."""
        tensors = {field.name: getattr(self, field.name).contiguous() for field in fields(self)}
        with replacing(path) as part:
            save_file(tensors, part, metadata={CHECKSUM: _digest(tensors)})

    @classmethod
    def load(cls, path: Path) -> InputRange:
        """Read what `save` wrote.

        Raises:
            DataError: The file is damaged.
        """
        try:
            with safe_open(regular(path), "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                noted = (file.metadata() or {}).get(CHECKSUM)
            if noted != _digest(tensors):
                raise ValueError("its numbers differ from its checksum")
            return cls(**tensors)
        except (SafetensorError, TypeError, OSError, ValueError) as error:
            reason = (str(error).splitlines() or [""])[0]
            raise DataError(f"{path}: damaged ({reason:.80}); restore or remove it") from error


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _vectors(inputs: Tensor, scale: Tensor) -> Tensor:
    """Flatten inputs (B, C, *S) to (B, i) in units of the standard deviations of the channels."""
    return (inputs / scale.view(-1, *[1] * (inputs.ndim - 2))).flatten(1)
