"""The report: one file without script or network, every number from the files, names never trusted."""

import csv
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from pictures import save_blank
from PIL import Image
from torch import Tensor, nn

from surrogate.batch import Batch
from surrogate.errors import ConfigError, DataError
from surrogate.evaluation import (
    ErrorMaps,
    Labels,
    collect_examples,
    evaluate,
    evaluate_uncertainty,
    latent_space,
    save,
    save_dataset,
    save_uncertainty,
    select_examples,
)
from surrogate.files import write_manifest
from surrogate.report import html, write_report
from surrogate.report.findings import compare, findings
from surrogate.report.runs import read_case
from surrogate.report.tables import Table

HOSTILE = '<script>alert("x")</script> $\\foo$ & _'


class Page(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def images(self) -> list[str]:
        return [str(attributes["src"]) for tag, attributes in self.tags if tag == "img"]


def make_run(
    folder: Path, *, noise: float, samples: int = 12, variables: tuple[str, ...] = ("u",), examples: bool = False
) -> Path:
    """A run folder as training and evaluation leave it; `noise` is the relative error of the prediction."""
    shape = (samples, 3, len(variables), 6)
    targets = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    sample, time = (index.ravel() for index in np.mgrid[:samples, :3])
    flat = targets.reshape(-1, *shape[2:])
    batch = Batch(flat, flat, torch.from_numpy(sample), torch.from_numpy(time))

    def predict(inputs: Tensor) -> Tensor:
        return inputs * (1 + noise)

    labels = {"times": [0.0, 0.5, 1.0], "simulations": np.arange(samples), "units": ["K"] * len(variables)}
    metrics = evaluate(predict, [batch], variables=variables, given=(0,), scored=(1,), **labels)
    metrics.attrs["split"] = "test"
    save(metrics, folder / "evaluation")
    if examples:
        fields = collect_examples(predict, [batch], select_examples(metrics), coordinates={"x": np.arange(6.0)})
        save_dataset(fields, folder / "evaluation" / "examples.nc")
    write_manifest(folder / "evaluation")
    (folder / "config.yaml").write_text("name: demo\n# <b>not bold</b>\n", encoding="utf-8")
    facts = {
        "name": "demo", "command": "surrogate train demo.yaml", "seed": 4, "versions": {"torch": "9.9.9"},
        "config_digest": "digest-c0ffee", "data_fingerprint": "print-f00d", "parameters": 28731,
        "splits": {"train": 40, "test": samples}, "train_seconds": 63.25,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    records = [{"event": "step", "step": 1, "epoch": 1, "loss": 1.0, "damping": -1e-3, "running_sum": 0.5}]
    records += [{"event": "step", "step": 2, "epoch": 1, "loss": None, "damping": None, "running_sum": 0.7}]
    records += [{"event": "epoch", "epoch": 1, "step": 2, "train_loss": 0.5, "validation_loss": 0.625, "seconds": 1.0}]
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return folder


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surrogate.report.figures.save_figure", save_blank)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two runs with examples; `runs/` lies beside it."""
    folder = tmp_path_factory.mktemp("compared")
    runs = {
        "slimtrain": make_run(folder / "runs" / "slimtrain", noise=0.03, examples=True),
        "adam": make_run(folder / "runs" / "adam", noise=0.05, examples=True),
    }
    return write_report(folder / "out", runs, title="demo", command="surrogate run demo --set a=1")


def words(runs: dict[str, Path]) -> str:
    """The summary in plain words."""
    cases = [read_case(name, folder) for name, folder in runs.items()]
    return "\n".join(findings(cases, compare(cases)))


def test_one_file_without_script_or_network(compared: Path) -> None:
    content = Page(compared)
    text = compared.read_text(encoding="utf-8")
    assert compared.name == "report.html"
    assert text.startswith("<!DOCTYPE html>")
    assert "<script" not in text
    assert not re.search(r"https?://", text)
    assert not {"script", "link", "iframe", "object", "embed"} & {tag for tag, _ in content.tags}
    assert all(source.startswith("data:image/png;base64,") for source in content.images())
    figures = sorted(path.name for path in (compared.parent / "figures").iterdir())
    overview = {"intervals", "error_over_time", "error_histogram", "training", "damping", "running_sum"}
    cases = {f"case{i}_{name}" for i, name in ((1, "slimtrain"), (2, "adam"))}
    each = {f"{case}_{kind}" for case in cases for kind in ("worst", "median", "best", "spectra")}
    assert {name.removesuffix(".png") for name in figures} == overview | each
    assert len(figures) == len(content.images())
    assert all(name.endswith(".png") for name in figures)
    assert compared.stat().st_size < 10_000_000


def test_the_contents_link_to_every_heading(compared: Path) -> None:
    content = Page(compared)
    links = {attributes.get("href", "").removeprefix("#") for tag, attributes in content.tags if tag == "a"}
    headings = {attributes.get("id") for tag, attributes in content.tags if tag == "h2"}
    assert headings == links == {"results", "case1", "case2", "repeat", "reading", "definitions"}


def test_text_has_one_size_in_all_pictures(compared: Path) -> None:
    """Every picture is shown at the same number of CSS pixels for an inch, and none is wider than the page."""
    folder, content = compared.parent / "figures", Page(compared)
    shown = sorted(int(attributes["width"] or 0) for tag, attributes in content.tags if tag == "img")
    pixels = [Image.open(path).width for path in folder.iterdir()]
    assert shown == sorted(round(width * 96 / 120) for width in pixels)
    assert max(shown) <= 1072


@pytest.mark.parametrize(
    "cells",
    [
        ["0.02", "0.3", "1.5", "12,000", "diverged", "–"],
        ["-3e-5", "1e-3 … 2", "0.01 … 0.02", "> 1"],
        ["5 ms", "2 s", "1 min", "fit"],
        ["adam", "mean", "slimtrain"],
    ],
)
def test_cells_sort_by_the_number_they_open_with(cells: list[str]) -> None:
    for order in itertools.islice(itertools.permutations(range(len(cells))), 0, None, 7):
        table = Table("", ["a", "b"], [[str(order[row]), cells[order[row]]] for row in range(len(cells))])
        assert [row[1] for row in table.places] == list(order)


def test_every_number_is_defined_on_the_page(compared: Path) -> None:
    """The report carries the page of definitions of the documentation and links to it."""
    content = Page(compared)
    assert {"#definitions"} <= {attributes.get("href") for _, attributes in content.tags}
    assert {"definitions"} <= {attributes.get("id") for _, attributes in content.tags}
    for name in ("nRMSE", "VRMSE", "cRMSE", "bRMSE", "fRMSE"):
        assert name in content.text
        assert name.lower() in content.text
    assert "sqrt(mean_i mean_t rmse^2)" in content.text
    assert "`" not in content.text.partition("Definition of every number")[2]


@pytest.mark.parametrize("run", ["slimtrain", "adam"])
def test_numbers_are_those_of_the_files(compared: Path, run: str) -> None:
    text = Page(compared).text
    path = compared.parents[1] / "runs" / run / "evaluation" / "summary.csv"
    with open(path, newline="", encoding="utf-8") as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    shown = [("relative_l2", "mean"), ("relative_l2", "low"), ("relative_l2", "high"), ("relative_l2", "median")]
    shown += [("nrmse", "mean"), ("rmse", "mean"), ("vrmse", "median"), ("crmse", "mean"), ("max_error", "largest")]
    for metric, column in shown:
        assert f"{float(rows[metric][column]):.4g}" in text


@pytest.mark.parametrize(
    "fact",
    [
        *("28,731", "63.25", "0.625", "print-f00d", "digest-c0ffee", "torch 9.9.9", "train 40, test 12"),
        *("surrogate run demo --set a=1", "surrogate train demo.yaml", "steps scored: t+1", "<b>not bold</b>"),
    ],
)
def test_facts_are_those_of_the_files(compared: Path, fact: str) -> None:
    assert fact in Page(compared).text


def test_a_difference_that_holds_on_every_sample_is_told(compared: Path) -> None:
    text = Page(compared).text
    assert "The model slimtrain is better than the model adam, with a mean error" in text
    assert (
        "Each case was trained once (seeds: slimtrain 4, adam 4), so the verdicts are about these trained models"
        in text
    )


def test_equal_cases_are_not_told_apart(tmp_path: Path) -> None:
    text = words({name: make_run(tmp_path / name, noise=0.03, samples=3) for name in ("a", "b")})
    assert "no significant difference between the models a and b" in text
    assert "With 3 test samples, the intervals are rough." in text


def test_an_interrupted_run_is_reported_with_a_caution(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", noise=0.03)
    assert "interrupted" not in words({"main": folder})
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(json.dumps(facts | {"train_seconds": None}), encoding="utf-8")
    (folder / "config.yaml").write_text("training: {epochs: 7}\n", encoding="utf-8")
    assert "main: training was interrupted after 1 of 7 epochs" in words({"main": folder})


def test_an_evaluation_older_than_the_end_of_training_is_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", noise=0.03)
    path = folder / "evaluation" / "metrics.nc"
    save_dataset(xr.load_dataset(path, engine="h5netcdf").assign_attrs(training_finished=0), path)
    write_manifest(path.parent)
    assert "main: evaluated before its training had finished" in words({"main": folder})


def test_cases_with_other_test_samples_are_not_compared(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", noise=0.03)
    fewer = make_run(tmp_path / "b", noise=0.9, samples=11)
    other = make_run(tmp_path / "c", noise=0.9, variables=("v",))
    for second in (fewer, other):
        text = words({"a": first, "b": second})
        assert "were not evaluated on the same test samples" in text
        assert "better" not in text


def test_cases_with_other_data_are_not_compared(tmp_path: Path) -> None:
    runs = {"a": make_run(tmp_path / "a", noise=0.03), "b": make_run(tmp_path / "b", noise=0.9)}
    facts = json.loads((runs["b"] / "run.json").read_text(encoding="utf-8"))
    (runs["b"] / "run.json").write_text(json.dumps(facts | {"data_fingerprint": "other"}), encoding="utf-8")
    assert "were not evaluated on the same test samples" in words(runs)


@pytest.mark.usefixtures("blank")
def test_one_run_is_reported_alone(tmp_path: Path) -> None:
    runs = {"main": make_run(tmp_path / "run", noise=0.03, variables=("u", "v"))}
    content = Page(write_report(tmp_path / "run" / "report", runs, title="demo", command="c"))
    assert "main has a relative L2 error of 0.03 on average over 12 samples" in content.text
    assert "against the best" not in content.text
    assert "No examples were written for this case." in content.text


def test_names_are_escaped_everywhere(tmp_path: Path) -> None:
    runs = {"../b": make_run(tmp_path / "b", noise=0.1, variables=(HOSTILE,))}
    runs[HOSTILE] = make_run(tmp_path / "h", noise=0.03, variables=(HOSTILE,), examples=True)
    path = write_report(tmp_path / "out", runs, title=HOSTILE, command=HOSTILE)
    content = Page(path)
    assert "script" not in {tag for tag, _ in content.tags}
    assert content.text.count(HOSTILE) >= 4
    assert {file.parent for file in tmp_path.rglob("*.png")} == {tmp_path / "out" / "figures"}


def add_everything(folder: Path, *, samples: int = 12) -> None:
    """What an autoencoder with uncertainty leaves beside the metrics: maps, a latent space, scores, parameters."""
    generator = torch.Generator().manual_seed(1)
    targets = torch.randn(samples * 3, 1, 8, 6, generator=generator, dtype=torch.float64)
    sample, time = (torch.from_numpy(index.ravel()) for index in np.mgrid[:samples, :3])
    batch = Batch(targets + torch.randn(targets.shape, generator=generator), targets, sample, time)
    labels = {"variables": ("u",), "times": [0.0, 0.5, 1.0], "units": ["K"], "given": (0,), "scored": (1,)}
    maps = ErrorMaps()
    metrics = evaluate(lambda inputs: inputs, [batch], maps=maps, **labels).assign_attrs(split="test")
    parameter = ("sample", np.geomspace(1e-3, 1, samples), {"long_name": "diffusivity", "units": "m2 s-1"})
    save(metrics.assign_coords(parameter_diffusivity=parameter), folder / "evaluation")
    save_dataset(maps.dataset(("u",), ["K"]), folder / "evaluation" / "maps.nc")
    scores = evaluate_uncertainty(lambda inputs: (inputs, torch.ones_like(inputs)), [batch], **labels)
    save_uncertainty(scores.assign_attrs(split="test"), folder / "evaluation")
    flat = nn.Sequential(nn.Flatten(), nn.Linear(48, 4)).double()
    latent = latent_space(flat, flat[1], [batch], Labels(**labels))
    save_dataset(latent, folder / "evaluation" / "latent.nc")
    write_manifest(folder / "evaluation")


@pytest.mark.usefixtures("blank")
def test_what_a_run_offers_beyond_metrics_is_shown(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", noise=0.03)
    add_everything(folder)
    path = write_report(tmp_path / "out", {"main": folder}, title="demo", command="c")
    content = Page(path)
    names = {file.stem for file in (tmp_path / "out" / "figures").iterdir()}
    assert {"parameters", *(f"case1_main_{kind}" for kind in ("maps", "spectra", "reliability", "latent"))} <= names
    with open(folder / "evaluation" / "uncertainty.csv", newline="", encoding="utf-8") as file:
        rows = {(row["metric"], row["band"]): row for row in csv.DictReader(file)}
    inside = 100 * float(rows["coverage", "0.9"]["mean"])
    assert f"predicted standard deviations contain {inside:.4g} % of the values of u" in content.text
    for score in ("crps", "nll", "sharpness", "rmse"):
        assert f"{float(rows[score, '']['mean']):.4g}" in content.text
    assert {row["steps_scored"] for row in rows.values()} == {"t+1"}
    assert "principal components of 4 latent numbers" in content.text
    assert content.text.count("steps given t+0, scored t+1") == 4  # every table says so


def test_zero_targets_are_stated(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", noise=0.03)
    batch = Batch(torch.ones(2, 1, 4), torch.zeros(2, 1, 4), torch.arange(2), torch.zeros(2, dtype=torch.long))
    save(evaluate(lambda inputs: inputs, [batch], variables=("u",)), folder / "evaluation")
    write_manifest(folder / "evaluation")
    text = words({"main": folder})
    assert "every target is zero everywhere" in text
    assert "2 targets are zero everywhere" in text


def test_a_full_page_names_the_figures_it_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "IMAGE_BYTES", 30_000)
    runs = {"main": make_run(tmp_path / "run", noise=0.03)}
    content = Page(write_report(tmp_path / "out", runs, title="demo", command="c"))
    links = [str(attributes["href"]) for tag, attributes in content.tags if tag == "a"]
    links = [link for link in links if not link.startswith("#")]
    assert links
    assert len(links) + len(content.images()) == 6
    assert all((tmp_path / "out" / link).is_file() for link in links)


@pytest.mark.parametrize("file", ["metrics.nc", "summary.csv"])
def test_a_run_that_was_not_evaluated_is_named(tmp_path: Path, file: str) -> None:
    folder = make_run(tmp_path / "run", noise=0.03)
    (folder / "evaluation" / file).unlink()
    with pytest.raises(ConfigError, match=f"run `surrogate evaluate {re.escape(str(folder))}` first"):
        write_report(tmp_path / "out", {"main": folder}, title="demo", command="c")
    assert not (tmp_path / "out" / "report.html").exists()


def test_folders_that_are_no_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no run folder: config\.yaml is missing"):
        write_report(tmp_path / "out", {"main": tmp_path}, title="demo", command="c")
    with pytest.raises(ConfigError, match="no runs were given"):
        write_report(tmp_path / "out", {}, title="demo", command="c")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", "{", r"run.json cannot be read"),
        ("run.json", "[]", r"run.json holds no facts of a run"),
        ("log.jsonl", "{}\nnonsense\n", r"log.jsonl:1: no record of a run"),
        ("evaluation/summary.csv", "nothing\n", r"summary.csv: no table of metrics"),
        ("evaluation/metrics.nc", "nothing", r"metrics.nc: cannot be read"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, file: str, content: str, message: str) -> None:
    folder = make_run(tmp_path / "run", noise=0.03)
    (folder / file).write_text(content, encoding="utf-8")
    write_manifest(folder / "evaluation")
    with pytest.raises(DataError, match=message):
        read_case("main", folder)


def test_the_unfinished_last_line_of_a_killed_run_is_left_out(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", noise=0.03)
    with open(folder / "log.jsonl", "a", encoding="utf-8") as file:
        file.write('{"event": "st')
    assert read_case("main", folder).steps.sizes["step"] == 2
