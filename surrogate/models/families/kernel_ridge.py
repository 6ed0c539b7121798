"""Kernel ridge regression, as scikit-learn fits it, on inputs and targets that may be reduced to modes."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from surrogate.models.layers.fitted import FittedNetwork, ReducedNetwork, ReducedSettings, fit_network
from surrogate.models.registry import Batches, Shapes, register

__all__ = ["ALPHAS", "FOLDS", "LENGTHS", "KernelRidgeSettings", "kernel_ridge", "left_out_errors", "median_distance"]

LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # searched, in units of the median distance between inputs
ALPHAS = (1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2)  # searched
FOLDS = 5  # of a single simulation
SEARCHED = 500  # most samples on which length and alpha are searched


class KernelRidgeSettings(ReducedSettings):
    """Settings of kernel ridge regression.

    Arguments:
        length: Length l of the kernel, in normalised units; None searches it by leaving out each simulation in turn.
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
        length, alpha = lengths[0], alphas[0]
        if len(lengths) * len(alphas) > 1:
            some = np.linspace(0, len(x) - 1, min(SEARCHED, len(x))).astype(int)
            groups = simulation[some]
            if len(np.unique(groups)) == 1:
                groups = np.arange(len(some)) * FOLDS // len(some)  # of one simulation, successive samples
            scores = left_out_errors(x[some], c[some], groups, lengths, alphas)
            best = np.unravel_index(np.argmin(scores), scores.shape)
            length, alpha = lengths[best[0]], alphas[best[1]]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Singular matrix")  # scikit-learn then takes the least-squares solution
            sklearn = importlib.import_module("sklearn.kernel_ridge")  # takes a second, which few runs need
            model = sklearn.KernelRidge(kernel="rbf", gamma=0.5 / length**2, alpha=alpha).fit(x, c)
        self.assign(len(x), centers=x, dual=model.dual_coef_, length=length)


def left_out_errors(
    x: np.ndarray, c: np.ndarray, groups: np.ndarray, lengths: Sequence[float], alphas: Sequence[float]
) -> np.ndarray:
    r"""Return the mean squared error of kernel ridge regression on each group left out, without fitting anew.

    With :math:`A = (K + \alpha I)^{-1}` the residual of a group G that is left out is

    .. math:: c_G - \hat c_G = (A_{GG})^{-1} (A c)_G .

    Arguments:
        x: Inputs, with shape (n, d).
        c: Targets, with shape (n, r).
        groups: Label of the group of each sample, with shape (n,).
        lengths: Lengths of the kernel.
        alphas: Penalties.

    Returns:
        With shape (lengths, alphas).

    Source: An, Liu, Venkatesh, Fast cross-validation algorithms for least squares support vector machine and kernel
    ridge regression, 2007.
    """
    size = c.size
    if c.shape[1] > len(x):  # squared sums over the r targets are those over their coordinates in an orthonormal basis
        u, s, _ = np.linalg.svd(c, full_matrices=False)
        c = u * s
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    rows = torch.from_numpy(x)
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").numpy()
    errors = np.empty((len(lengths), len(alphas)))
    for row, length in enumerate(lengths):
        values, vectors = np.linalg.eigh(np.exp(-0.5 * (distances / length) ** 2))
        rotated = vectors.T @ c
        for column, alpha in enumerate(alphas):
            inverse = 1.0 / (np.maximum(values, 0.0) + alpha)
            dual = vectors @ (inverse[:, None] * rotated)
            left = (np.linalg.solve((vectors[g] * inverse) @ vectors[g].T, dual[g]) for g in members)
            errors[row, column] = sum(float((part**2).sum()) for part in left) / size
    return errors


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
