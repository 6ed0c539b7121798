"""The surrogates that are worth a try for data of given shapes: fitted families first, then networks that fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from surrogate.errors import ConfigError
from surrogate.experiment.settings import Experiment
from surrogate.models.registry import Shapes, build, settings_of
from surrogate.models.registry import families as all_families

__all__ = ["Candidate", "candidates_for", "fitting_families"]

MOST_AXES = 3  # of space, for convolutions
MODES = 16
TRIVIAL = ("mean", "nearest", "persistence")
LINEAR = 20  # most modes of the inputs in the head
MOST_NUMBERS = 4096  # of an input and of a target, for perceptrons of fields
QUICK_GP = {"samples": 200, "restarts": 0}  # its time grows with the third power of the samples
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "slimtrain": {"name": "slimtrain", "learning_rate": 3e-3},
    "adam": {"name": "adam", "learning_rate": 3e-3},
}


@dataclass(frozen=True)
class Candidate:
    """A surrogate to compare.

    Arguments:
        name: Its name in tables and folders.
        model: Section `model`.
        optimizer: Section `optimizer`; None for a family that is fitted.
        training: Options of `training` other than batch size, seed, device and epochs.
    """

    name: str
    model: dict[str, Any]
    optimizer: dict[str, Any] | None = None
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def fitted(self) -> bool:
        """Return True if it is fitted in one pass: it takes no share of the time for training."""
        return self.optimizer is None or self.optimizer["name"] == "elm"


def candidates_for(
    shapes: Shapes, base: Experiment, *, samples: int | None = None, reconstruct: bool = False
) -> list[Candidate]:
    """List the candidates for data of given shapes; the model of the configuration is the last of them.

    Where the targets are among the inputs, every map without a bottleneck is the identity. What is compared then are
    reductions to one latent size, that of the configuration's autoencoder: the leading POD modes and autoencoders.

    Arguments:
        shapes: Shapes of inputs and targets.
        base: The configuration.
        samples: Training samples, half of which bound the modes of the inputs in a head; without them only the size of
            an input does.
        reconstruct: The targets are among the inputs.
    """
    outputs = shapes.outputs * shapes.points
    latent = int(getattr(base.model, "latent", MODES))
    families: dict[str, dict[str, Any]] = {"mean": {"family": "mean"}}
    if reconstruct:  # splines with a linear term are exact for the identity of the coefficients
        families["pod_modes"] = {"family": "pod_rbf", "modes": latent, "input_modes": latent}
    else:
        families |= {"persistence": {"family": "persistence"}} if shapes.latest else {}
        families |= {name: {"family": name} for name in ("nearest", "linear", "kernel_ridge")}
        if shapes.latest:
            families |= {
                f"{name}-increments": {"family": name, "increments": True} for name in ("linear", "kernel_ridge")
            }
        families["pod_rbf"] = {"family": "pod_rbf", "modes": MODES if outputs > MODES else None}
        families["pod_gp"] = {"family": "pod_gp", "modes": MODES if outputs > MODES else outputs, **QUICK_GP}
    fitted = [Candidate(name, model) for name, model in families.items()]
    linear = min(LINEAR, shapes.input_size, LINEAR if samples is None else max(1, samples // 2))
    small = max(shapes.input_size, outputs) <= MOST_NUMBERS and not reconstruct
    if small:
        random_features = {"family": "mlp", "width": 256, "depth": 1, "linear": linear}
        fitted.append(Candidate("elm", random_features, {"name": "elm"}))
    models = {"autoencoder": {"family": "autoencoder", "latent": latent}}
    if not reconstruct:
        models = {str(model["family"]): model for model in _networks(shapes)}
        models |= {"mlp-linear": {"family": "mlp", "width": 64, "depth": 2, "linear": linear}} if small else {}
    networks = [
        Candidate(f"{model_name}-{name}", model, optimizer, {"schedule": "cosine"})
        for model_name, model in models.items()
        for name, optimizer in OPTIMIZERS.items()
    ]
    own = base.model.model_dump(mode="json")
    given = base.optimizer.model_dump(mode="json")
    kept = base.training.model_dump(mode="json", exclude_defaults=True)
    training = {key: value for key, value in kept.items() if key not in ("epochs", "steps", "patience")}
    yours = Candidate("yours", own, None if base.model.fitted else given, {} if base.model.fitted else training)
    return [candidate for candidate in [*fitted, *networks, yours] if _fits(candidate, shapes)]


def _networks(shapes: Shapes) -> Iterator[dict[str, Any]]:
    if shapes.grid and shapes.input_grid == shapes.grid and shapes.dimensions <= MOST_AXES:
        yield {"family": "convnet", "width": 16, "depth": 4}
        modes = [min(6, (side - 1) // 2) for side in shapes.grid]
        if min(modes) >= 1:
            yield {"family": "fno", "width": 16, "depth": 3, "modes": modes}
        return
    yield {"family": "mlp", "width": 64, "depth": 2}
    if shapes.outputs * shapes.points > MODES:
        yield {"family": "deeponet"} if 0 < shapes.dimensions <= MOST_AXES else {"family": "resnet"}


def fitting_families(shapes: Shapes) -> list[str]:
    """List the families that map data of these shapes with their usual options, without the trivial ones."""
    return [name for name in all_families() if name not in TRIVIAL and _fits(Candidate(name, {"family": name}), shapes)]


def _fits(candidate: Candidate, shapes: Shapes) -> bool:
    """Return True if the family maps data of these shapes."""
    try:
        model = settings_of(candidate.model)
        if model.at_points == "never" or not shapes.point_axis:  # else it takes coordinates, which are added for it
            build(model, shapes)
    except ConfigError:
        return False
    return True
