"""Surrogate models of PDE simulations when simulations are few."""

import importlib
from typing import Any

from surrogate.moved import install

__version__ = "0.2.0"

# Public names and the packages that define them; imported at first use, so that `import surrogate` is fast.
_PUBLIC = {
    "Project": "surrogate.api",
    "Run": "surrogate.api",
    "compare": "surrogate.api",
    "inspect": "surrogate.api",
    "make_data": "surrogate.api",
    "make_report": "surrogate.api",
    "run": "surrogate.api",
    "train": "surrogate.api",
    "ConfigError": "surrogate.errors",
    "DataError": "surrogate.errors",
    "DataSettings": "surrogate.data",
    "GNvpro": "surrogate.optim",
    "Mapping": "surrogate.data",
    "SlimTrain": "surrogate.optim",
    "Stream": "surrogate.data",
    "Surrogate": "surrogate.models",
    "NumericalError": "surrogate.errors",
    "SurrogateError": "surrogate.errors",
    "open_snapshots": "surrogate.data",
    "predict": "surrogate.prediction",
    "refit": "surrogate.optim",
    "separate": "surrogate.models",
}

__all__ = ["__version__", *_PUBLIC]

install()


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'surrogate' has no attribute '{name}'")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
