"""The exact Tikhonov solution, its regularization chosen by leaving out one group of samples at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from operator import add

import torch
from torch import Tensor

from surrogate.errors import ConfigError
from surrogate.slimtik.normal_equations import NormalEquations
from surrogate.slimtik.tikhonov import Ridge, TikhonovFit, tikhonov

__all__ = ["cross_validated"]


def cross_validated(groups: Sequence[NormalEquations]) -> TikhonovFit:
    r"""Minimise the regularised mean squared error over all rows, with the alpha of least error on groups left out.

    .. math:: \alpha = \operatorname{argmin} \sum_g \|A_g W_{-g}(\alpha) - C_g\|^2, \qquad
              W_{-g}(\alpha) = \operatorname{argmin} \sum_{h \ne g} \|A_h W - C_h\|^2 / b_{-g} + \alpha \|W\|^2

    A group is a sample or all samples of a simulation. Generalised cross-validation leaves out single equations, such
    as one grid point, which its neighbours in the same field predict well; so it takes too small an alpha for fields.

    Every group costs one factorisation; after it a trial alpha takes O(K^2) operations.

    Arguments:
        groups: Normal equations of each group, at least two that have samples.

    Raises:
        ConfigError: There are fewer than two groups.
        NumericalError: Rows are not finite, or a factorisation failed.

    Source: Stone, J. R. Stat. Soc. B 36(2), 1974, doi 10.1111/j.2517-6161.1974.tb00994.x.
    """
    groups = [group.arranged(None) for group in groups if group.samples]
    if len(groups) < 2:
        raise ConfigError(f"cross-validation needs at least two groups of samples, got {len(groups)}")
    before = [None, *accumulate(groups)][:-1]
    after = [None, *accumulate(reversed(groups))][-2::-1]
    left_out = []
    for group, *others in zip(groups, before, after, strict=True):
        left_out.append(_LeftOut.of(group, reduce(add, [part for part in others if part is not None])))
    total = reduce(add, groups)
    ratio = Ridge.of(total).minimised(lambda ratio: sum_of(left_out, ratio / total.samples))
    return tikhonov(total, regularization=float(ratio[0]) / total.samples)


def sum_of(left_out: Sequence[_LeftOut], alpha: Tensor) -> Tensor:
    """Return the sum of squared errors on all groups, each predicted from the others, for alpha of shape (1,)."""
    return reduce(add, [group.error(alpha) for group in left_out])


@dataclass(frozen=True)
class _LeftOut:
    r"""The squared error on a group as a function of alpha, in the eigenbasis of the Gram matrix of the others.

    With the shares :math:`d_j = s_j / (s_j + \alpha b)` of the least-squares weights :math:`T` that alpha leaves, it is

    .. math:: \|C\|^2 - 2 \sum_j d_j (T C^\top A V)_{jj} + d^\top (V^\top A^\top A V \circ T T^\top) d

    Arguments:
        others: The least-squares problem of the other groups.
        samples: Number of samples b of the others.
        quadratic: The quadratic form in d, with shape (K, K).
        linear: The linear form, with shape (K,).
        energy: Sum of the squared targets of the group, with shape ().
    """

    others: Ridge
    samples: int
    quadratic: Tensor
    linear: Tensor
    energy: Tensor

    @classmethod
    def of(cls, group: NormalEquations, others: NormalEquations) -> _LeftOut:
        ridge = Ridge.of(others)
        root = ridge.values.where(ridge.values > 0, torch.inf).rsqrt()
        T, V = root[:, None] * ridge.targets, ridge.vectors
        quadratic = (V.mT @ group.gram @ V) * (T @ T.mT)
        linear = (T * (V.mT @ group.cross)).sum(1)
        return cls(ridge, others.samples, quadratic, linear, group.energy)

    def error(self, alpha: Tensor) -> Tensor:
        """Return the squared error, with shape (1,)."""
        d = 1.0 - self.others.filters(alpha * self.samples)[:, 0]
        return (self.energy - 2 * self.linear @ d + d @ self.quadratic @ d)[None]
