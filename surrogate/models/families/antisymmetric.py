"""Residual network with antisymmetric weights, integrated by the Runge-Kutta method of order 4."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from surrogate.models.layers.field_head import dense_head
from surrogate.models.registry import ModelSettings, Shapes, register
from surrogate.models.separable import Separable

__all__ = ["AntisymmetricFlow", "AntisymmetricSettings", "antisymmetric"]


class AntisymmetricSettings(ModelSettings):
    """Settings of the antisymmetric residual network.

    Arguments:
        width: Size of the state z.
        depth: Number of steps.
        final_time: Time T that the steps cover; a step has the size h = T / depth.
        weights: `steps` for one set of weights per step, constant over it; `nodes` for one set at each of the
            2 depth + 1 times that the Runge-Kutta method evaluates, the ends and middles of the steps.
        damping: gamma, which moves the eigenvalues of the weights to the left of the imaginary axis.
        initial: Initial weights: `normal` with standard deviation 1 / width, `uniform` in [0, 1] without biases, or
            `constant` in time, as in the authors' code: one normal draw K of standard deviation sqrt(2 / width) at all
            times, K_in with sqrt(2 / inputs), no biases.
    """

    family: Literal["antisymmetric"] = "antisymmetric"
    width: int = Field(16, ge=2)
    depth: int = Field(8, ge=1)
    final_time: float = Field(4.0, gt=0)
    damping: float = Field(1e-4, ge=0)
    weights: Literal["steps", "nodes"] = "steps"
    initial: Literal["normal", "uniform", "constant"] = "normal"


class AntisymmetricFlow(nn.Module):
    r"""The flow of :math:`z' = \tanh(A(t) z + b(t))` with :math:`A = K - K^\top - \gamma I`.

    (B, width) -> (B, width). The Jacobian of the right-hand side is a positive diagonal matrix times A, whose
    eigenvalues have no positive real part, so that forward propagation is stable however deep the network is.

    Arguments:
        settings: Width, depth, final time, damping, placement and initial values of the weights.
    """

    def __init__(self, settings: AntisymmetricSettings) -> None:
        super().__init__()
        depth = settings.depth
        self.each = settings.weights == "steps"
        times = depth if self.each else 2 * depth + 1
        shape = (times, settings.width, settings.width)
        if settings.initial == "uniform":
            weights = torch.rand(shape)
        elif settings.initial == "normal":
            weights = torch.randn(shape) / settings.width
        else:
            weights = (torch.randn(shape[1:]) * math.sqrt(2 / settings.width)).repeat(times, 1, 1)
        self.weights = nn.Parameter(weights)
        self.biases = nn.Parameter(torch.zeros(times, settings.width))
        self.step, self.damping = settings.final_time / depth, settings.damping

    def matrices(self) -> Tensor:
        """Return the matrices A transposed, which act on rows: (times, width, width)."""
        K = self.weights
        return K.mT - K - self.damping * torch.eye(K.shape[1], dtype=K.dtype, device=K.device)

    def forward(self, z: Tensor) -> Tensor:
        h = self.step
        A, b = self.matrices().unbind(), self.biases.unbind()
        for start, middle, end in self._nodes():
            first = torch.tanh(torch.addmm(b[start], z, A[start]))
            second = torch.tanh(torch.addmm(b[middle], z + 0.5 * h * first, A[middle]))
            third = torch.tanh(torch.addmm(b[middle], z + 0.5 * h * second, A[middle]))
            fourth = torch.tanh(torch.addmm(b[end], z + h * third, A[end]))
            z = z + h / 6 * (first + 2 * second + 2 * third + fourth)
        return z

    def _nodes(self) -> list[tuple[int, int, int]]:
        """List the indices of the weights at the start, the middle and the end of every step."""
        times = len(self.biases)
        return [(j, j, j) for j in range(times)] if self.each else [(j, j + 1, j + 2) for j in range(0, times - 2, 2)]


@register(AntisymmetricSettings)
def antisymmetric(settings: AntisymmetricSettings, shapes: Shapes) -> Separable:
    r"""Build the residual network of slimTrain's dense surrogates.

    .. math:: z(0) = \tanh(K_\text{in} y + b_\text{in}), \qquad
              z' = \tanh\bigl((K(t) - K(t)^\top - \gamma I) z + b(t)\bigr), \qquad \text{output} = W z(T) + b

    (B, C, *input_grid) -> (B, width) -> RK4 steps -> (B, M, *S).

    Arguments:
        settings: Width, depth, final time and damping.
        shapes: Shapes of inputs and targets; fields are taken as vectors.

    Source: Newman, Chung, Chung, Ruthotto, slimTrain (2022), section 4.2; Haber and Ruthotto, Inverse Problems 34,
    2017, doi 10.1088/1361-6420/aa9a90.
    """
    lift = nn.Linear(shapes.input_size, settings.width)
    if settings.initial != "normal":
        nn.init.zeros_(lift.bias)
    if settings.initial == "uniform":
        nn.init.uniform_(lift.weight)
    elif settings.initial == "constant":
        nn.init.normal_(lift.weight, std=math.sqrt(2 / shapes.input_size))
    return Separable(
        nn.Sequential(nn.Flatten(), lift, nn.Tanh(), AntisymmetricFlow(settings)), dense_head(settings.width, shapes)
    )
