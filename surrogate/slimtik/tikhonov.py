"""The exact Tikhonov solution over all rows, its regularization chosen by generalised cross-validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from surrogate.errors import ConfigError, NumericalError
from surrogate.slimtik.normal_equations import NormalEquations
from surrogate.slimtik.spectrum import Spectrum

__all__ = ["Ridge", "TikhonovFit", "tikhonov"]

POINTS = 128  # of the scan
SECTIONS = 36  # of the refinement between two neighbours of the scan: 4e-8 of their distance
LARGEST = 1e6  # of the scan, relative to the largest eigenvalue
GOLDEN = 0.5 * (5**0.5 - 1)


@dataclass(frozen=True)
class Ridge:
    r"""The problem :math:`\min_W \|A W - C\|^2 + r \|W\|^2` as a function of r, in the singular basis of A.

    With :math:`A = U S V^\top` and the filter :math:`f_j = r / (s_j + r)`, where :math:`s = \operatorname{diag} S^2`
    are the eigenvalues of :math:`A^\top A`, everything is a sum of positive terms, free of cancellation:

    .. math:: \|A W - C\|^2 = c + \sum_j f_j^2 |u_j^\top C|^2, \qquad
              n - t = n - \operatorname{rank} A + \sum_{s_j > 0} f_j.

    Eigenvalues below K eps of the largest are rounding of the normal equations and count as zero; the directions of
    condition(A) above about 1e7 are lost, and get no weight.

    Targets either form one group, of which means are taken (P = 1), or each output is its own (P = M).

    Arguments:
        values: Eigenvalues s of A'A in ascending order, with shape (K,).
        vectors: Their eigenvectors V, with shape (K, K).
        targets: Coordinates U'C of the targets, with shape (K, M); zero where s is.
        power: Squared coordinates of each group, with shape (K, P).
        misfit: Squared residual norm c that no weights can remove, with shape (P,).
        rows: Number of rows n.
    """

    values: Tensor
    vectors: Tensor
    targets: Tensor
    power: Tensor
    misfit: Tensor
    rows: int

    @classmethod
    def of(cls, sums: NormalEquations, energies: Tensor | None = None) -> Ridge:
        """Return the problem of given normal equations.

        Arguments:
            sums: Sums over all rows.
            energies: Sum of squared targets of each output, with shape (M,), to treat each on its own.

        Raises:
            NumericalError: There are no rows, they are not finite, or the factorisation failed.
        """
        if sums.rows == 0:
            raise NumericalError("there are no samples to fit the head to; give at least one batch")
        if not torch.isfinite(sums.packed.sum() + sums.cross.sum() + sums.energy):
            raise NumericalError("features or targets are not finite; look for NaN and Inf in the data")
        spectrum = Spectrum.of(sums.gram)
        eps = torch.finfo(torch.float64).eps
        values = spectrum.values
        values = values.where(values > len(values) * eps * values.max(), 0.0)
        root = values.where(values > 0, torch.inf).rsqrt()  # zero for a direction that no row has
        targets = root[:, None] * (spectrum.vectors.mT @ sums.cross)
        power = targets.square()
        if energies is None:
            power, energies = power.mean(1, keepdim=True), sums.energy[None] / targets.shape[1]
        misfit = torch.maximum(energies - power.sum(0), eps * energies)
        if sums.rows <= int((values > 0).sum()):  # as many directions as rows: the targets can be met exactly
            misfit = torch.zeros_like(misfit)
        return cls(values, spectrum.vectors, targets, power, misfit, sums.rows)

    def filters(self, ratio: Tensor) -> Tensor:
        """Return the share f of each coordinate that stays in the residual, for r of shape (P,), with shape (K, P)."""
        return torch.where(self.values[:, None] > 0, ratio / (self.values[:, None] + ratio), 1.0)

    def residual(self, ratio: Tensor) -> Tensor:
        """Return the squared residual norm, with shape (P,)."""
        return self.misfit + (self.power * self.filters(ratio).square()).sum(0)

    def objective(self, ratio: Tensor) -> Tensor:
        """Return the squared residual norm plus penalty, the minimum of the problem, with shape (P,)."""
        return self.misfit + (self.power * self.filters(ratio)).sum(0)

    def effective_dof(self, ratio: Tensor) -> Tensor:
        r"""Return the effective degrees of freedom :math:`t = \sum_j s_j / (s_j + r)` of an output, (P,)."""
        return (1.0 - self.filters(ratio)).sum(0)

    def free_rows(self, ratio: Tensor) -> Tensor:
        """Return the rows less the effective degrees of freedom, n - t, with shape (P,)."""
        positive = self.values > 0
        return (self.rows - positive.sum()).clamp(min=0) + (self.filters(ratio) * positive[:, None]).sum(0)

    def gcv(self, ratio: Tensor) -> Tensor:
        r"""Return generalised cross-validation, :math:`\|A W - C\|^2 / (n - t)^2`, with shape (P,)."""
        return self.residual(ratio) / self.free_rows(ratio).square()

    def evidence(self, ratio: Tensor) -> Tensor:
        r"""Return the log evidence with the best noise precision for r, up to a constant, with shape (P,).

        .. math:: -\tfrac{n}{2} \log \min_w (\|A w - c\|^2 + r \|w\|^2) + \tfrac{1}{2} \sum_j \log \frac{r}{s_j + r}
        """
        tiny = torch.finfo(ratio.dtype).tiny  # targets that are zero have no noise
        fit = self.objective(ratio).clamp(min=tiny).log()
        return 0.5 * (self.filters(ratio).log().sum(0) - self.rows * fit)

    def weights(self, ratio: Tensor) -> Tensor:
        """Return the solution for r of shape (P,), with shape (K, M)."""
        shares = 1.0 - self.filters(ratio)
        root = self.values.where(self.values > 0, torch.inf).rsqrt()
        return self.vectors @ (root[:, None] * shares * self.targets)

    def minimised(self, criterion: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the r of least criterion for every group, with shape (P,).

        A scan over a logarithmic grid relative to the largest eigenvalue, from 1e6 down to the rounding error, then
        golden sections between the neighbours of its least point. Among equals the largest r wins.
        """
        largest = self.values.max()
        largest = largest.where(largest > 0, 1.0)
        limits = torch.stack([LARGEST * largest, torch.finfo(torch.float64).eps * largest]).log()
        fraction = torch.linspace(0.0, 1.0, POINTS, dtype=limits.dtype, device=limits.device)
        grid = torch.lerp(limits[0], limits[1], fraction)
        scan = torch.stack([criterion(point.exp().expand_as(self.misfit)) for point in grid])
        least, index = scan.where(torch.isfinite(scan), torch.inf).min(0)
        high, low = grid[(index - 1).clamp(min=0)], grid[(index + 1).clamp(max=POINTS - 1)]
        for _ in range(SECTIONS):
            step = GOLDEN * (high - low)
            left, right = high - step, low + step
            falling = criterion(right.exp()) <= criterion(left.exp())
            low, high = torch.where(falling, left, low), torch.where(falling, high, right)
        refined = (0.5 * (low + high)).exp()
        return torch.where(criterion(refined) <= least, refined, grid[index].exp())


