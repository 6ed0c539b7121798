"""A proximal step for the head: one Cholesky factorisation, damping relative to the size of the features."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from surrogate.errors import ConfigError, NumericalError
from surrogate.slimtik.blocks import Blocks
from surrogate.slimtik.normal_equations import NormalEquations

__all__ = ["ProximalSolution", "proximal_step", "warmup_speed"]


@dataclass(frozen=True)
class ProximalSolution:
    """Result of a proximal step; every number is a float64 tensor of shape ().

    Arguments:
        weights: New head weights, with shape (K, M).
        damping: The damping mu.
        running_sum: Running sum of the paper's dampings, which a proximal step leaves unchanged.
        batch: Normal equations of the batch.
    """

    weights: Tensor
    damping: Tensor
    running_sum: Tensor
    batch: NormalEquations = field(repr=False)

    @property
    def residual(self) -> Tensor:
        """Mean squared residual of the batch with the new weights, in squared units of the targets."""
        return self.batch.residual(self.weights).clamp(min=0.0) * (self.batch.samples / self.batch.equations)

    def diagnostics(self) -> dict[str, float]:
        """Return damping, running sum and residual, in one transfer to the host."""
        numbers = torch.stack([self.damping, self.running_sum, self.residual]).tolist()
        return dict(zip(("damping", "running_sum", "residual"), numbers, strict=True))


def proximal_step(
    weights: Tensor,
    batch: NormalEquations,
    memory: Tensor,
    relative_damping: float,
    *,
    relative_ridge: float = 0.0,
    running_sum: Tensor | float = 0.0,
    lower_bound: float = 1e-7,
    blocks: Blocks | None = None,
) -> ProximalSolution:
    r"""Move the head weights towards the regularised least-squares solution of a batch.

    .. math:: W \leftarrow W - (H + (\mu + \alpha) I)^{-1} (G W - B + \alpha W), \qquad
              \mu = c \operatorname{tr}(G) / K + \epsilon, \qquad \alpha = a \operatorname{tr}(G) / K

    The damping mu slows the head down and alpha shrinks it. Both are relative to the mean eigenvalue of G, so that
    features of another size make no difference. For c to infinity this is a small gradient step, for c = 0 the ridge
    solution. With no earlier batch it minimises
    :math:`\|A S - C\|^2 / b + \mu \|S - W\|^2 + \alpha \|S\|^2` over S.

    Arguments:
        weights: Head weights W, with shape (K, M).
        batch: Normal equations of the current batch.
        memory: Sum H of the normalised Gram matrices in memory, the current batch included, with shape (K, K); packed
            by the blocks, if any, or not.
        relative_damping: The multiple c of the mean eigenvalue of G, zero or more.
        relative_ridge: The multiple a, zero or more.
        running_sum: Passed on to the result.
        lower_bound: epsilon, the least damping.
        blocks: Columns between which every Gram matrix is zero.

    Raises:
        NumericalError: The normal equations are not finite, or H + mu I is singular.

    Source: proximal point steps for the last layer as in arXiv 2510.04606, here with the memory of slimTik.
    """
    W = weights.double()
    G = batch.arranged(blocks).packed_G
    size = G.diagonal(dim1=-2, dim2=-1).sum() / len(W)
    mu, alpha = relative_damping * size + lower_bound, relative_ridge * size
    gradient = (G @ W if blocks is None else blocks.product(G, W)) - batch.B + alpha * W
    if blocks is None:
        damped = memory.double().clone()
        damped.diagonal().add_(mu + alpha)
        factor, failed = torch.linalg.cholesky_ex(damped)
        new = W - torch.cholesky_solve(gradient, factor)
    else:
        moved, failed = blocks.solve(blocks.packed(memory.double()), mu + alpha, gradient)
        new = W - moved
    if not torch.isfinite(new.sum()) & (failed == 0).all():
        raise NumericalError("the proximal system of the head is singular or not finite; raise the relative damping")
    return ProximalSolution(new, mu, torch.as_tensor(running_sum, dtype=torch.float64, device=W.device), batch)


def warmup_speed(step: int, steps: int, start: float = 0.01) -> float:
    r"""Return the speed of the head during its warm-up, :math:`s_0^{1 - k / n}` for k < n, then 1.

    A head that is optimal from the first step on leaves the features of a small data set little to learn; one that
    follows slowly at first lets the features change before it fits them closely.

    Arguments:
        step: Number k of updates taken before.
        steps: Number n of updates over which the speed rises; 0 for full speed at once.
        start: First speed s_0, above 0 and at most 1.

    Raises:
        ConfigError: A value is out of its range.
    """
    if steps < 0 or not 0 < start <= 1:
        raise ConfigError(f"head warm-up of {steps} steps from speed {start}: steps >= 0 and 0 < speed <= 1 are needed")
    return 1.0 if step >= steps else start ** (1 - step / steps)
