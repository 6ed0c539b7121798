"""Notice the unrelated package `surrogate` of the Python Package Index, which installs a module of the same name."""

from __future__ import annotations

import glob
import os
import sys
import warnings

__all__ = ["warn_of_namesake"]


def warn_of_namesake() -> None:
    """Warn if that package is installed in this environment: its files and ours overwrite each other.

    Its metadata are looked for by name, since `importlib.metadata` takes longer to import than the rest of a command.
    """
    folders = [glob.escape(folder) for folder in sys.path]
    installed = (path for folder in folders for path in glob.iglob(os.path.join(folder, "surrogate-*.dist-info")))
    if (other := next(installed, None)) is None:
        return
    version = os.path.basename(other).removeprefix("surrogate-").removesuffix(".dist-info")
    warnings.warn(
        f"the unrelated package surrogate {version} is installed here too and overwrites files of slim-surrogate; run "
        "`pip uninstall surrogate`, then install slim-surrogate again"
    )
