"""Kernel ridge regression, as scikit-learn fits it, on inputs and targets that may be reduced to modes."""

from __future__ import annotations

import warnings
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold
from torch import Tensor

from surrogate.models.layers.fitted import FittedNetwork, ReducedNetwork, ReducedSettings, fit_network
from surrogate.models.registry import Batches, Shapes, register

__all__ = ["ALPHAS", "FOLDS", "LENGTHS", "KernelRidgeSettings", "kernel_ridge", "median_distance"]

LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # searched, in units of the median distance between inputs
ALPHAS = (1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2)  # searched
FOLDS = 5
SEARCHED = 500  # most samples on which length and alpha are searched


class KernelRidgeSettings(ReducedSettings):
    """Settings of kernel ridge regression.

    Arguments:
        length: Length l of the kernel, in normalised units; None searches it by cross-validation over simulations.
        alpha: Penalty; None searches it likewise.
    """

    family: Literal["kernel_ridge"] = "kernel_ridge"
    length: float | None = Field(None, gt=0)
    alpha: float | None = Field(None, gt=0)


class _KernelRidge(ReducedNetwork):
    """c(x) = sum_j k(x, x_j) a_j with the Gaussian kernel k."""

    own: ClassVar[dict[str, str]] = {"centers": "nd", "dual": "nr", "length": ""}
    settings: KernelRidgeSettings
    centers: Tensor
    dual: Tensor
    length: Tensor

    def regression(self, x: Tensor) -> Tensor:
        distances = torch.cdist(x, self.centers, compute_mode="donot_use_mm_for_euclid_dist")
        return torch.exp(-0.5 * (distances / self.length).square()) @ self.dual

    def fit(self, batches: Batches) -> None:
        """Search length and penalty where they are not given, then solve for the dual coefficients."""
        x, c, simulation = (part.numpy() for part in self.reduce(batches))
        settings = self.settings
        lengths = [settings.length] if settings.length else [share * median_distance(x) for share in LENGTHS]
        alphas = [settings.alpha] if settings.alpha else list(ALPHAS)
        grid = {"gamma": [0.5 / length**2 for length in lengths], "alpha": alphas}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Singular matrix")  # scikit-learn then takes the least-squares solution
            if len(lengths) * len(alphas) > 1:
                some = np.linspace(0, len(x) - 1, min(SEARCHED, len(x))).astype(int)
                groups = len(np.unique(simulation[some]))
                folds = GroupKFold(min(FOLDS, groups)) if groups > 1 else KFold(min(FOLDS, len(some)))
                kernel, error = KernelRidge(kernel="rbf"), "neg_mean_squared_error"  # on simulations left out
                search = GridSearchCV(kernel, grid, cv=folds, scoring=error, refit=False)
                best = search.fit(x[some], c[some], groups=simulation[some]).best_params_
            else:
                best = {name: values[0] for name, values in grid.items()}
            model = KernelRidge(kernel="rbf", **best).fit(x, c)
        self.assign(len(x), centers=x, dual=model.dual_coef_, length=(0.5 / best["gamma"]) ** 0.5)


def median_distance(x: np.ndarray) -> float:
    """Return the median distance between different rows of x (n, d); 1 where all are equal."""
    rows = torch.as_tensor(x[np.linspace(0, len(x) - 1, min(SEARCHED, len(x))).astype(int)])
    distances = torch.pdist(rows)
    positive = distances[distances > 0]
    return float(positive.median()) if len(positive) else 1.0


@register(KernelRidgeSettings, prepare=fit_network)
def kernel_ridge(settings: KernelRidgeSettings, shapes: Shapes) -> FittedNetwork:
    r"""Build a kernel ridge regression with a Gaussian kernel.

    .. math:: u(y) = \bar u + \sum_j k(y, y_j) \, a_j, \qquad k(y, y') = e^{-\|y - y'\|^2 / 2 l^2}, \qquad
              (K + \alpha I) \, a = U - \bar u

    Arguments:
        settings: Length and penalty, numbers of modes.
        shapes: Shapes of inputs and targets; fields are taken as vectors.

    Source: Murphy, *Machine learning: a probabilistic perspective*, MIT Press 2012, section 14.4.3.
    """
    return _KernelRidge(settings, shapes)
