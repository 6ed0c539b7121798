"""Import paths of version 0.1, redirected to the current modules with a `DeprecationWarning`."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["MOVED", "install"]

MOVED = {
    "surrogate.checks": "surrogate.errors",
    "surrogate.convert": "surrogate.data.convert",
    "surrogate.evaluation.statistics": "surrogate.evaluation.bootstrap",
    "surrogate.executors": "surrogate.runtime.dask",
    "surrogate.generate": "surrogate.simulate.generate",
    "surrogate.pipelines": "surrogate.workflows",
    "surrogate.refit": "surrogate.optim.refit",
    "surrogate.slurm": "surrogate.workflows.slurm",
    "surrogate.training.optimizers": "surrogate.experiment.optimizers",
    "surrogate.training.settings": "surrogate.experiment.settings",
    "surrogate.varpro": "surrogate.optim.gnvpro",
}


class _MovedModules:
    """Import a moved module by its old name; it is the same object under both names.

    It has the methods of a finder and of a loader; the abstract classes of `importlib.abc` are slow to import.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = MOVED[spec.name]
        warnings.warn(f"{spec.name} is now {new}", DeprecationWarning, stacklevel=2)
        return ModuleType(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(MOVED[module.__name__])


def install() -> None:
    """Make the old import paths work."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())
