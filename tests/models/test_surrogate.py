"""A surrogate works in physical units and refuses data it was not trained for."""

import json
from pathlib import Path

import pytest
import torch

from surrogate.batch import Batch
from surrogate.errors import ConfigError, DataError
from surrogate.files import write_manifest
from surrogate.models import ConvNetSettings, Shapes, Signature, Surrogate
from surrogate.normalize import Normalizer

SIGNATURE = Signature(inputs=("a",), targets=("b",), units={"b": "Pa"}, grid={"y": 8, "x": 8})


def make_surrogate() -> Surrogate:
    torch.manual_seed(0)
    inputs = Normalizer(torch.tensor([3.0]), torch.tensor([2.0]))
    targets = Normalizer(torch.tensor([-100.0]), torch.tensor([50.0]))
    return Surrogate(ConvNetSettings(width=4, depth=1), SIGNATURE, inputs, targets)


def test_physical_in_physical_out() -> None:
    surrogate = make_surrogate()
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(surrogate(3 + 2 * x), surrogate.network(x) * 50 - 100)


def test_standard_deviations_scale_with_each_pixel() -> None:
    scale = torch.rand(1, 8, 8) + 0.5
    normalizer = Normalizer(torch.zeros(1, 8, 8), scale)
    std = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(normalizer.deviation(std), std * scale)
    torch.testing.assert_close(Normalizer(torch.zeros(1), torch.tensor([3.0])).deviation(std), std * 3)


def test_a_batch_is_normalised_on_both_sides() -> None:
    position = torch.zeros(1, dtype=torch.int64)
    batch = Batch(torch.full((1, 1, 8, 8), 5.0), torch.full((1, 1, 8, 8), -50.0), position, position)
    normalized = make_surrogate().normalized(batch)
    assert normalized.inputs.unique().item() == 1
    assert normalized.targets.unique().item() == 1


def test_the_difference_to_other_data_is_named() -> None:
    other = SIGNATURE.model_copy(update={"grid": {"y": 16, "x": 8}, "targets": ("c",)})
    with pytest.raises(DataError) as caught:
        SIGNATURE.refuse_other(other)
    assert "grid: trained on {'y': 8, 'x': 8}, given {'y': 16, 'x': 8}" in str(caught.value)
    assert "targets" in str(caught.value)
    SIGNATURE.refuse_other(SIGNATURE)


def test_parameters_on_another_grid_than_the_targets() -> None:
    signature = Signature(inputs=("y",), targets=("u",), grid={"sensor": 6}, input_grid={"parameter": 55})
    assert signature.shapes == Shapes(inputs=1, outputs=1, grid=(6,), input_grid=(55,))
    assert SIGNATURE.input_grid == SIGNATURE.grid
    with pytest.raises(DataError, match=r"input_grid: trained on \{'parameter': 55\}, given \{'parameter': 54\}"):
        signature.refuse_other(signature.model_copy(update={"input_grid": {"parameter": 54}}))


def test_the_order_of_input_axes_matters() -> None:
    a, b = (Signature(inputs=("a",), targets=("b",), input_grid=grid) for grid in ({"y": 8, "x": 8}, {"x": 8, "y": 8}))
    with pytest.raises(DataError, match="input_axes"):
        a.refuse_other(b)


def test_units_coordinates_and_time_steps_are_compared_where_both_are_known() -> None:
    moving = Signature(inputs=("u[t+0]",), targets=("u[t+1]",), units={"u": "K"}, grid={"x": 3}, time_step=0.5)
    known = moving.model_copy(update={"coordinates": {"x": (0.0, 0.5, 1.0)}})
    moving.refuse_other(known)
    known.refuse_other(known.model_copy(update={"coordinates": {"x": (0.0, 0.5000001, 1.0)}}))
    changes = {"units": {"u": "C"}, "coordinates": {"x": (0.0, 1.0, 2.0)}, "time_step": 0.25}
    with pytest.raises(DataError) as caught:
        known.refuse_other(known.model_copy(update=changes))
    assert "units of u: trained on K, given C" in str(caught.value)
    assert "coordinate x: trained on 3 points from 0 to 1, given 3 points from 0 to 2" in str(caught.value)
    assert "time step: trained on 0.5, given 0.25" in str(caught.value)


def test_inputs_alone_may_be_compared() -> None:
    other = SIGNATURE.model_copy(update={"targets": ("c",), "grid": {"z": 1}})
    SIGNATURE.refuse_other(other, inputs_only=True)
    with pytest.raises(DataError, match="inputs"):
        SIGNATURE.refuse_other(other.model_copy(update={"inputs": ("d",)}), inputs_only=True)


def test_channels_name_variable_and_component() -> None:
    signature = Signature(inputs=("p.x",), targets=("v.x[t+1]", "v.y[t+1]"), components={"v": ("x", "y")})
    assert signature.component_of("v.y[t+1]") == ("v", "y")
    assert signature.component_of("p.x") == ("p.x", None)  # a dot in a name is no component
    assert signature.variables(signature.targets) == ["v"]


def test_a_folder_without_a_surrogate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no readable surrogate"):
        Surrogate.load(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model": {"family": "os.system"}, "signature": {}}'])
def test_a_malformed_description_is_refused(tmp_path: Path, content: str) -> None:
    make_surrogate().save(tmp_path)
    (tmp_path / "surrogate.json").write_text(content)
    write_manifest(tmp_path)
    with pytest.raises(ConfigError, match="no readable surrogate"):
        Surrogate.load(tmp_path)


@pytest.mark.parametrize(
    ("key", "size", "message"),
    [
        ("width", 4_000_000, "width: .*at most 1,000,000"),
        ("width", 900_000, r"has shape \(4\,?.*, the model needs \(900000"),  # its weights would take terabytes
        ("depth", 1_000_000_000, "depth: .*at most"),
        ("depth", 300, "the model needs"),
    ],
)
def test_a_description_of_a_huge_network_is_refused_before_it_is_built(
    tmp_path: Path, key: str, size: int, message: str
) -> None:
    make_surrogate().save(tmp_path)
    description = json.loads((tmp_path / "surrogate.json").read_text())
    description["model"][key] = size
    (tmp_path / "surrogate.json").write_text(json.dumps(description))
    write_manifest(tmp_path)
    with pytest.raises(ConfigError, match=message):
        Surrogate.load(tmp_path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    make_surrogate().save(tmp_path)
    text = (tmp_path / "surrogate.json").read_text().replace('"width": 4', '"width": 5')
    (tmp_path / "surrogate.json").write_text(text)
    write_manifest(tmp_path)
    with pytest.raises(ConfigError, match="does not fit"):
        Surrogate.load(tmp_path)
