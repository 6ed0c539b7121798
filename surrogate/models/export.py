"""Export of a surrogate as a `torch.export` program that runs without this package."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path

import torch
from torch import export

from surrogate.errors import ConfigError, NumericalError
from surrogate.files import replacing
from surrogate.models.surrogate import Surrogate

__all__ = ["DESCRIPTION", "export_surrogate"]

DESCRIPTION = "signature.json"
CLOSE = 1e-4  # of the largest output


def export_surrogate(surrogate: Surrogate, path: Path) -> Path:
    """Write the surrogate as a program that `torch.export.load(path).module()(inputs)` runs, without this package.

    Inputs (B, C, *S) and predictions (B, M, *S) are in physical units, for any number of samples B. Names, units and
    grids are in the archive as `signature.json`, which `torch.export.load` reads with `extra_files`.

    Arguments:
        surrogate: A trained surrogate; it is not changed.
        path: The archive to write, ending in `.pt2`.

    Raises:
        ConfigError: The file name does not end in `.pt2`, or a layer of the model cannot be exported.
        NumericalError: The program gives other predictions than the surrogate.
        ResourceError: The disk is full.
    """
    if path.suffix != ".pt2":
        raise ConfigError(f"{path}: torch.export needs the file name extension .pt2; rename the output")
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
    more = torch.cat([example, example[:1]])  # another number of samples than the program was traced with
    with torch.no_grad():
        expected, exported = model(more), program.module()(more)
    if not float((exported - expected).abs().max()) <= CLOSE * float(expected.abs().max()):
        raise NumericalError("the exported program gives other predictions than the surrogate; please report this")
    archive = io.BytesIO()  # torch ends the process where the disk is full
    export.save(program, archive, extra_files={DESCRIPTION: json.dumps(signature.model_dump(mode="json"))})
    with replacing(path) as part:
        part.write_bytes(archive.getbuffer())
    return path
