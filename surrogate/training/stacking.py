"""Stacking: the weighted mean of several surrogates, its weights chosen on the validation data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from surrogate.models.surrogate import Surrogate
from surrogate.training.setup import Setup

__all__ = ["convex_weights", "residual_gram", "stacked"]


def stacked(setup: Setup, surrogates: Sequence[Surrogate]) -> tuple[Surrogate, list[float]]:
    """Return the weighted mean of surrogates of least squared validation error, and the weight of each.

    Surrogates of weight zero are left out of it. The weights are not negative and add up to one, so that the error on
    the validation data is never above that of the best of them, and a few of them cannot fit noise as free weights do.

    Arguments:
        setup: Validation data and objective.
        surrogates: Single networks of one family, trained on the same data.

    Source: Breiman, Stacked regressions, Machine Learning 24, 1996, doi 10.1007/BF00117832.
    """
    weights = convex_weights(residual_gram(setup, surrogates))
    used = [number for number, weight in enumerate(weights) if weight > 0]
    if len(used) == 1:
        return surrogates[used[0]], weights
    return Surrogate.mean_of([surrogates[number] for number in used], [weights[number] for number in used]), weights


@torch.no_grad()
def residual_gram(setup: Setup, surrogates: Sequence[Surrogate]) -> Tensor:
    r"""Return :math:`Q_{ij} = \langle r_i, r_j \rangle` of the residuals on all validation samples, float64, (N, N).

    Residuals are in the units of the networks; at a missing target they are zero.
    """
    models = [surrogate.to(setup.device).eval() for surrogate in surrogates]
    gram = torch.zeros(len(models), len(models), dtype=torch.float64, device=setup.device)
    for batch in filter(len, setup.validation):
        residuals = []
        for surrogate in models:
            part = setup.objective.batch(surrogate, batch.to(setup.device))
            output = surrogate.network(part.inputs)
            residuals.append((output - setup.objective.completed(output, part.targets)).flatten().double())
        rows = torch.stack(residuals)
        gram += rows @ rows.mT
    return setup.ranks.sum(gram)


def convex_weights(gram: Tensor) -> list[float]:
    r"""Minimise :math:`a^\top Q a` over weights :math:`a \ge 0` with sum one.

    With :math:`a = s u`, :math:`\sum_i u_i = 1` and :math:`q = u^\top Q u` the nonnegative least-squares problem
    :math:`\min_{a \ge 0} a^\top Q a + (\sum_i a_i - 1)^2` has the minimum :math:`q / (1 + q)` over s. It grows with
    q, so the solution of that problem, scaled to sum one, is the solution of this one.

    Arguments:
        gram: Q, symmetric and positive semidefinite, with shape (N, N).
    """
    Q = gram.cpu().numpy()
    Q = Q / max(float(np.trace(Q)), np.finfo(np.float64).tiny)
    values, vectors = np.linalg.eigh(Q)
    root = np.sqrt(values.clip(min=0.0))[:, None] * vectors.T
    weights, _ = nnls(np.vstack([root, np.ones(len(Q))]), np.append(np.zeros(len(Q)), 1.0))
    return [float(weight) for weight in weights / weights.sum()]
