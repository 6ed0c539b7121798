"""Every figure is labelled, shares its scales as it says, and needs neither a display nor a home."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from surrogate import plotting
from surrogate.errors import ResourceError
from surrogate.plotting import animation

PNG = b"\x89PNG\r\n\x1a\n"


def comparison(*shape: int) -> xr.Dataset:
    generator = np.random.default_rng(0)
    dims = ("z", "y", "x")[3 - len(shape) :]
    coords = {dim: (dim, np.linspace(0, 2, n), {"units": "m"}) for dim, n in zip(dims, shape, strict=True)}
    truth = xr.DataArray(generator.normal(size=shape), coords, dims, attrs={"long_name": "u", "units": "K"})
    return xr.Dataset({"truth": truth, "prediction": truth.copy() + 0.1 * generator.normal(size=shape)})


def errors(samples: int = 9, times: int = 4) -> xr.DataArray:
    values = np.random.default_rng(1).lognormal(size=(samples, times))
    coords = {"time": ("time", np.arange(times) / 2, {"units": "s"})}
    return xr.DataArray(values, coords, ("sample", "time"), attrs={"long_name": "relative L2 error"})


def epochs(count: int) -> xr.Dataset:
    losses = 1 / np.arange(1.0, count + 1)
    columns = {"train_loss": ("epoch", losses), "validation_loss": ("epoch", 2 * losses)}
    return xr.Dataset(columns, {"epoch": np.arange(1, count + 1)})


def steps(values: np.ndarray) -> xr.DataArray:
    return xr.DataArray(values, {"step": np.arange(len(values))}, ("step",))


def legend(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def drawn(ax: Axes) -> Figure:
    figure = ax.get_figure()
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    return figure


def test_images_share_a_scale_and_the_error_is_symmetric() -> None:
    fields = comparison(5, 8)
    panels = plotting.plot_comparison(fields)
    truth, prediction, error = (panel.collections[0].get_clim() for panel in panels)
    assert truth == prediction
    assert truth[0] == min(fields["truth"].min(), fields["prediction"].min())
    assert error[0] == -error[1] == -float(abs(fields["prediction"] - fields["truth"]).max())
    assert [panel.get_xlabel() for panel in panels] == ["x [m]"] * 3
    assert [panel.get_ylabel() for panel in panels] == ["y [m]"] * 3
    bars = [ax.get_ylabel() for ax in drawn(panels[0]).axes if ax not in panels]
    assert bars == ["u [K]", "u [K]", "error [K]"]


def test_images_lie_on_their_coordinates_with_x_across() -> None:
    panel = plotting.plot_comparison(comparison(5, 8).transpose("x", "y"))[0]
    half = 1 / 7  # of a cell across
    assert panel.get_xlabel() == "x [m]"
    assert panel.get_xlim() == pytest.approx((-half, 2 + half))


def test_lines_share_a_scale() -> None:
    panels = plotting.plot_comparison(comparison(20))
    assert panels[0].get_ylim() == panels[1].get_ylim()
    assert panels[2].get_ylim()[0] == -panels[2].get_ylim()[1]
    assert panels[0].get_ylabel() == "u [K]"
    drawn(panels[0])


def test_three_dimensions_are_cut_in_the_middle_and_say_where() -> None:
    panels = plotting.plot_comparison(comparison(5, 6, 7))
    assert panels[0].get_title() == "truth, z = 1"
    drawn(panels[0])


def test_a_perfect_prediction_of_a_constant_can_be_drawn() -> None:
    fields = comparison(4, 4) * 0
    panels = plotting.plot_comparison(fields)
    assert panels[2].collections[0].get_clim() == (-1, 1)
    drawn(panels[0])


def test_variables_without_space_are_points_with_names() -> None:
    truth = xr.DataArray([1.0, 2.0], {"variable": ["a", "b"]}, ("variable",), attrs={"long_name": "value"})
    panels = plotting.plot_comparison(xr.Dataset({"truth": truth, "prediction": truth + 1}))
    assert [tick.get_text() for tick in panels[2].get_xticklabels()] == ["a", "b"]


def test_error_over_time_shows_the_median_of_every_method() -> None:
    first = errors()
    ax = plotting.plot_error_over_time({"slimtrain": first, "adam": 2 * first})
    np.testing.assert_allclose(ax.lines[0].get_ydata(), first.median("sample"))
    assert legend(ax) == ["slimtrain", "adam"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time [s]", "relative L2 error")
    drawn(ax)


def test_histogram_counts_every_finite_sample_once() -> None:
    first = errors().isel(time=0)
    holed = first.copy(data=np.where(np.arange(9) == 3, np.nan, first))
    ax = plotting.plot_error_histogram({"a": first, "b": holed})
    outlines = [patch for patch in ax.patches if not patch.get_fill()]
    assert [patch.get_data().values.sum() for patch in outlines] == [9, 8]
    assert ax.get_ylabel() == "number of samples"


@pytest.mark.parametrize("count", [1, 3, 50])
def test_training_is_logarithmic_with_both_losses(count: int) -> None:
    ax = plotting.plot_training({"a": epochs(count)})
    assert ax.get_yscale() == "log"
    assert legend(ax) == ["a"]
    assert [line.get_linestyle() for line in ax.lines] == ["-", "--"]  # validation, training
    assert ax.get_xlabel() == "epoch"
    drawn(ax)


def test_damping_keeps_its_sign() -> None:
    values = np.array([1e-2, -1e-3, 0.0, 1e-6, -1e2, np.nan])
    ax = plotting.plot_damping({"slimtrain": steps(values)})
    assert ax.get_yscale() == "symlog"
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), values)
    ticks = ax.get_yticks()
    assert 0 in ticks
    np.testing.assert_allclose(np.sort(-ticks), np.sort(ticks))
    drawn(ax)


def test_damping_that_is_always_zero_can_be_drawn() -> None:
    drawn(plotting.plot_damping({"a": steps(np.zeros(3))}))


def test_running_sum_is_logarithmic() -> None:
    wide = plotting.plot_running_sum({"a": steps(np.geomspace(1e-8, 1, 9))})
    assert wide.get_yscale() == "log"
    narrow = plotting.plot_running_sum({"a": steps(np.linspace(1.0, 1.03, 9))})
    drawn(narrow)
    assert "×" not in "".join(tick.get_text() for tick in narrow.get_yticklabels())


def test_intervals_name_every_method_and_start_at_zero() -> None:
    ax = plotting.plot_intervals({"a": (1.0, 0.8, 1.3), "b": (2.0, np.nan, np.nan)}, label="error")
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b"]
    assert ax.get_xlim()[0] == 0
    drawn(ax)


def test_names_are_never_read_as_mathematics_or_hidden() -> None:
    ax = plotting.plot_running_sum({r"$\foo$": steps(np.ones(2)), "_hidden": steps(np.ones(2))})
    drawn(ax)
    assert legend(ax) == [r"\$\foo\$", " _hidden"]


def test_given_axes_are_drawn_on() -> None:
    _, axes = plotting.new_figure()
    assert plotting.plot_training({"a": epochs(3)}, ax=axes[0, 0]) is axes[0, 0]


def test_nothing_is_clipped() -> None:
    fields = comparison(4, 6)
    fields["truth"].attrs["long_name"] = "a_rather_long_name_of_a_pressure[t+1]"
    panels = plotting.plot_comparison(fields)
    figure = drawn(panels[0])
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    boxes = [ax.get_tightbbox(renderer) for ax in figure.axes]
    assert all(figure.bbox.padded(1).containsx(box.x0) and figure.bbox.padded(1).containsx(box.x1) for box in boxes)
    assert all(figure.bbox.padded(1).containsy(box.y0) and figure.bbox.padded(1).containsy(box.y1) for box in boxes)
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]]
    assert not any(a.padded(-1).overlaps(b.padded(-1)) for a, b in pairs)


def boxes_of(figure: Figure) -> None:
    """Every label lies inside the figure."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    for ax in figure.axes:
        box = ax.get_tightbbox(renderer)
        assert figure.bbox.padded(1).contains(box.x0, box.y0)
        assert figure.bbox.padded(1).contains(box.x1, box.y1)


