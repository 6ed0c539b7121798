"""A surrogate as a program of torch alone, for codes that do not have this package."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from torch import Tensor, export

from surrogate.errors import ConfigError, NumericalError, ResourceError
from surrogate.files import replacing
from surrogate.models.surrogate import Surrogate

__all__ = ["DESCRIPTION", "export_surrogate"]

DESCRIPTION = "signature.json"
CLOSE = 1e-4  # of the largest output


def export_surrogate(surrogate: Surrogate, path: Path) -> Path:
    """Write the surrogate as a program that `torch.export.load(path).module()(inputs)` runs, without this package.

    Inputs (B, C, *S) and predictions (B, M, *S) are in physical units, for any number of samples B; names, units and
    grids lie in the archive as `signature.json`, which `torch.export.load` gives by `extra_files`.

    Arguments:
        surrogate: A trained surrogate; it is not changed.
        path: The archive to write, ending in `.pt2`.

    Raises:
        ConfigError: The name has another ending, or a layer of the model cannot be exported; the message says why.
        NumericalError: The program gives other predictions than the surrogate.
        ResourceError: The disk is full.
    """
    if path.suffix != ".pt2":
        raise ConfigError(f"{path}: torch reads exported programs by the ending .pt2; choose such a name")
    model = copy.deepcopy(surrogate).to("cpu").eval()
    model.posterior = None
    signature = surrogate.signature
    example = model.inputs.inverse(torch.randn(2, len(signature.inputs), *signature.input_grid.values()))
    try:
        with torch.no_grad():
            program = export.export(model, (example,), dynamic_shapes=({0: export.Dim("samples")},))
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"the family '{surrogate.settings.family}' cannot be exported by torch {torch.__version__}: {reason}"
        ) from error
    _refuse_other_predictions(model, program.module(), example)
    with replacing(path) as part:
        named = part.with_suffix(".pt2")  # torch insists on the ending
        try:
            export.save(program, named, extra_files={DESCRIPTION: json.dumps(signature.model_dump(mode="json"))})
            named.replace(part)
        except RuntimeError as error:  # how torch tells of a full disk
            raise ResourceError(f"cannot write {path}: {str(error).splitlines()[0]}; free some space") from error
        finally:
            named.unlink(missing_ok=True)
    return path


@torch.no_grad()
def _refuse_other_predictions(model: torch.nn.Module, program: torch.nn.Module, example: Tensor) -> None:
    """Compare on another number of samples than the program was traced with."""
    inputs = torch.cat([example, example[:1]])
    expected, found = model(inputs), program(inputs)
    if not float((found - expected).abs().max()) <= CLOSE * float(expected.abs().max()):
        raise NumericalError("the exported program gives other predictions than the surrogate; please report this")
