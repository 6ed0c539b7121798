"""Write the log for TensorBoard, as a callback."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from surrogate.errors import ConfigError

__all__ = ["to_tensorboard"]


def to_tensorboard(wanted: bool, folder: Path) -> list[Callable[[Any, dict[str, Any]], None]]:
    """Return a callback that writes every number of the log into a folder; no callback where not wanted.

    Raises:
        ConfigError: The package is not installed.
    """
    if not wanted:
        return []
    if importlib.util.find_spec("tensorboard") is None:
        raise ConfigError(
            "training.tensorboard: the package tensorboard is not installed; "
            "pip install 'slim-surrogate[tensorboard]', or set it to false"
        )
    writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
    opened: list[Any] = []  # on the first record, since the run folder is claimed before

    def write(_trainer: Any, record: dict[str, Any]) -> None:
        if not opened:
            opened.append(writer(str(folder), flush_secs=10))
        for name, value in record.items():
            if isinstance(value, int | float) and name != "step":
                opened[0].add_scalar(f"{record['event']}/{name}", value, record.get("step", 0))

    return [write]
