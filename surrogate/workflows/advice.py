"""Say what is worth a try on new data before any network, and how to score it."""

from __future__ import annotations

import warnings

import numpy as np

from surrogate.config import parse_yaml
from surrogate.errors import ConfigError, DataError
from surrogate.models.signature import signature_of
from surrogate.workflows.candidates import fitting_families
from surrogate.workflows.compare import FEW, FOLDS
from surrogate.workflows.starter import open_section

__all__ = ["advice"]


def advice(data: str, config: str = "mine.yaml") -> list[str]:
    """Return lines on the surrogates to try first, with few simulations also on cross-validation.

    Arguments:
        data: A `data:` section as `inspect` proposes it.
        config: Name of the configuration in the lines.

    Returns:
        Nothing where the section asks a question or cannot be opened, or meshes differ between simulations.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds, stream = open_section(data)
            signature = signature_of(stream, ds)
    except (ConfigError, DataError):
        return []
    by = parse_yaml(data, "data").tree["data"].get("by")
    simulations = len(np.unique(ds[by].values)) if by else int(ds.sizes["sample"])
    if simulations < 2 or "linear" not in fitting_families(signature.shapes):
        return []
    if {*signature.targets} <= {*signature.inputs}:
        first = "projection onto as many POD modes as an autoencoder would have latent numbers (pod_rbf)"
    elif not stream.inputs.dims:
        modes = " on POD modes" if stream.targets.dims else ""
        first = f"Gaussian processes (pod_gp) or radial basis functions (pod_rbf){modes}, kernel ridge (kernel_ridge)"
    else:
        baseline = "persistence, " if signature.shapes.latest else ""
        first = f"{baseline}ridge regression (linear), kernel ridge (kernel_ridge)"
    if not {*signature.targets} <= {*signature.inputs}:
        first += " and random features (elm)"
    lines = [f"with {simulations} simulations, before any network, try what is fitted in seconds: {first}"]
    how = f"by {FOLDS}-fold cross-validation, since a test part of so few says little" if simulations < FEW else ""
    return [
        *lines,
        f"`surrogate compare {config}` fits these first, then trains networks, and ranks all {how}".rstrip(),
    ]
