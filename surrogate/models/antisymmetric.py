"""Residual network with antisymmetric weights, integrated by the Runge-Kutta method of order 4."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from surrogate.models.field_heads import dense_head
from surrogate.models.registry import ModelSettings, Shapes, register
from surrogate.models.separable import Separable

__all__ = ["AntisymmetricFlow", "AntisymmetricSettings", "antisymmetric"]


class AntisymmetricSettings(ModelSettings):
    """Settings of the antisymmetric residual network.

    Arguments:
        width: Size of the state z.
        depth: Number of steps, each with weights of its own.
        final_time: Time T that the steps cover; a step has the size h = T / depth.
        damping: gamma, which moves the eigenvalues of the weights to the left of the imaginary axis.
        initial: Initial weights: `normal` with standard deviation 1 / width, or `uniform` in [0, 1] without biases, as
            in the experiments of the source, which makes features of many shapes for few inputs.
    """

    family: Literal["antisymmetric"] = "antisymmetric"
    width: int = Field(16, ge=2)
    depth: int = Field(8, ge=1)
    final_time: float = Field(4.0, gt=0)
    damping: float = Field(1e-4, ge=0)
    initial: Literal["normal", "uniform"] = "normal"


class AntisymmetricFlow(nn.Module):
    r"""The flow of :math:`z' = \tanh(A_j z + b_j)` with :math:`A_j = K_j - K_j^\top - \gamma I` on the j-th step.

    (B, width) -> (B, width). The Jacobian of the right-hand side is a positive diagonal matrix times A_j, whose
    eigenvalues have no positive real part, so that forward propagation is stable however deep the network is.

    Arguments:
        settings: Width, depth, final time, damping and initial weights.
    """

    def __init__(self, settings: AntisymmetricSettings) -> None:
        super().__init__()
        width, depth = settings.width, settings.depth
        uniform = settings.initial == "uniform"
        weights = torch.rand(depth, width, width) if uniform else torch.randn(depth, width, width) / width
        self.weights = nn.Parameter(weights)
        self.biases = nn.Parameter(torch.zeros(depth, width))
        self.step, self.damping = settings.final_time / depth, settings.damping

    def matrices(self) -> Tensor:
        """The matrices A_j transposed, which act on rows: (depth, width, width)."""
        K = self.weights
        return K.mT - K - self.damping * torch.eye(K.shape[1], dtype=K.dtype, device=K.device)

    def forward(self, z: Tensor) -> Tensor:
        h = self.step
        for A, b in zip(self.matrices(), self.biases, strict=True):
            first = torch.tanh(torch.addmm(b, z, A))
            second = torch.tanh(torch.addmm(b, z + 0.5 * h * first, A))
            third = torch.tanh(torch.addmm(b, z + 0.5 * h * second, A))
            fourth = torch.tanh(torch.addmm(b, z + h * third, A))
            z = z + h / 6 * (first + 2 * second + 2 * third + fourth)
        return z


@register(AntisymmetricSettings)
def antisymmetric(settings: AntisymmetricSettings, shapes: Shapes) -> Separable:
    r"""The residual network of slimTrain's dense surrogates.

    .. math:: z(0) = \tanh(K_\text{in} y + b_\text{in}), \qquad
              z' = \tanh\bigl((K(t) - K(t)^\top - \gamma I) z + b(t)\bigr), \qquad \text{output} = W z(T) + b

    (B, C, *input_grid) -> (B, width) -> RK4 steps -> (B, M, *S); K and b are constant over a step.

    Arguments:
        settings: Width, depth, final time and damping.
        shapes: Shapes of inputs and targets; fields are taken as vectors.

    Source: Newman, Chung, Chung, Ruthotto, slimTrain (2022), section 4.2; Haber and Ruthotto, Inverse Problems 34,
    2017, doi 10.1088/1361-6420/aa9a90.
    """
    lift = nn.Linear(shapes.input_size, settings.width)
    if settings.initial == "uniform":
        nn.init.uniform_(lift.weight)
        nn.init.zeros_(lift.bias)
    return Separable(
        nn.Sequential(nn.Flatten(), lift, nn.Tanh(), AntisymmetricFlow(settings)), dense_head(settings.width, shapes)
    )
