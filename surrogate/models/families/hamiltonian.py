"""Hamiltonian residual network, integrated by the Verlet method."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from surrogate.models.layers.field_head import dense_head
from surrogate.models.registry import ModelSettings, Shapes, register
from surrogate.models.separable import Separable

__all__ = ["HamiltonianFlow", "HamiltonianSettings", "hamiltonian"]


class HamiltonianSettings(ModelSettings):
    """Settings of the Hamiltonian residual network.

    Arguments:
        width: Size of the state, positions p and momenta q together; even.
        depth: Number of steps, each with weights of its own.
        final_time: Time T that the steps cover; a step has the size h = T / depth.
    """

    family: Literal["hamiltonian"] = "hamiltonian"
    width: int = Field(32, ge=2, multiple_of=2)
    depth: int = Field(8, ge=1)
    final_time: float = Field(4.0, gt=0)


class HamiltonianFlow(nn.Module):
    r"""Verlet steps for the Hamiltonian :math:`H = \sum \log\cosh(K q + b) + \sum \log\cosh(L p + c)`.

    .. math:: p_{j+1} = p_j + h \, K_j^\top \tanh(K_j q_j + b_j), \qquad
              q_{j+1} = q_j - h \, L_j^\top \tanh(L_j p_{j+1} + c_j)

    (B, width) -> (B, width), the first half of the state p, the second q; q is staggered by half a step. Every step is
    symplectic and invertible.

    Arguments:
        settings: Width, depth and final time.
    """

    def __init__(self, settings: HamiltonianSettings) -> None:
        super().__init__()
        half, depth = settings.width // 2, settings.depth
        self.weights = nn.Parameter(torch.randn(depth, 2, half, half) / half**0.5)  # K_j and L_j
        self.biases = nn.Parameter(torch.zeros(depth, 2, half))  # b_j and c_j
        self.step = settings.final_time / depth

    def forward(self, state: Tensor) -> Tensor:
        p, q = state.chunk(2, dim=1)
        for (K, L), (b, c) in zip(self.weights, self.biases, strict=True):
            p = p + self.step * torch.tanh(torch.addmm(b, q, K.T)) @ K
            q = q - self.step * torch.tanh(torch.addmm(c, p, L.T)) @ L
        return torch.cat([p, q], dim=1)


@register(HamiltonianSettings)
def hamiltonian(settings: HamiltonianSettings, shapes: Shapes) -> Separable:
    r"""Build a dense layer into the state, then a Hamiltonian flow.

    .. math:: (p, q)(0) = \tanh(K_\text{in} y + b_\text{in}), \qquad p' = \nabla_q H, \qquad q' = -\nabla_p H, \qquad
              \text{output} = W (p, q)(T) + b

    (B, C, *input_grid) -> (B, width) -> Verlet steps -> (B, M, *S)

    Arguments:
        settings: Width, depth and final time.
        shapes: Shapes of inputs and targets; fields are taken as vectors.

    Source: Haber and Ruthotto, Inverse Problems 34, 2017, doi 10.1088/1361-6420/aa9a90, in the form of Chang, Meng,
    Haber, Ruthotto, Begert, Holtham, AAAI 2018, arXiv 1709.03698, whose steps derive from a Hamiltonian.
    """
    lift = [nn.Flatten(), nn.Linear(shapes.input_size, settings.width), nn.Tanh()]
    return Separable(nn.Sequential(*lift, HamiltonianFlow(settings)), dense_head(settings.width, shapes))
