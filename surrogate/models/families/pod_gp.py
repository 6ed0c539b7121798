"""Gaussian processes for POD coefficients, as scikit-learn fits them: one for each mode, with standard deviations."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from surrogate.models.layers.fitted import FittedNetwork, ReducedNetwork, ReducedSettings, fit_network
from surrogate.models.registry import Batches, Shapes, register

__all__ = ["JITTER", "PodGpSettings", "gp_kernel", "pod_gp"]

SKLEARN = "sklearn.gaussian_process"  # imported by a fit: it takes a second, which few runs need
FEW = 10  # inputs up to which each has a length of its own
LENGTH, NOISE = (1e-2, 1e4), (1e-12, 1.0)  # bounds of the search, in normalised units
EDGE = 1e-3  # relative distance from a bound that counts as being on it
JITTER = 1e-10  # added to the diagonal of the kernel matrix, scikit-learn's default


class PodGpSettings(ReducedSettings):
    """Settings of Gaussian processes on POD coefficients.

    Arguments:
        kernel: Covariance of a coefficient: squared exponential or Matern 5/2.
        lengths: One length for each input, or one for all; `auto` takes each up to 10 inputs.
        restarts: Further random starts of the search for the hyperparameters, from a fixed seed.
    """

    family: Literal["pod_gp"] = "pod_gp"
    modes: int | None = Field(16, ge=1)
    samples: int = Field(500, ge=2)
    kernel: Literal["gaussian", "matern52"] = "gaussian"
    lengths: Literal["auto", "each", "one"] = "auto"
    restarts: int = Field(1, ge=0)


def gp_kernel(settings: PodGpSettings, inputs: int) -> Any:
    """Return scikit-learn's kernel of the settings for so many inputs: variance times correlation, plus noise."""
    each = settings.lengths == "each" or (settings.lengths == "auto" and inputs <= FEW)
    lengths = np.ones(inputs) * inputs**0.5 if each else inputs**0.5  # distances grow with the number of inputs
    kernels = importlib.import_module(f"{SKLEARN}.kernels")
    gaussian = settings.kernel == "gaussian"
    shape = kernels.RBF(lengths, LENGTH) if gaussian else kernels.Matern(lengths, LENGTH, nu=2.5)
    return kernels.ConstantKernel(1.0, (1e-4, 1e6)) * shape + kernels.WhiteKernel(1e-6, NOISE)