def bar_labels(figure: Figure, ax: Axes) -> list[str]:
    return [other.get_ylabel() for other in figure.axes if other is not ax]


@pytest.mark.parametrize(("signed", "limits"), [(False, (0.0, 3.0)), (True, (-3.0, 3.0))])
def test_error_maps_are_scaled_from_or_about_zero_with_units_on_the_bar(
    signed: bool, limits: tuple[float, float]
) -> None:
    values = np.array([[1.0, 3.0, -0.5 if signed else 0.5], [0.0, 2.0, 1.0]])
    coords = {"y": ("y", [0.0, 1.0], {"units": "m"}), "x": ("x", [0.0, 1.0, 2.0], {"units": "m"})}
    attrs = {"long_name": "mean error", "units": "K"}
    ax = plotting.plot_error_map(xr.DataArray(values, coords, ("y", "x"), attrs=attrs))
    assert ax.collections[0].get_clim() == limits
    assert bar_labels(drawn(ax), ax) == ["mean error [K]"]
    boxes_of(drawn(ax))


@pytest.mark.parametrize("shape", [(9,), (5, 5, 6)])
def test_error_maps_of_lines_and_blocks(shape: tuple[int, ...]) -> None:
    ax = plotting.plot_error_map(abs(comparison(*shape)["truth"]))
    assert ax.get_title() == ("z = 1" if len(shape) == 3 else "")
    assert ax.get_xlabel() == "x [m]"
    boxes_of(drawn(ax))


