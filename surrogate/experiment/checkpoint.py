"""Checkpoints: safetensors and JSON with checksums, written as a unit; resuming takes the newest intact one."""

from __future__ import annotations

import json
import math
import shutil
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from surrogate.errors import ConfigError, DataError, ResourceError
from surrogate.files import MANIFEST, read_json, read_pointer, replacing_folder, verify_manifest, write_pointer
from surrogate.models.surrogate import BEST, DESCRIPTION, FINAL, WEIGHTS, Surrogate, chosen_checkpoint

__all__ = ["CheckpointFolder", "load_state", "pack", "unpack", "verify"]

STATE, OPTIMIZER, LATEST = "state.json", "optim.safetensors", "LATEST"
WRITING = 0.05  # most of the time that checkpoints may take


def pack(state: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """Split a nested state into JSON, which is returned, and named tensors; `unpack` inverts it exactly."""
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
    """Return the state that `pack` has split."""
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


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint of a step holds, copied to the memory of the host.

    Arguments:
        step: The step.
        surrogate: The surrogate, whose present weights may be later ones.
        weights: Its weights at that step.
        state: The rest of the state of training, without its tensors.
        tensors: The tensors of the state.
    """

    step: int
    surrogate: Surrogate
    weights: dict[str, Tensor]
    state: Any
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, step: int, surrogate: Surrogate, state: dict[str, Any]) -> Snapshot:
        """Copy a surrogate and the rest of the state of training."""
        packed: dict[str, Tensor] = {}
        tree = pack(state, packed)
        # a copy of each, also since safetensors refuses tensors that share storage
        weights, tensors = (
            {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in part.items()}
            for part in (surrogate.state_dict(), packed)
        )
        return cls(step, surrogate, weights, tree, tensors)


class CheckpointFolder:
    """The checkpoints of one run: `step-00000120/`, `final/`, and the files `LATEST` and `BEST` that name a step.

    Arguments:
        path: Folder that holds them; made at the first save.
        keep: Number of newest checkpoints kept next to the best one.
    """

    def __init__(self, path: Path, *, keep: int = 2) -> None:
        self.path = path
        self.keep = keep
        self._held: Snapshot | None = None
        self._due = -math.inf

    @property
    def steps(self) -> list[Path]:
        """The checkpoints of training, newest first."""
        return sorted(self.path.glob("step-*"), reverse=True)

    @property
    def due(self) -> bool:
        """Return True if a checkpoint now would leave at most 5 % of the time to the writing of checkpoints."""
        return time.monotonic() >= self._due

    def hold(self, step: int, surrogate: Surrogate, state: dict[str, Any]) -> None:
        """Keep the checkpoint of a step in memory as the best so far, until the next one is written."""
        self._held = Snapshot.of(step, surrogate, state)

    def save(self, step: int, surrogate: Surrogate, state: dict[str, Any], *, best: bool) -> Path:
        """Write a checkpoint of a step as a unit, and before it the best one if that is still in memory alone.

        Raises:
            ResourceError: The disk is full or refuses; earlier checkpoints are intact.
        """
        began = time.monotonic()
        if best:  # the one that is held is no longer the best
            self._held = None
        self.write_held()
        target = self._write_step(Snapshot.of(step, surrogate, state), best=best)
        now = time.monotonic()
        self._due = now + (now - began) / WRITING
        return target

    def write_held(self) -> None:
        """Write the best checkpoint if it is in memory alone.

        Raises:
            ResourceError: The disk is full or refuses; earlier checkpoints are intact.
        """
        if self._held is not None:
            self._write_step(self._held, best=True)
            self._held = None

    def _write_step(self, snapshot: Snapshot, *, best: bool) -> Path:
        target = self._write(f"step-{snapshot.step:08d}", snapshot)
        if best:
            write_pointer(self.path / BEST, target)
        write_pointer(self.path / LATEST, target)
        self._prune()
        return target

    def save_final(self, surrogate: Surrogate) -> Path:
        """Write the model that a run ends with; it is used in place of the best one, training never resumes from it.

        Raises:
            ResourceError: The disk is full or refuses; earlier checkpoints are intact.
        """
        return self._write(FINAL, Snapshot.of(0, surrogate, {}))

    def _write(self, name: str, snapshot: Snapshot) -> Path:
        target = self.path / name
        try:
            with replacing_folder(target) as part:
                snapshot.surrogate.save(part, snapshot.weights)
                save_file(snapshot.tensors, part / OPTIMIZER)
                (part / STATE).write_text(json.dumps(snapshot.state), encoding="utf-8")
        except (ResourceError, SafetensorError) as error:
            raise ResourceError(f"cannot write checkpoint {target}: {error}; earlier checkpoints are intact") from error
        return target

    def intact(self) -> Iterator[Path]:
        """Yield the checkpoints that pass their checksums, newest first; warn about those that do not."""
        for folder in self.steps:
            try:
                verify(folder)
            except DataError as error:
                warnings.warn(f"{error}; falling back to an earlier checkpoint", stacklevel=2)
            else:
                yield folder

    def latest(self) -> Path | None:
        """Return the newest checkpoint that passes its checksums; None if there is none."""
        return next(self.intact(), None)

    def best(self) -> Path:
        """Return the final model where there is one, otherwise the checkpoint with the lowest validation loss.

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
        """Let `BEST` name the checkpoint of a step; a kill between the two writes leaves an older one there."""
        target = self.path / f"step-{step:08d}"
        if (target / MANIFEST).is_file():
            write_pointer(self.path / BEST, target)

    def load_best_of_training(self, surrogate: Surrogate) -> None:
        """Load the weights with the lowest validation loss, whatever came after training.

        Raises:
            DataError: They are damaged.
        """
        folder = read_pointer(self.path / BEST)
        verify(folder)
        surrogate.load_state_dict(load_file(folder / WEIGHTS))

    def _prune(self) -> None:
        named = set()
        for pointer in (self.path / BEST, self.path / LATEST):
            try:
                named.add(read_pointer(pointer))
            except DataError:  # absent or damaged: it keeps nothing
                continue
        for folder in self.steps[self.keep :]:
            if folder not in named:
                shutil.rmtree(folder)


def load_state(folder: Path, surrogate: Surrogate) -> dict[str, Any]:
    """Load the surrogate's weights from a checkpoint and return the rest of the training state.

    Raises:
        DataError: The checkpoint is of another model, or its content is no training state; nothing has changed.
    """
    try:
        weights, loaded = load_file(folder / WEIGHTS), load_file(folder / OPTIMIZER)
        # clones, since the file has tensors at odd addresses, where dot products round otherwise
        state = unpack(read_json(folder / STATE), {name: tensor.clone() for name, tensor in loaded.items()})
        if not isinstance(state, dict):
            raise DataError(f"{STATE} holds a {type(state).__name__}")
        expected = {name: (value.shape, value.dtype) for name, value in surrogate.state_dict().items()}
        if {name: (value.shape, value.dtype) for name, value in weights.items()} != expected:
            raise DataError(f"{WEIGHTS} is of another model")
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"checkpoint {folder} is damaged: {reason:.200}") from error
    surrogate.load_state_dict(weights)
    return state


def verify(folder: Path) -> None:
    """Check every file of a checkpoint against its manifest.

    Raises:
        DataError: A file is missing, changed or not listed as a plain name.
    """
    files = (DESCRIPTION, WEIGHTS, OPTIMIZER, STATE)
    verify_manifest(folder, files, what="checkpoint", remedy="restore its files, or train again")