class _PodGp(ReducedNetwork):
    """Posterior mean and variance of every coefficient, with the hyperparameters of largest marginal likelihood."""

    own: ClassVar[dict[str, str]] = {
        "centers": "nd",
        "lengths": "rd",
        "variance": "r",
        "noise": "r",
        "shift": "r",
        "scale": "r",
        "dual": "nr",
        "factor": "rnn",  # Cholesky factor of the kernel matrix of each coefficient
    }
    settings: PodGpSettings
    centers: Tensor
    lengths: Tensor
    variance: Tensor
    noise: Tensor
    shift: Tensor
    scale: Tensor
    dual: Tensor
    factor: Tensor

    has_std = True

    def regression(self, x: Tensor) -> Tensor:
        c = torch.einsum("rbn,nr->br", self._covariance(x), self.dual)
        return c * self.scale + self.shift

    def std(self, inputs: Tensor) -> Tensor:
        """Return the standard deviation of the field: of the coefficients, and of the variance outside the modes."""
        k = self._covariance(self.reduced(inputs))
        v = torch.linalg.solve_triangular(self.factor, k.mT, upper=False)  # (r, n, B)
        variances = (self.variance + self.noise)[:, None] - v.square().sum(1)
        variances = (variances.clamp(min=0.0) * self.scale.square()[:, None]).mT  # (B, r)
        if self.reduces_targets:
            variances = variances @ self.modes.square().mT + self.left_out
        return variances.sqrt().unflatten(1, (self.shapes.outputs, *self.shapes.grid)).to(inputs.dtype)

    def _covariance(self, x: Tensor) -> Tensor:
        """Return the covariance of every coefficient at x (B, d) with that at the training samples: (r, B, n)."""
        scaled, centers = x / self.lengths[:, None], self.centers / self.lengths[:, None]
        r = torch.cdist(scaled, centers, compute_mode="donot_use_mm_for_euclid_dist")
        if self.settings.kernel == "gaussian":
            return self.variance[:, None, None] * torch.exp(-0.5 * r.square())
        s = 5**0.5 * r
        return self.variance[:, None, None] * (1 + s + s.square() / 3) * torch.exp(-s)

    def fit(self, batches: Batches) -> None:
        """Maximise the marginal likelihood of every coefficient by scikit-learn."""
        x, c, _ = (part.numpy() for part in self.reduce(batches, matrices=3 + (self.settings.modes or 1)))
        varies = x.any(0) if x.any() else np.ones(x.shape[1], dtype=bool)  # constant inputs have weight 0
        processes = []
        sklearn, exceptions = map(importlib.import_module, (SKLEARN, "sklearn.exceptions"))
        with warnings.catch_warnings():
            # of every bound; those that matter are named below
            warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
            for column in c.T:
                process = sklearn.GaussianProcessRegressor(
                    gp_kernel(self.settings, int(varies.sum())),
                    alpha=JITTER,
                    normalize_y=True,
                    n_restarts_optimizer=self.settings.restarts,
                    random_state=0,
                )
                processes.append(process.fit(x[:, varies], column))
        kernels = [process.kernel_ for process in processes]
        _warn_of_bounds(kernels)
        lengths = np.ones((len(kernels), x.shape[1]))
        lengths[:, varies] = [np.broadcast_to(kernel.k1.k2.length_scale, varies.sum()) for kernel in kernels]
        self.assign(
            len(x),
            centers=x,
            lengths=lengths,
            variance=np.array([kernel.k1.k1.constant_value for kernel in kernels]),
            noise=np.array([kernel.k2.noise_level for kernel in kernels]),
            shift=c.mean(0),
            scale=np.where(c.std(0) > 0, c.std(0), 1.0),
            dual=np.stack([process.alpha_ for process in processes], axis=1),
            factor=np.stack([process.L_ for process in processes]),
        )


def _warn_of_bounds(kernels: Sequence[Any]) -> None:
    """Warn of hyperparameters that ended at a bound at which a process explains nothing.

    A length at its upper bound means that the coefficient does not depend on that input, and a noise at its lower one
    that the data have none; neither is a fault.
    """
    short = [k for k, kernel in enumerate(kernels, 1) if np.any(kernel.k1.k2.length_scale <= (1 + EDGE) * LENGTH[0])]
    noisy = [k for k, kernel in enumerate(kernels, 1) if kernel.k2.noise_level >= (1 - EDGE) * NOISE[1]]
    for modes, what in ((short, "length is at its lower bound"), (noisy, "noise is at its upper bound")):
        if modes:
            warnings.warn(
                f"pod_gp: for {len(modes)} of {len(kernels)} modes ({', '.join(map(str, modes[:8]))}) the {what}: "
                "these coefficients look like noise; give fewer model.modes, or more simulations"
            )


@register(PodGpSettings, prepare=fit_network)
def pod_gp(settings: PodGpSettings, shapes: Shapes) -> FittedNetwork:
    r"""Build independent Gaussian processes for the coefficients of POD modes.

    .. math:: u(y) = \bar u + \Phi \, c(y), \qquad c_k \sim \mathcal{GP}\bigl(0, \; s_k^2 \, \rho(\|y - y'\|_{l_k})
              + \eta_k^2 \, \delta_{y y'}\bigr)

    The prediction is the posterior mean; its standard deviation holds the noise and the variance outside the modes.

    Arguments:
        settings: Kernel, numbers of modes.
        shapes: Shapes of inputs and targets; fields are taken as vectors.

    Source: Rasmussen, Williams, *Gaussian processes for machine learning*, MIT Press 2006, chapters 2 and 5; with POD
    Guo, Hesthaven, Comput. Methods Appl. Mech. Eng. 341, 2018, doi 10.1016/j.cma.2018.07.017.
    """
    return _PodGp(settings, shapes)