@dataclass(frozen=True)
class TikhonovFit:
    """Head weights that fit all rows, with diagnostics of the fit.

    Arguments:
        weights: Head weights W, with shape (K, M).
        regularization: The alpha used, on the scale of the running sum of slimTrain (per sample).
        residual: Mean squared residual, in squared units of the targets.
        effective_dof: Effective degrees of freedom per output.
        condition: Condition number of A'A / b + alpha I.
    """

    weights: Tensor
    regularization: float
    residual: float
    effective_dof: float
    condition: float


def tikhonov(sums: NormalEquations, *, regularization: float | None = None) -> TikhonovFit:
    r"""Minimise the regularised mean squared error over all rows.

    .. math:: W = \operatorname{argmin} \|A W - C\|^2 / b + \alpha \|W\|^2

    Unless alpha is given it minimises :math:`\|A W - C\|^2 / (n M - t)^2` with the trace
    :math:`t = M \sum_j s_j / (s_j + \alpha b)`, generalised cross-validation over the whole data. With alpha = 0 the
    solution is the one of least norm.

    Arguments:
        sums: Sums over all rows.
        regularization: alpha, zero or more.

    Raises:
        ConfigError: The regularization is negative.
        NumericalError: There are no rows, they are not finite, or the factorisation failed.

    Source: Golub, Heath, Wahba, Technometrics 21(2), 1979, doi 10.1080/00401706.1979.10489751.
    """
    if regularization is not None and not 0 <= regularization < float("inf"):
        raise ConfigError(f"regularization={regularization}: it must be zero or more; leave it out to have it chosen")
    ridge = Ridge.of(sums)
    if regularization is None:
        ratio = ridge.minimised(ridge.gcv)
    else:
        ratio = torch.full_like(ridge.misfit, regularization * sums.samples)
    weights = ridge.weights(ratio)
    extremes = (ridge.values.max() + ratio[0]) / (ridge.values.min() + ratio[0])
    numbers = [ratio[0] / sums.samples, ridge.residual(ratio)[0] / ridge.rows, ridge.effective_dof(ratio)[0]]
    return TikhonovFit(weights, *torch.stack([*numbers, extremes]).tolist())