def test_cases_are_rows_with_names() -> None:
    fields = xr.concat([comparison(4, 5)] * 2, xr.DataArray(["worst", "best"], dims="example", name="example"))
    panels = plotting.plot_cases(fields)
    assert panels.shape == (2, 3)
    titles = [row[0].get_title() for row in panels]
    assert titles == ["worst: truth", "best: truth"]
    boxes_of(drawn(panels[0, 0]))


def test_errors_over_lead_end_where_half_of_the_roll_outs_have_diverged() -> None:
    values = np.tile(np.arange(1.0, 7.0), (5, 1, 1))
    values[:3, :, 4:] = np.inf
    values[4] = np.nan
    lead = ("lead", np.arange(1, 7) / 2, {"units": "s", "long_name": "lead time"})
    error = xr.DataArray(values, {"lead": lead}, ("sample", "time", "lead"), attrs={"long_name": "nRMSE"})
    ax = plotting.plot_error_over_lead({"a": error}, threshold=2.5)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [1, 2, 3, 4, np.nan, np.nan])
    assert (ax.get_xlabel(), legend(ax)) == ("lead time [s]", ["a", "threshold 2.5"])
    boxes_of(drawn(ax))


def test_errors_against_a_parameter_show_every_simulation_and_medians_of_neighbours() -> None:
    parameter = ("sample", np.geomspace(1e-4, 1, 20)[::-1], {"long_name": "diffusivity", "units": "m2 s-1"})
    error = xr.DataArray(np.arange(20.0)[::-1] + 1, {"sample": parameter}, ("sample",), attrs={"long_name": "error"})
    ax = plotting.plot_error_against_parameter({"a": error})
    assert ax.lines[0].get_xdata().size == 20
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [3, 8, 13, 18])
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel() == "diffusivity [m2 s-1]"
    boxes_of(drawn(ax))


def test_spectra_are_densities_on_whole_wave_numbers_without_the_mean() -> None:
    bands = {"wave_number": [0.0, 1.0, 2.0, 4.0], "wave_number_to": ("wave_number", [1.0, 2.0, 4.0, 8.0])}
    attrs = {"long_name": "power", "units": "K2"}
    power = xr.DataArray([9.0, 5.0, 4.0, 8.0], bands, ("wave_number",), attrs=attrs)
    ax = plotting.plot_spectra({"target": power, "error": 0.1 * power})
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [5, 2, 2])
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [1, np.sqrt(6), np.sqrt(28)])
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_ylabel()) == ("log", "log", "power [K2]")
    boxes_of(drawn(ax))


