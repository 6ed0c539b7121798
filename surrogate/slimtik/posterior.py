"""Bayesian linear head: predictive uncertainty from the same normal equations as the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self

import torch
from scipy.special import stdtrit
from torch import Tensor, nn

from surrogate.errors import ConfigError, DataError, did_you_mean
from surrogate.slimtik.normal_equations import NormalEquations
from surrogate.slimtik.tikhonov import Ridge

__all__ = ["Posterior", "predictive_leverage", "predictive_std"]

EVIDENCE, GCV = "evidence", "gcv"
BYTE_BUDGET = 32 * 2**20


class Posterior(nn.Module):
    r"""Gaussian posterior of the weights of a linear head, one column per output.

    For each output, noise of precision beta and a prior :math:`w \sim N(0, \alpha^{-1} I)` give

    .. math:: \Sigma = (\beta A^\top A + \alpha I)^{-1}, \qquad
              \operatorname{var}(a) = 1 / \beta + a^\top \Sigma a = (1 + \ell(a)) / \beta, \qquad
              \ell(a) = a^\top (A^\top A + (\alpha / \beta) I)^{-1} a

    with the leverage :math:`\ell` of a design row a. All is kept as buffers, so a posterior that is an attribute of a
    model moves, is saved and is loaded with it. Before it has seen data it is the prior of unit precisions.

    It is the uncertainty of the head *given its features*: what the features cannot express is in the noise, and the
    uncertainty of the features themselves is in neither. Rows are taken as independent: where errors are
    correlated in space, or are the features' own, leverage still ranks points but intervals are too narrow.

    Arguments:
        features: Number of features K.
        outputs: Number of outputs M.
    """

    mean: Tensor
    values: Tensor
    vectors: Tensor
    ratio: Tensor
    noise: Tensor
    rows: Tensor

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        zeros = torch.zeros(features, dtype=torch.float64)
        self.register_buffer("mean", zeros.new_zeros(features, outputs))  # of the weights, (K, M)
        self.register_buffer("values", zeros)  # eigenvalues of A'A, (K,)
        self.register_buffer("vectors", torch.eye(features, dtype=torch.float64))
        self.register_buffer("ratio", zeros.new_ones(outputs))  # alpha / beta, (M,)
        self.register_buffer("noise", zeros.new_ones(outputs))  # variance 1 / beta, (M,)
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))

    @classmethod
    def of(cls, sums: NormalEquations, energies: Tensor | None = None, *, rule: str = EVIDENCE) -> Self:
        r"""Return the posterior from the normal equations of all rows.

        `evidence` maximises :math:`\log p(c \mid \alpha, \beta)` of each output, beta in closed form and the ratio
        :math:`r = \alpha / \beta` by a search; `gcv` takes r from generalised cross-validation and
        :math:`1 / \beta = \|A w - c\|^2 / (n - t)`.

        Arguments:
            sums: Sums over all rows.
            energies: Sum of squared targets of each output, with shape (M,); without it all outputs share one alpha
                and one beta.
            rule: `evidence` or `gcv`.

        Raises:
            ConfigError: There is no such rule.
            DataError: There is not one energy per output.
            NumericalError: There are no rows, they are not finite, or the factorisation failed.

        Source: MacKay, Neural Computation 4(3), 1992, doi 10.1162/neco.1992.4.3.415.
        """
        if rule not in (EVIDENCE, GCV):
            raise ConfigError(f"rule '{rule}' of the posterior is unknown; {did_you_mean(rule, (EVIDENCE, GCV))}")
        K, M = sums.cross.shape
        if energies is not None and tuple(energies.shape) != (M,):
            raise DataError(f"energies have shape {tuple(energies.shape)}; give one number for each of {M} outputs")
        ridge = Ridge.of(sums, energies)
        if rule == EVIDENCE:
            ratio = ridge.minimised(lambda r: -ridge.evidence(r))
            noise = ridge.objective(ratio) / ridge.rows
        else:
            ratio = ridge.minimised(ridge.gcv)
            noise = ridge.residual(ratio) / ridge.free_rows(ratio)
        posterior = cls(K, M).to(ratio.device)
        posterior.values, posterior.vectors = ridge.values, ridge.vectors.contiguous()
        posterior.mean = ridge.weights(ratio)
        posterior.ratio, posterior.noise = ratio.expand(M).clone(), noise.expand(M).clone()
        posterior.rows.fill_(sums.rows)
        return posterior

    @property
    def effective_dof(self) -> Tensor:
        """Effective degrees of freedom of each output: the sum of the leverages of all rows fitted, with shape (M,)."""
        return (self.values[:, None] / (self.values[:, None] + self.ratio)).sum(0)

    @torch.no_grad()
    def leverage(self, design: Tensor) -> Tensor:
        """Return the leverage of design rows (n, K) for each output, with shape (n, M): an out-of-range score.

        Rows fitted have a leverage of `effective_dof / rows` on average and of at most 1; a multiple of the mean means
        that the features are unlike those of training.

        Raises:
            DataError: The rows have another number of features.
        """
        if design.ndim != 2 or design.shape[1] != len(self.values):
            raise DataError(f"design has shape {tuple(design.shape)}; the posterior needs (n, {len(self.values)})")
        rotated = design.to(self.vectors.dtype) @ self.vectors
        return rotated.square() @ (1.0 / (self.values[:, None] + self.ratio))

    def std(self, design: Tensor) -> Tensor:
        """Return the predictive standard deviation of design rows (n, K), noise included, with shape (n, M)."""
        return ((1.0 + self.leverage(design)) * self.noise).sqrt()

    def quantile(self, level: float = 0.9) -> Tensor:
        """Return the half width of the central interval of each output in standard deviations, with shape (M,).

        From Student's t with n - t degrees of freedom (at least one), because the noise is estimated from the same
        rows: with few rows, intervals by the normal distribution cover too little. The interval is about the
        posterior's own mean.

        Raises:
            ConfigError: The level is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise ConfigError(f"level={level} of an interval: it must be between 0 and 1, such as 0.9")
        degrees = (self.rows - self.effective_dof).clamp(min=1.0)
        return degrees.new_tensor(stdtrit(degrees.cpu().numpy(), 0.5 + 0.5 * level))

    def covariance(self, output: int = 0) -> Tensor:
        """Return the covariance Sigma of the weights of an output, with shape (K, K)."""
        return self.vectors * (self.noise[output] / (self.values + self.ratio[output])) @ self.vectors.mT


