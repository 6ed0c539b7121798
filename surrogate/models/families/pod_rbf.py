"""Interpolation of POD coefficients by radial basis functions, as scipy's `RBFInterpolator` defines it."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from scipy import linalg
from torch import Tensor

from surrogate.errors import NumericalError
from surrogate.models.layers.fitted import FittedNetwork, ReducedNetwork, ReducedSettings, fit_network
from surrogate.models.registry import Batches, Shapes, register

__all__ = ["PodRbfSettings", "pod_rbf"]


RANK = 1e-6  # variation of inputs below this share of the largest is rounding of float32 data


class PodRbfSettings(ReducedSettings):
    """Settings of radial basis functions on POD coefficients.

    Arguments:
        kernel: Radial basis function phi(r): `linear` -r, `thin_plate_spline` r^2 log r, `cubic` r^3.
        smoothing: Added to the diagonal of the kernel matrix; 0 interpolates the training samples.
    """

    family: Literal["pod_rbf"] = "pod_rbf"
    modes: int | None = Field(16, ge=1)
    kernel: Literal["linear", "thin_plate_spline", "cubic"] = "thin_plate_spline"
    smoothing: float = Field(0.0, ge=0)


class _PodRbf(ReducedNetwork):
    """c(x) = sum_j phi(|x - x_j|) a_j + b_0 + b' x, the polynomial constant where there are few samples."""

    own: ClassVar[dict[str, str]] = {"centers": "nd", "weights": "nr", "constant": "r", "slope": "dr"}
    settings: PodRbfSettings
    centers: Tensor
    weights: Tensor
    constant: Tensor
    slope: Tensor

    def regression(self, x: Tensor) -> Tensor:
        return self._kernel(x) @ self.weights + self.constant + x @ self.slope

    def _kernel(self, x: Tensor) -> Tensor:
        r = torch.cdist(x, self.centers, compute_mode="donot_use_mm_for_euclid_dist")
        match self.settings.kernel:
            case "linear":
                return -r
            case "cubic":
                return r**3
        return torch.special.xlogy(r.square(), r)

    @torch.no_grad()
    def fit(self, batches: Batches) -> None:
        """Solve for the weights and the polynomial that they are orthogonal to.

        Raises:
            NumericalError: Two samples have the same inputs.
        """
        x, c, _ = self.reduce(batches)
        n = len(x)
        if len(torch.unique(x, dim=0)) < n and not self.settings.smoothing:
            raise NumericalError(
                "two training samples have the same inputs, and no radial basis functions meet both; set "
                "model.smoothing, or choose kernel_ridge"
            )
        _, values, V = torch.linalg.svd(x - x.mean(0), full_matrices=False)
        directions = V[values > RANK * values[0]].mT  # that the inputs vary in
        if n <= directions.shape[1] + 1:
            directions = directions[:, :0]
        self.assign(n, centers=x)
        P = torch.cat([torch.ones(n, 1, dtype=x.dtype), x @ directions], dim=1)
        kernel = self._kernel(x.to(self.samples.device)).cpu() + self.settings.smoothing * torch.eye(n, dtype=x.dtype)
        zeros = torch.zeros(P.shape[1], P.shape[1], dtype=x.dtype)
        system = torch.cat([torch.cat([kernel, P], 1), torch.cat([P.mT, zeros], 1)])
        right = torch.cat([c, torch.zeros(P.shape[1], c.shape[1], dtype=c.dtype)])
        solution = torch.as_tensor(linalg.solve(system.numpy(), right.numpy(), assume_a="sym"))
        self.assign(n, weights=solution[:n], constant=solution[n], slope=directions @ solution[n + 1 :])


@register(PodRbfSettings, prepare=fit_network)
def pod_rbf(settings: PodRbfSettings, shapes: Shapes) -> FittedNetwork:
    r"""Build an interpolation of the coefficients of POD modes by radial basis functions.

    .. math:: u(y) = \bar u + \Phi \Bigl( \sum_j \varphi(\|y - y_j\|) \, a_j + b_0 + B^\top y \Bigr), \qquad
              \sum_j a_j = 0, \quad \sum_j y_j a_j^\top = 0

    The linear term is taken along the directions in which the training inputs vary, and left out where there are not
    more samples than such directions and one.

    Arguments:
        settings: Radial basis function, smoothing, numbers of modes.
        shapes: Shapes of inputs and targets; fields are taken as vectors.

    Source: Wahba, *Spline models for observational data*, SIAM 1990; Walton, Hassan, Morgan, Applied Mathematical
    Modelling 37, 2013, doi 10.1016/j.apm.2013.04.025.
    """
    return _PodRbf(settings, shapes)