def test_learning_curves_show_the_median_and_the_range_over_seeds() -> None:
    along = ("n", [10, 20, 40], {"long_name": "training simulations"})
    values = np.array([[3.0, 1.0, 2.0], [1.0, np.nan, 3.0], [np.nan] * 3])
    error = xr.DataArray(values, {"n": along}, ("n", "seed"), attrs={"long_name": "error"})
    ax = plotting.plot_learning_curve({"slimtrain": error, "adam": error + 1})
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [10, 20])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [2, 2])
    heights = ax.collections[0].get_paths()[0].get_extents()
    assert (heights.y0, heights.y1) == (1, 3)
    assert ax.get_xlabel() == "training simulations"
    boxes_of(drawn(ax))


def curves(*medians: float) -> dict[str, xr.DataArray]:
    """A method for each number: three seeds about it at four and sixteen simulations."""
    along = ("n", [4, 16], {"long_name": "training simulations"})
    seeds = np.array([[0.9, 1.0, 1.1], [0.45, 0.5, 0.6]])
    return {f"m{i}": xr.DataArray(seeds * m, {"n": along}, ("n", "seed")) for i, m in enumerate(medians)}


def test_many_methods_are_drawn_two_by_two_beside_the_medians_of_the_others() -> None:
    """The scales of all panels are the same and hold every seed of every method."""
    errors = curves(1.0, 2.0, 30.0)
    panels = plotting.plot_learning_curves(errors)
    assert [legend(panel) for panel in panels] == [["m0", "m1", "other methods"], ["m2", "other methods"]]
    assert [len(panel.collections) for panel in panels] == [2, 1]
    grey = [[line.get_ydata().tolist() for line in panel.lines if line.get_color() == "0.65"] for panel in panels]
    assert grey == [[[30, 15]], [[1, 0.5], [2, 1]]]
    low, high = panels[0].get_ylim()
    assert panels[1].get_ylim() == (low, high)
    assert low <= min(error.min() for error in errors.values())
    assert high >= max(error.max() for error in errors.values())
    boxes_of(drawn(panels[0]))


def test_two_methods_share_a_panel() -> None:
    (panel,) = plotting.plot_learning_curves(curves(1.0, 2.0))
    assert legend(panel) == ["m0", "m1"]


@pytest.mark.parametrize(("factor", "scale"), [(1.0, "linear"), (2.0, "log")])
def test_errors_over_a_factor_of_four_are_logarithmic(factor: float, scale: str) -> None:
    (panel,) = plotting.plot_learning_curves(curves(1.0, factor))
    assert panel.get_yscale() == scale
    assert panel.get_ylim()[0] == 0 or scale == "log"
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["4", "16"]


@pytest.mark.parametrize("factor", [1.0, 1e3])
def test_sensitivity_writes_every_number_and_crosses_out_what_is_missing(factor: float) -> None:
    values = np.array([[0.1, 0.2, np.nan], [0.3, 0.4 * factor, 0.5]])
    coords = {"memory": [0, 5], "rate": ("rate", [1e-3, 1e-2, 1e-1], {"long_name": "learning rate"})}
    error = xr.DataArray(values, coords, ("memory", "rate"), attrs={"long_name": "error", "units": "K"})
    ax = plotting.plot_sensitivity(error)
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["0.1", "0.2", "×", "0.3", f"{0.4 * factor:.3g}", "0.5"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0.001", "0.01", "0.1"]
    assert bar_labels(drawn(ax), ax) == ["error [K]"]
    boxes_of(drawn(ax))


def test_one_number_is_a_map_too() -> None:
    drawn(plotting.plot_sensitivity(xr.DataArray([[0.0]], {"a": ["x"], "b": ["y"]}, ("a", "b"))))


def test_reliability_lies_on_the_diagonal_where_levels_are_kept() -> None:
    levels = np.array([0.1, 0.5, 0.9])
    column = ("level", levels)
    curve = xr.Dataset({"coverage": column, "low": column, "high": column}, {"level": levels})
    ax = plotting.plot_reliability({"u": curve})
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), ax.lines[1].get_xdata())
    assert legend(ax) == ["calibrated", "u"]
    boxes_of(drawn(ax))
    flat = plotting.plot_pit({"u": xr.DataArray(np.full(10, 0.1), dims="pit_bin")})
    np.testing.assert_allclose(flat.patches[0].get_data().values, 1)
    boxes_of(drawn(flat))


