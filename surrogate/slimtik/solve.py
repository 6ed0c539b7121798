"""One step of slimTik: pure, tensors in and tensors out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from surrogate.errors import NumericalError
from surrogate.slimtik.blocks import Blocks
from surrogate.slimtik.curve import Curve
from surrogate.slimtik.normal_equations import NormalEquations
from surrogate.slimtik.selection import HalfSum, Rule, Search, sgcv
from surrogate.slimtik.spectrum import Spectrum

__all__ = ["Solution", "step"]


@dataclass(frozen=True)
class Solution:
    """Result of a slimTik step; every number is a float64 tensor of shape () on the device of the normal equations.

    Numbers that the step itself does not need are computed when they are asked for.

    Arguments:
        weights: New head weights, with shape (K, M).
        damping: The damping chosen, lambda in the paper; may be negative.
        running_sum: Sum of all dampings, Lambda in the paper, this step included.
        batch: NormalEquations of the batch.
        spectrum: Factorisation of the memory.
        curve: Residual and trace of the batch as functions of the damping.
    """

    weights: Tensor
    damping: Tensor
    running_sum: Tensor
    batch: NormalEquations = field(repr=False)
    spectrum: Spectrum = field(repr=False)
    curve: Curve = field(repr=False)

    @property
    def residual(self) -> Tensor:
        """Mean squared residual of the batch with the new weights, in squared units of the targets."""
        return self.batch.residual(self.weights).clamp(min=0.0) * (self.batch.samples / self.batch.equations)

    @property
    def effective_dof(self) -> Tensor:
        """Effective degrees of freedom per output, the trace of G (H + Lambda I)^-1."""
        return self.curve(self.damping[None])[1][0] / self.weights.shape[1]

    @property
    def condition(self) -> Tensor:
        """Condition number of H + Lambda I."""
        return self.spectrum.condition(self.running_sum)

    def diagnostics(self) -> dict[str, float]:
        """Return every number but the weights, by name, in one transfer to the host."""
        names = ("damping", "running_sum", "residual", "effective_dof", "condition")
        return dict(zip(names, torch.stack([getattr(self, name) for name in names]).tolist(), strict=True))


def step(
    weights: Tensor,
    batch: NormalEquations,
    memory: Tensor,
    running_sum: Tensor | float,
    *,
    rule: Rule = sgcv,
    search: Search | None = None,
    lower_bound: float = 1e-7,
    blocks: Blocks | None = None,
) -> Solution:
    r"""Update the head weights by one sampled Tikhonov step.

    .. math:: W \leftarrow W - (H + (\Lambda + \lambda) I)^{-1} (G W - B + \lambda W)

    Arguments:
        weights: Head weights W, with shape (K, M).
        batch: NormalEquations of the current batch.
        memory: Sum H of the normalised Gram matrices in memory, the current batch included, with shape (K, K); packed
            by the blocks, if any, or not.
        running_sum: Sum of all dampings so far, Lambda, above zero.
        rule: What the damping minimises; `sgcv` unless given.
        search: The points over which it is minimised; `HalfSum` unless given.
        lower_bound: The running sum never falls below it.
        blocks: Columns between which every Gram matrix is zero, to save time.

    Raises:
        NumericalError: The normal equations are not finite, or the factorisation or the solution failed.

    Source: Newman, Chung, Chung, Ruthotto, SIAM J. Sci. Comput. 44(4), 2022, Algorithm 4.1.
    """
    W = weights.double()
    L = torch.as_tensor(running_sum, dtype=torch.float64, device=W.device)
    spectrum = Spectrum.of(memory, blocks)
    curve = Curve.of(spectrum, W, batch, L)
    damping = torch.maximum((search or HalfSum())(curve, rule), lower_bound - L)
    total = torch.clamp(L + damping, min=lower_bound)
    E = curve.weights
    new = spectrum.joined(E - damping * spectrum.shrunk(E, total, E[0, -1]))
    if not math.isfinite(new.sum()):
        if not math.isfinite(spectrum.values.sum()):
            raise NumericalError("the Gram matrix is not finite; look for NaN, Inf or overflow in the features")
        raise NumericalError(
            "the head weights are not finite after the solve: the system is singular; "
            "raise the lower bound of the regularization"
        )
    return Solution(new, damping, total, batch, spectrum, curve)
