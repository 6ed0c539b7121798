"""An exported surrogate is the same function, without this package."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from surrogate.errors import ConfigError
from surrogate.models import (
    AntisymmetricSettings,
    AutoencoderSettings,
    ConvNetSettings,
    DeepONetSettings,
    FnoSettings,
    HamiltonianSettings,
    MlpSettings,
    PodSettings,
    ResNetSettings,
    Signature,
    Surrogate,
    UNetSettings,
)
from surrogate.models.export import export_surrogate
from surrogate.models.registry import ModelSettings
from surrogate.normalize import Normalizer

SCRIPT = """
import json, sys, torch
from safetensors.torch import load_file, save_file
sys.modules["surrogate"] = None  # importing it would fail
for folder in sys.argv[1:]:
    about = {"signature.json": ""}
    program = torch.export.load(f"{folder}/model.pt2", extra_files=about).module()
    save_file({"y": program(load_file(f"{folder}/x.safetensors")["x"])}, f"{folder}/y.safetensors")
    print(json.loads(about["signature.json"])["units"]["b"])
"""


def make_surrogate(model: ModelSettings, input_grid: dict[str, int]) -> Surrogate:
    torch.manual_seed(0)
    grid = {"y": 8, "x": 8}
    signature = Signature(inputs=("a",), targets=("b",), units={"b": "Pa"}, grid=grid, input_grid=input_grid)
    inputs = Normalizer(torch.tensor([3.0]), torch.tensor([2.0]))
    return Surrogate(model, signature, inputs, Normalizer(torch.tensor([-100.0]), torch.tensor([50.0]))).eval()


def test_programs_run_elsewhere_on_any_number_of_samples(tmp_path: Path) -> None:
    """Of parameters and of fields, in one interpreter that has never imported this package."""
    models = {"parameters": MlpSettings(width=4), "fields": FnoSettings(width=4, depth=1, modes=3)}
    expected = {}
    for name, model in models.items():
        input_grid = {"y": 8, "x": 8} if name == "fields" else {}
        surrogate, folder = make_surrogate(model, input_grid), tmp_path / name
        folder.mkdir()
        export_surrogate(surrogate, folder / "model.pt2")
        x = 3 + 2 * torch.randn(5, 1, *input_grid.values())
        save_file({"x": x}, folder / "x.safetensors")
        expected[name] = surrogate(x).detach()
    command = [sys.executable, "-c", SCRIPT, *expected]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Pa", "Pa"]
    for name, y in expected.items():
        torch.testing.assert_close(load_file(tmp_path / name / "y.safetensors")["y"], y)
        files = sorted(path.name for path in (tmp_path / name).iterdir())
        assert files == ["model.pt2", "x.safetensors", "y.safetensors"]


def test_an_ensemble_is_exported(tmp_path: Path) -> None:
    """`export_surrogate` compares the program with the surrogate on another number of samples itself."""
    model = ConvNetSettings(width=4, depth=1, symmetry="nodes")
    whole = Surrogate.mean_of([make_surrogate(model, {"y": 8, "x": 8}) for _ in range(2)])
    assert export_surrogate(whole, tmp_path / "model.pt2").is_file()


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.pt2"):
        export_surrogate(make_surrogate(ConvNetSettings(width=4, depth=1), {"y": 8, "x": 8}), tmp_path / "model.pt")


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        AntisymmetricSettings(width=4, depth=2),
        AutoencoderSettings(width=2, latent=3, levels=1, batch_norm=True),
        ConvNetSettings(width=4, depth=2, symmetry="nodes", coordinates=True, dropout=0.5),
        DeepONetSettings(width=4, products=3),
        FnoSettings(width=4, depth=2, modes=3, padding=2, coordinates=True),
        HamiltonianSettings(width=4, depth=2),
        PodSettings(modes=3, width=4),
        ResNetSettings(width=4, depth=2),
        UNetSettings(width=4, levels=2),
    ],
    ids=lambda model: model.family,
)
def test_every_family_is_exported(model: ModelSettings, tmp_path: Path) -> None:
    """`export_surrogate` compares the program with the surrogate on another number of samples itself."""
    surrogate = make_surrogate(model, {"y": 8, "x": 8})
    for buffer in surrogate.network.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)  # modes and running statistics that are not trivial
    assert export_surrogate(surrogate, tmp_path / "model.pt2").is_file()