@pytest.mark.parametrize("count", [1, 2])
def test_latent_space_states_the_shares(count: int) -> None:
    shares = {"explained": ("component", [0.75, 0.2][:count])}
    latent = xr.DataArray(np.random.default_rng(0).normal(size=(9, count)), shares, ("sample", "component"))
    time = xr.DataArray(np.arange(9.0), dims="sample", attrs={"long_name": "time", "units": "s"})
    ax = plotting.plot_latent(latent, colour=time)
    assert ax.get_xlabel() == "component 1 (75 %)"
    assert bar_labels(drawn(ax), ax) == ["time [s]"]
    boxes_of(drawn(ax))
    drawn(plotting.plot_latent(latent))


@pytest.mark.parametrize("shape", [(12,), (6, 8), (3, 6, 8)])
def test_animations_have_a_frame_per_step_and_one_scale(tmp_path: Path, shape: tuple[int, ...]) -> None:
    fields = xr.concat([comparison(*shape) * (i + 1) for i in range(3)], "lead")
    fields = fields.assign_coords(lead=("lead", [0.5, 1.0, 1.5], {"units": "s", "long_name": "lead time"}))
    path = tmp_path / "roll.gif"
    plotting.save_animation(fields, path)
    with Image.open(path) as image:
        assert (image.format, image.n_frames, image.info["loop"]) == ("GIF", 3, 0)
        frames = []
        for index in range(3):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGB"), dtype=int))
    assert all((frames[0] != frame).any() for frame in frames[1:])


def test_colours_of_an_animation_are_those_of_the_scale_in_every_frame(tmp_path: Path) -> None:
    fields = xr.concat([comparison(6, 8) * (i + 1) for i in range(2)], "lead").assign_coords(lead=[0.0, 1.0])
    plotting.save_animation(fields, tmp_path / "roll.gif")
    shades = np.linspace(0, 1, 256)
    scales = [255 * colormaps[name](shades)[:, :3] for name in (plotting.FIELD_COLOURS, plotting.ERROR_COLOURS)]
    with Image.open(tmp_path / "roll.gif") as image:
        for index in range(2):
            image.seek(index)
            pixels = np.unique(np.asarray(image.convert("RGB"), dtype=float).reshape(-1, 3), axis=0)
            coloured = pixels[np.ptp(pixels, axis=1) > 60]
            assert len(coloured) > 50
            assert np.abs(coloured[:, None] - np.concatenate(scales)).max(-1).min(1).max() < 4


def test_an_animation_is_drawn_on_a_given_figure(tmp_path: Path) -> None:
    fields = xr.concat([comparison(6, 8)] * 2, "lead").assign_coords(lead=[0.0, 1.0])
    figure = Figure(figsize=(6, 2), dpi=50, layout="constrained")
    plotting.save_animation(fields, tmp_path / "roll.gif", figure=figure)
    with Image.open(tmp_path / "roll.gif") as image:
        assert image.size == (300, 100)


def test_long_roll_outs_are_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animation, "FRAMES", 3)
    fields = xr.concat([comparison(8) * (i + 1) for i in range(9)], "lead").assign_coords(lead=np.arange(9.0))
    plotting.save_animation(fields, tmp_path / "roll.gif")
    with Image.open(tmp_path / "roll.gif") as image:
        assert image.n_frames == 3


def test_saved_figures_are_complete_files(tmp_path: Path) -> None:
    path = tmp_path / "new" / "figure.png"
    plotting.save_figure(drawn(plotting.plot_training({"a": epochs(3)})), path)
    assert path.read_bytes().startswith(PNG)
    assert list(path.parent.iterdir()) == [path]
    (tmp_path / "file").touch()
    with pytest.raises((ResourceError, OSError)):
        plotting.save_figure(Figure(), tmp_path / "file" / "figure.png")


def test_no_display_and_no_home_are_needed(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from surrogate.plotting import new_figure, save_figure;"
        "save_figure(new_figure()[0], Path(sys.argv[1])); assert 'matplotlib.pyplot' not in sys.modules"
    )
    kept = {key: value for key, value in os.environ.items() if key not in ("HOME", "DISPLAY", "MPLBACKEND")}
    path = tmp_path / "a.png"
    run = subprocess.run(
        [sys.executable, "-c", script, str(path)], env=kept, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert path.read_bytes().startswith(PNG)
