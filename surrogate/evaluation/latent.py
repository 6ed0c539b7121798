"""Latent space of an autoencoder: coordinates of samples along its first principal components."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from surrogate.batch import Batch
from surrogate.evaluation.evaluate import Predict
from surrogate.evaluation.table import Labels, Rows, grid

__all__ = ["Codes", "bottleneck", "latent_space", "principal_components"]


def bottleneck(network: nn.Module) -> nn.Linear | None:
    """Return the narrowest dense layer of a network, the latent space of an autoencoder; None where none narrows."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    narrow = [layer for layer in layers if layer.out_features < layer.in_features]
    return min(narrow, key=lambda layer: layer.out_features, default=None)


def principal_components(codes: np.ndarray, *, count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates along the directions of largest variance, and the share of the variance of each.

    Signs are chosen so that the largest entry of every direction is positive.

    Arguments:
        codes: Latent vectors, with shape (n, K).
        count: Number of components; fewer where K or n has fewer.

    Returns:
        Scores with shape (n, count) and shares with shape (count,); shares are NaN where nothing varies.
    """
    centred = codes - codes.mean(0)
    left, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(1)])
    total = (sizes**2).sum()
    shares = sizes**2 / total if total > 0 else np.full(len(sizes), np.nan)
    return (left * sizes * signs)[:, :count], shares[:count]


class Codes:
    """Recorder of the outputs of a layer for every sample, by a forward hook while the network runs.

    Arguments:
        layer: Its output has shape (B, K).
    """

    def __init__(self, layer: nn.Module) -> None:
        self._caught: Tensor | None = None
        self._rows = Rows()
        self._handle = layer.register_forward_hook(self._catch)

    def _catch(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._caught = output.detach()

    def add(self, batch: Batch) -> None:
        """Keep the output of the layer for the batch on which the network has just run."""
        if self._caught is None:
            raise ValueError("the layer has not run; run the network on the batch first")
        codes = self._caught.double().cpu().numpy().reshape(len(batch), -1)
        self._rows.add({"latent": codes, "sample": batch.sample.cpu().numpy(), "step": batch.time.cpu().numpy()})
        self._caught = None

    def close(self) -> None:
        """Remove the hook."""
        self._handle.remove()

    def dataset(self, labels: Labels) -> xr.Dataset:
        """Return the principal components of all outputs, as `latent_space` does."""
        columns = self._rows.columns()
        size = columns["latent"].shape[1]
        columns["latent"], shares = principal_components(columns["latent"])
        coords = {"variable": list(labels.variables), "component": np.arange(1, len(shares) + 1)}
        result = labels.put_on(grid(columns, {"latent": ("component",)}, coords))
        return result.assign(explained=("component", shares)).assign_attrs(latent_size=size)


def latent_space(predict: Predict, layer: nn.Module, batches: Iterable[Batch], labels: Labels) -> xr.Dataset:
    """Compute the principal components of the outputs of a layer over all samples of a stream.

    Arguments:
        predict: Runs the network that contains the layer.
        layer: Its output has shape (B, K).
        batches: The samples.
        labels: Names of variables, times and simulations.

    Returns:
        `latent` with dimensions (sample, time, component), and `explained` (component,), the share of the variance.
    """
    codes = Codes(layer)
    try:
        for batch in batches:
            with torch.no_grad():
                predict(batch.inputs)
            codes.add(batch)
    finally:
        codes.close()
    return codes.dataset(labels)
