"""A trained network with its normalisation and signature: physical units in, physical units out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from surrogate.batch import Batch
from surrogate.checks import ConfigError, DataError
from surrogate.config import Settings
from surrogate.files import read_pointer
from surrogate.models.registry import ModelSettings, Shapes, build, settings_union
from surrogate.normalize import Normalizer
from surrogate.slimtik import Posterior

__all__ = ["Signature", "Surrogate", "chosen_checkpoint"]

BEST, FINAL = "BEST", "final"


class Signature(Settings):
    """What goes in and out of a surrogate, so that data that do not fit are refused.

    Arguments:
        inputs: Names of the input channels.
        targets: Names of the output channels.
        units: Unit of every variable by name, where known.
        grid: Length of every axis of the targets by name, in order.
        input_grid: The same of the inputs, empty for plain parameters; that of the targets unless given.
    """

    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    units: dict[str, str] = Field(default_factory=dict)
    grid: dict[str, int] = Field(default_factory=dict)
    input_grid: dict[str, int] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _same_grid(cls, values: Any) -> Any:
        if isinstance(values, dict) and "input_grid" not in values:
            return {**values, "input_grid": values.get("grid", {})}
        return values

    @property
    def shapes(self) -> Shapes:
        """Channels and grids for the builder of the network."""
        grid, input_grid = tuple(self.grid.values()), tuple(self.input_grid.values())
        return Shapes(inputs=len(self.inputs), outputs=len(self.targets), grid=grid, input_grid=input_grid)

    def refuse_other(self, data: Signature) -> None:
        """Check that data fit.

        Raises:
            DataError: Names, units or grid differ; the message lists every difference.
        """
        mine, theirs = (signature._facts() for signature in (self, data))
        different = [f"{key}: trained on {mine[key]}, given {theirs[key]}" for key in mine if mine[key] != theirs[key]]
        if different:
            raise DataError("the data do not fit the surrogate: " + "; ".join(different))

    def _facts(self) -> dict[str, Any]:
        """Everything that has to agree; the order of axes on its own, since dictionaries compare without."""
        return self.model_dump() | {"axes": list(self.grid), "input_axes": list(self.input_grid)}


class Surrogate(nn.Module):
    """y = inverse(network(normalize(x))), both sides in physical units.

    Arguments:
        settings: Settings of the network's family.
        signature: Names, units and grid of inputs and outputs.
        inputs: Normalisation of the inputs.
        targets: Normalisation of the targets.
    """

    def __init__(self, settings: ModelSettings, signature: Signature, inputs: Normalizer, targets: Normalizer) -> None:
        super().__init__()
        self.settings = settings
        self.signature = signature
        self.network = build(settings, signature.shapes)
        self.inputs = inputs
        self.targets = targets
        self.posterior: Posterior | None
        self.register_module("posterior", None)  # of the head's weights; set when it has been fitted

    def forward(self, inputs: Tensor) -> Tensor:
        """Predict targets with shape (B, M, *S) from inputs with shape (B, C, *input_grid)."""
        return self.targets.inverse(self.network(self.inputs(inputs)))

    @torch.no_grad()
    def predict_with_std(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Prediction and its standard deviation given the features, both with shape (B, M, *S) and in physical units.

        Raises:
            ConfigError: The surrogate was trained without `training.uncertainty`.
        """
        if self.posterior is None:
            raise ConfigError("this surrogate has no uncertainty; train it with training.uncertainty: true")
        z = self.network.features(self.inputs(inputs))
        std = self.network.head.std(self.posterior, z).to(z.dtype)
        scale = self.targets.scale.view(-1, *[1] * (std.ndim - 2))
        return self.targets.inverse(self.network.head(z)), std * scale

    def normalized(self, batch: Batch) -> Batch:
        """The batch in the units in which the network is trained."""
        return replace(batch, inputs=self.inputs(batch.inputs), targets=self.targets(batch.targets))

    def save(self, folder: Path) -> None:
        """Write `surrogate.json` and `model.safetensors` into an existing folder."""
        description = {
            "model": self.settings.model_dump(mode="json"),
            "signature": self.signature.model_dump(mode="json"),
        }
        (folder / "surrogate.json").write_text(json.dumps(description, indent=2), encoding="utf-8")
        tensors = {name: value.detach().contiguous().cpu() for name, value in self.state_dict().items()}
        save_file(tensors, folder / "model.safetensors")

    @staticmethod
    def load(folder: str | Path, device: torch.device | str = "cpu") -> Surrogate:
        """Read a surrogate from a checkpoint, or the best checkpoint of a run folder, in evaluation mode.

        Raises:
            ConfigError: The folder holds no surrogate, or one that this version cannot read.
        """
        folder = Path(folder)
        folder = chosen_checkpoint(folder / "checkpoints") or folder
        try:
            description = json.loads((folder / "surrogate.json").read_text(encoding="utf-8"))
            described = _Description.of(description)
            tensors = load_file(folder / "model.safetensors")
        except (OSError, json.JSONDecodeError, ValidationError, SafetensorError, KeyError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"no readable surrogate in {folder}: {reason}; name a run folder or one of its checkpoints"
            ) from error
        surrogate = described.empty()
        if any(name.startswith("posterior.") for name in tensors):
            surrogate.posterior = Posterior(*surrogate.network.head.shape)
        try:
            surrogate.load_state_dict(tensors)
        except RuntimeError as error:
            raise ConfigError(f"{folder}/model.safetensors does not fit {folder}/surrogate.json") from error
        return surrogate.to(device).eval()


def chosen_checkpoint(checkpoints: Path) -> Path | None:
    """The checkpoint of a run to use: the final model, otherwise the one that `BEST` names, if there is any."""
    if (checkpoints / FINAL).is_dir():
        return checkpoints / FINAL
    return read_pointer(checkpoints / BEST) if (checkpoints / BEST).is_file() else None


class _Description(Settings):
    """The content of `surrogate.json`."""

    model: Any
    signature: Signature

    @staticmethod
    def of(description: dict[str, Any]) -> _Description:
        class Typed(_Description):
            model: settings_union()  # type: ignore[valid-type]

        return Typed.model_validate(description)

    def empty(self) -> Surrogate:
        """A surrogate of the right shapes, its weights still to be loaded."""
        shapes = self.signature.shapes
        inputs, targets = (
            Normalizer(torch.zeros(count), torch.ones(count)) for count in (shapes.inputs, shapes.outputs)
        )
        return Surrogate(self.model, self.signature, inputs, targets)
