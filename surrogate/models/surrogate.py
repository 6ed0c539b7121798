"""A trained network with its normalisation and signature: physical units in, physical units out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from surrogate.batch import Batch
from surrogate.config import Settings
from surrogate.errors import ConfigError, ResourceError
from surrogate.files import read_json, read_pointer, verify_manifest, write_manifest
from surrogate.models.ensemble import ensemble
from surrogate.models.registry import ModelSettings, build, of_families
from surrogate.models.signature import Signature
from surrogate.normalize import Normalizer
from surrogate.slimtik import Posterior

__all__ = ["MOST_MEMBERS", "Surrogate", "chosen_checkpoint"]

CHECKPOINTS, BEST, FINAL = "checkpoints", "BEST", "final"
DESCRIPTION, WEIGHTS = "surrogate.json", "model.safetensors"
MOST_MEMBERS = 100
MOST_SIZE = 10_000_000  # of a setting in a description, unless more values are stored
MODULES_PER_TENSOR = 20  # layers without weights and containers included
CLOSE = 1e-5  # of the scale: sums over several ranks are rounded differently


class Surrogate(nn.Module):
    """y = inverse(network(normalize(x))), both sides in physical units.

    Inputs of variables that are masked in the signature may be NaN; they are replaced by the mean of the training data.

    Arguments:
        settings: Settings of the network's family.
        signature: Names, units and grid of inputs and outputs.
        inputs: Normalisation of the inputs.
        targets: Normalisation of the targets.
        members: Number of networks of that family whose mean is the network; 1 for a single network.
    """

    may_miss: Tensor | None  # input channels with possibly missing values; None where there are none

    def __init__(
        self,
        settings: ModelSettings,
        signature: Signature,
        inputs: Normalizer,
        targets: Normalizer,
        *,
        members: int = 1,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.signature = signature
        self.members = members
        shapes = signature.shapes
        networks = [build(settings, shapes) for _ in range(members)]
        self.network = networks[0] if members == 1 else ensemble(networks)
        self.inputs = inputs
        self.targets = targets
        places = shapes.positions  # stay NaN where a sample has no point, which tells the network so
        may_miss = [m and i not in places for i, m in enumerate(signature.may_miss(signature.inputs))]
        self.register_buffer("may_miss", torch.tensor(may_miss) if any(may_miss) else None, persistent=False)
        self.posterior: Posterior | None
        self.register_module("posterior", None)  # of the head's weights; set when it has been fitted

    @classmethod
    def mean_of(cls, surrogates: Sequence[Surrogate], weights: Sequence[float] | None = None) -> Surrogate:
        """Return the surrogate whose predictions are the means of those of others, trained on the same data.

        Arguments:
            surrogates: The others, each a single network.
            weights: Weights of the mean, with sum one; equal unless given.

        Raises:
            ConfigError: They differ in more than their weights.
        """
        first = surrogates[0]
        for other in surrogates:
            same = (first.settings, first.signature) == (other.settings, other.signature)
            pairs = ((first.inputs, other.inputs), (first.targets, other.targets))
            if not (same and first.members + other.members <= 2) or not all(
                a.mean.shape == b.mean.shape
                and bool(((a.mean - b.mean).abs() <= CLOSE * a.scale).all())
                and torch.allclose(a.scale, b.scale, rtol=CLOSE)
                for a, b in pairs
            ):
                raise ConfigError(
                    "an ensemble needs single networks of one family, one signature and one normalisation"
                )
        mean = cls(first.settings, first.signature, first.inputs, first.targets, members=len(surrogates))
        mean.network = ensemble([surrogate.network for surrogate in surrogates], weights)
        return mean

    def forward(self, inputs: Tensor) -> Tensor:
        """Predict targets with shape (B, M, *S) from inputs with shape (B, C, *input_grid)."""
        return self.targets.inverse(self.network(self.normalized_inputs(inputs)))

    @property
    def has_std(self) -> bool:
        """Return True if `predict_with_std` is available."""
        return self.posterior is not None or self.network.has_std

    @torch.no_grad()
    def predict_with_std(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the prediction and its standard deviation, both with shape (B, M, *S) and in physical units.

        Raises:
            ConfigError: The surrogate was trained without `training.uncertainty`.
        """
        if self.network.has_std:
            normalized = self.normalized_inputs(inputs)
            std = self.network.std(normalized)
            return self.targets.inverse(self.network(normalized)), self.targets.deviation(std)
        if self.posterior is None:
            raise ConfigError("this surrogate has no uncertainty; train it with training.uncertainty: true")
        z = self.network.features(self.normalized_inputs(inputs))
        std = self.network.head.std(self.posterior, z).to(z.dtype)
        return self.targets.inverse(self.network.head(z)), self.targets.deviation(std)

    def normalized_inputs(self, inputs: Tensor) -> Tensor:
        """Return inputs in the units in which the network is trained, missing values replaced by the mean."""
        values = self.inputs(inputs)
        if self.may_miss is None:
            return values
        missing = values.isnan() & self.may_miss.view(-1, *[1] * (values.ndim - 2))
        return torch.where(missing, 0.0, values)

    def normalized(self, batch: Batch) -> Batch:
        """Return the batch in the units in which the network is trained; missing targets stay NaN."""
        inputs, targets = self.normalized_inputs(batch.inputs), self.targets(batch.targets)
        return Batch(inputs, targets, batch.sample, batch.time, batch.masked)

    def save(self, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write `surrogate.json`, `model.safetensors` and their checksums into an existing folder.

        Arguments:
            folder: The folder.
            weights: Weights to write in place of the present ones, named as in `state_dict`.
        """
        description = {
            "model": self.settings.model_dump(mode="json"),
            "members": self.members,
            "signature": self.signature.model_dump(mode="json"),
        }
        (folder / DESCRIPTION).write_text(json.dumps(description, indent=2), encoding="utf-8")
        state = self.state_dict() if weights is None else weights
        tensors = {name: value.detach().contiguous().cpu() for name, value in state.items()}
        try:
            save_file(tensors, folder / WEIGHTS)
        except SafetensorError as error:
            raise ResourceError(f"cannot write {folder / WEIGHTS}: {error}; check space and permissions") from error
        write_manifest(folder, (DESCRIPTION, WEIGHTS))

    @staticmethod
    def load(folder: str | Path, device: torch.device | str = "cpu") -> Surrogate:
        """Read a surrogate from a checkpoint, or the best checkpoint of a run folder, in evaluation mode.

        Raises:
            ConfigError: The folder holds no surrogate, or one that this version cannot read.
            DataError: A file differs from its checksum, or there are no checksums.
        """
        folder = Path(folder)
        folder = chosen_checkpoint(folder / CHECKPOINTS) or folder
        if (folder / DESCRIPTION).is_file():
            remedy = "restore its files, or train again"
            verify_manifest(folder, (DESCRIPTION, WEIGHTS), what="model", remedy=remedy)
        try:
            described = _Description.read(folder)
            with safe_open(folder / WEIGHTS, "pt") as file:  # the header alone
                shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            surrogate = described.empty(shapes)
            tensors = load_file(folder / WEIGHTS)
        except (OSError, ValueError, RecursionError, SafetensorError, KeyError, TypeError) as error:
            if isinstance(error, ConfigError):
                raise
            if isinstance(error, ValidationError):
                wrong = error.errors()[0]
                reason = f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
            else:
                reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ConfigError(
                f"no readable surrogate in {folder}: {reason}; name a run folder or one of its checkpoints"
            ) from error
        surrogate.load_state_dict(tensors)
        return surrogate.to(device).eval()


def chosen_checkpoint(checkpoints: Path) -> Path | None:
    """Return the checkpoint of a run to use: the final model, otherwise the one that `BEST` names, if there is any."""
    if (checkpoints / FINAL).is_dir():
        return checkpoints / FINAL
    return read_pointer(checkpoints / BEST) if (checkpoints / BEST).is_file() else None


@contextmanager
def _limited(tensors: int) -> Iterator[None]:
    """Stop the construction of a network inside the block once it has many more parameters and modules than stored.

    Raises:
        ConfigError: It has.
    """
    left = [MODULES_PER_TENSOR * (tensors + MOST_MEMBERS)]

    def count(*_: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise ConfigError(
                f"{WEIGHTS} does not fit {DESCRIPTION}: it holds {tensors} tensors, the model needs many more; the "
                "folder was changed or damaged, train again"
            )

    hooks = [register_module_parameter_registration_hook(count), register_module_module_registration_hook(count)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Description(Settings):
    """The content of `surrogate.json`."""

    model: Any
    members: int = Field(1, ge=1, le=MOST_MEMBERS)
    signature: Signature

    @staticmethod
    def read(folder: Path) -> _Description:
        return of_families(_Description).model_validate(read_json(folder / DESCRIPTION))

    def empty(self, shapes: dict[str, tuple[int, ...]]) -> Surrogate:
        """Build a surrogate whose weights are still to be loaded, after a comparison of shapes on the meta device.

        Raises:
            ConfigError: Its tensors do not have the given shapes.
        """
        stored = sum(math.prod(shape) for shape in shapes.values())
        for name, value in self.model:
            for size in value if isinstance(value, tuple | list) else [value]:
                if isinstance(size, int) and size > max(stored, MOST_SIZE):
                    raise ConfigError(
                        f"{WEIGHTS} does not fit {DESCRIPTION}: {name} is {size}, but {stored} values are stored; the "
                        "folder was changed or damaged, train again"
                    )
        try:
            with torch.device("meta"), _limited(len(shapes)):
                sketch = self._build(shapes)
        except (RuntimeError, ArithmeticError, IndexError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"{DESCRIPTION} describes no network that can be built: {reason:.200}") from error
        expected = {name: tuple(value.shape) for name, value in sketch.state_dict().items()}
        prefix = "network."
        given = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
        expected |= {prefix + name: shape for name, shape in sketch.network.data_shapes(given).items()}
        different = sorted(name for name in expected | shapes if expected.get(name) != shapes.get(name))
        if different:
            name = different[0]
            raise ConfigError(
                f"{WEIGHTS} does not fit {DESCRIPTION}: {name} has shape {shapes.get(name)}, the model needs "
                f"{expected.get(name)}; the folder was changed or damaged, train again"
            )
        return self._build(shapes)

    def _build(self, shapes: dict[str, tuple[int, ...]]) -> Surrogate:
        with torch.device("cpu"):
            sizes = [shapes[f"{side}.mean"] for side in ("inputs", "targets")]
            inputs, targets = (Normalizer(torch.zeros(size), torch.ones(size)) for size in sizes)
        surrogate = Surrogate(self.model, self.signature, inputs, targets, members=self.members)
        if any(name.startswith("posterior.") for name in shapes):
            surrogate.posterior = Posterior(*surrogate.network.head.shape)
        return surrogate
