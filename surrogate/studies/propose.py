"""Choose the simulations to run next: those with the largest predictive variance of the linear head."""

from __future__ import annotations

import torch
from torch import Tensor

from surrogate.models.separable import Separable
from surrogate.slimtik import Posterior

__all__ = ["grams_of", "greedy_batch"]


@torch.no_grad()
def grams_of(network: Separable, inputs: Tensor) -> Tensor:
    """Compute Gram matrices G_i = A_i' A_i of the design rows of every candidate, in float64.

    Arguments:
        network: A separable network.
        inputs: Candidates in the units of the network, with shape (N, C, *S).

    Returns:
        Shape (N, K, K).
    """
    z = network.features(inputs)
    designs = (network.head.design(one[None]).double() for one in z)
    return torch.stack([design.mT @ design for design in designs])


def greedy_batch(grams: Tensor, posterior: Posterior, count: int) -> list[int]:
    r"""Choose candidates by the largest predictive variance, each given those chosen before, so that no two are alike.

    .. math:: v_i = \tfrac{1}{M} \sum_m \beta_m^{-1} \, \mathrm{tr}(P_m G_i), \qquad
              P_m^{-1} \leftarrow P_m^{-1} + G_\text{chosen}, \qquad P_m^{-1} = A'A + r_m I

    The variance of a Gaussian posterior does not depend on the outputs, so a batch is chosen before any of it is run.

    Arguments:
        grams: G of every candidate, with shape (N, K, K).
        posterior: Posterior of the head.
        count: How many to choose.

    Returns:
        Positions of the chosen candidates, in the order of choice.

    Source: Sacks, Welch, Mitchell, Wynn, Design and analysis of computer experiments, 1989; greedy as in Krause, Singh,
        Guestrin, Near-optimal sensor placements in Gaussian processes, 2008.
    """
    V = posterior.vectors
    rotated = V.mT @ grams.to(V) @ V
    ratios, inverse = torch.unique(posterior.ratio, return_inverse=True)  # outputs with one ratio share a covariance
    noise = torch.zeros_like(ratios).index_add(0, inverse, posterior.noise)
    precision = torch.diag_embed(posterior.values + ratios[:, None])
    chosen: list[int] = []
    for _ in range(min(count, len(grams))):
        covariance = (noise[:, None, None] * torch.linalg.inv(precision)).sum(0)
        variance = (rotated * covariance).sum((1, 2))
        variance[chosen] = -torch.inf
        best = int(variance.argmax())
        chosen.append(best)
        precision = precision + rotated[best]
    return chosen