# Fields ---------------------------------------------------------------------------------------------------------------


class Designed(Protocol):
    """The methods of a head that are used here; `Head` of `surrogate.models` has them."""

    def __call__(self, z: Tensor) -> Tensor: ...
    def design(self, z: Tensor) -> Tensor: ...
    def rows(self, targets: Tensor) -> Tensor: ...


def predictive_leverage(head: Designed, posterior: Posterior, z: Tensor, *, byte_budget: int = BYTE_BUDGET) -> Tensor:
    """Return the leverage at every output of a head, in the shape of its output and in float64.

    Arguments:
        head: A head.
        posterior: The posterior of its weights.
        z: Features in the shape that the head takes, samples first.
        byte_budget: Most bytes of the design at a time; a slice has at least one sample.

    Raises:
        DataError: Features or posterior do not fit the head.
    """
    return _by_slices(head, posterior, z, posterior.leverage, byte_budget)


def predictive_std(head: Designed, posterior: Posterior, z: Tensor, *, byte_budget: int = BYTE_BUDGET) -> Tensor:
    """Return the predictive standard deviation at every output of a head, in its shape and in float64.

    It is the uncertainty of the head given the features z, noise included.

    Arguments:
        head: A head.
        posterior: The posterior of its weights.
        z: Features in the shape that the head takes, samples first.
        byte_budget: Most bytes of the design at a time; a slice has at least one sample.

    Raises:
        DataError: Features or posterior do not fit the head.
    """
    return _by_slices(head, posterior, z, posterior.std, byte_budget)


@torch.no_grad()
def _by_slices(
    head: Designed, posterior: Posterior, z: Tensor, function: Callable[[Tensor], Tensor], byte_budget: int
) -> Tensor:
    """Apply a function of design rows, (n, K) to (n, M), in slices; return the shape of the head's output."""
    outputs = head(z)
    order = head.rows(torch.arange(outputs.numel(), device=outputs.device).reshape(outputs.shape))
    K, M = len(posterior.values), len(posterior.ratio)
    if order.shape[1] != M:
        raise DataError(f"the posterior has {M} outputs, the head {order.shape[1]}; fit it to this head")
    rows = max(1, byte_budget // (8 * K))
    samples = max(1, rows * len(z) // max(len(order), 1))
    result = torch.empty(outputs.numel(), dtype=posterior.values.dtype, device=outputs.device)
    first = 0
    for part in z.split(samples):
        for design in head.design(part).split(rows):
            result[order[first : first + len(design)]] = function(design)
            first += len(design)
    return result.reshape(outputs.shape)
