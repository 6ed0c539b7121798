"""Checkpoints: safetensors and JSON with checksums, written beside and renamed, newest verified one found again."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from surrogate.errors import ConfigError, DataError, ResourceError
from surrogate.files import fsync_path, read_pointer, replacing, sha256
from surrogate.models.surrogate import BEST, DESCRIPTION, FINAL, WEIGHTS, Surrogate, chosen_checkpoint

__all__ = ["CheckpointFolder", "pack", "unpack"]

MANIFEST, STATE, OPTIMIZER, LATEST = "MANIFEST.json", "state.json", "optim.safetensors", "LATEST"


def pack(state: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """Split a nested state into JSON and named tensors; `unpack` puts it together again exactly."""
    if isinstance(state, Tensor):
        tensors[path] = state.detach().cpu().contiguous()
        return {"tensor": path}
    if isinstance(state, dict):
        return {"dict": [[key, pack(value, tensors, f"{path}/{key}")] for key, value in state.items()]}
    if isinstance(state, list | tuple):
        items = [pack(value, tensors, f"{path}/{index}") for index, value in enumerate(state)]
        return {"tuple" if isinstance(state, tuple) else "list": items}
    if state is None or isinstance(state, bool | int | float | str):
        return {"value": state}
    raise TypeError(
        f"state at {path or 'its root'} holds a {type(state).__name__}; only tensors and plain values are kept"
    )


def unpack(node: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `pack`."""
    ((kind, content),) = node.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "dict":
            return {key: unpack(value, tensors) for key, value in content}
        case "list":
            return [unpack(value, tensors) for value in content]
        case "tuple":
            return tuple(unpack(value, tensors) for value in content)
        case "value":
            return content
    raise KeyError(kind)


class CheckpointFolder:
    """The checkpoints of one run: `step-00000120/`, `final/`, and the files `LATEST` and `BEST` that name a step.

    Arguments:
        path: Folder that holds them; made at the first save.
        keep: Number of newest checkpoints kept beside the best one.
    """

    def __init__(self, path: Path, *, keep: int = 2) -> None:
        self.path = path
        self.keep = keep

    def save(self, step: int, surrogate: Surrogate, state: dict[str, Any], *, best: bool) -> Path:
        """Write a checkpoint of a step whole or not at all.

        Raises:
            ResourceError: The disk is full or refuses; earlier checkpoints are intact.
        """
        target = self._write(f"step-{step:08d}", surrogate, state)
        if best:
            self._point(BEST, target)
        self._point(LATEST, target)
        self._prune()
        return target

    def save_final(self, surrogate: Surrogate) -> Path:
        """Write the model that a run ends with, which then stands before the best one; training never resumes from it.

        Raises:
            ResourceError: The disk is full or refuses; earlier checkpoints are intact.
        """
        return self._write(FINAL, surrogate, {})

    def _write(self, name: str, surrogate: Surrogate, state: dict[str, Any]) -> Path:
        target = self.path / name
        part = self.path / f".{target.name}.part"
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            _fill(part, surrogate, state)
            if target.exists():  # written before an interruption; replace it by the same state
                shutil.rmtree(target)
            os.replace(part, target)
            fsync_path(self.path)
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(part, ignore_errors=True)
            raise ResourceError(f"cannot write checkpoint {target}: {error}; earlier checkpoints are intact") from error
        return target

    def latest(self) -> Path | None:
        """The newest checkpoint that passes its checksums; damaged ones are passed over with a warning."""
        for folder in sorted(self.path.glob("step-*"), reverse=True):
            try:
                verify(folder)
                return folder
            except DataError as error:
                warnings.warn(f"{error}; falling back to an earlier checkpoint", stacklevel=2)
        return None

    def best(self) -> Path:
        """The final model where there is one, otherwise the checkpoint with the lowest validation loss.

        Raises:
            ConfigError: There is none yet.
            DataError: It is damaged.
        """
        folder = chosen_checkpoint(self.path)
        if folder is None:
            raise ConfigError(f"no finished checkpoint in {self.path}; run `surrogate train` first")
        verify(folder)
        return folder

    def point_best(self, step: int) -> None:
        """Let `BEST` name the checkpoint of a step, as it may not after a kill between the two writes."""
        target = self.path / f"step-{step:08d}"
        if target.is_dir():
            self._point(BEST, target)

    def load_best_of_training(self, surrogate: Surrogate) -> None:
        """Load the weights with the lowest validation loss, whatever came after training."""
        surrogate.load_state_dict(load_file(read_pointer(self.path / BEST) / WEIGHTS))

    def _point(self, name: str, target: Path) -> None:
        with replacing(self.path / name) as part:
            part.write_text(target.name + "\n", encoding="utf-8")

    def _prune(self) -> None:
        named = {
            path.read_text(encoding="utf-8").strip()
            for path in (self.path / BEST, self.path / LATEST)
            if path.is_file()
        }
        for folder in sorted(self.path.glob("step-*"))[: -self.keep]:
            if folder.name not in named:
                shutil.rmtree(folder)


def load_state(folder: Path, surrogate: Surrogate) -> dict[str, Any]:
    """Restore the surrogate's weights from a verified checkpoint and return the rest of the training state."""
    surrogate.load_state_dict(load_file(folder / WEIGHTS))
    tree = json.loads((folder / STATE).read_text(encoding="utf-8"))
    loaded = load_file(folder / OPTIMIZER)  # views at odd addresses, where dot products round otherwise
    state: dict[str, Any] = unpack(tree, {name: tensor.clone() for name, tensor in loaded.items()})
    return state


def verify(folder: Path) -> None:
    """Check every file of a checkpoint against its manifest.

    Raises:
        DataError: A file is missing, changed or not listed as a plain name.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        missing = {DESCRIPTION, WEIGHTS, OPTIMIZER, STATE} - manifest.keys()
        if missing:
            raise DataError(f"checkpoint {folder} is damaged: {', '.join(sorted(missing))} not listed in {MANIFEST}")
        for name, expected in manifest.items():
            if Path(name).name != name or sha256(folder / name) != expected:
                raise DataError(f"checkpoint {folder} is damaged: {name} differs from its checksum")
    except (OSError, json.JSONDecodeError, AttributeError) as error:
        raise DataError(f"checkpoint {folder} is damaged: {str(error).splitlines()[0]}") from error


def _fill(folder: Path, surrogate: Surrogate, state: dict[str, Any]) -> None:
    surrogate.save(folder)
    tensors: dict[str, Tensor] = {}
    tree = pack(state, tensors)
    save_file({name: _own(value) for name, value in tensors.items()}, folder / OPTIMIZER)
    (folder / STATE).write_text(json.dumps(tree), encoding="utf-8")
    sums = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(json.dumps(sums, indent=2), encoding="utf-8")
    for path in folder.iterdir():
        fsync_path(path)


def _own(tensor: Tensor) -> Tensor:
    """safetensors refuses tensors that share storage."""
    return tensor.clone(memory_format=torch.contiguous_format)
