"""Notice the unrelated package `surrogate` of the Python Package Index, which installs a module of the same name."""

from __future__ import annotations

import warnings
from importlib.metadata import PackageNotFoundError, version

__all__ = ["warn_of_namesake"]


def warn_of_namesake() -> None:
    """Warn if that package is installed in this environment: its files and ours overwrite each other."""
    try:
        other = version("surrogate")
    except PackageNotFoundError:
        return
    warnings.warn(
        f"the unrelated package surrogate {other} is installed here too and overwrites files of slim-surrogate; run "
        "`pip uninstall surrogate`, then install slim-surrogate again"
    )
