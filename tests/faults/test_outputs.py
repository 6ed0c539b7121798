"""No command writes or removes anything outside its output, nor anything that it reads; links are not followed."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from surrogate.data.convert import convert
from surrogate.data.mapping import Mapping
from surrogate.data.staging import stage
from surrogate.errors import ConfigError, InUse
from surrogate.files import MARKER, claim_output, locked
from surrogate.models.export import export_surrogate
from surrogate.prediction import predict
from surrogate.simulate.card import write_card
from surrogate.simulate.generate import generate, load_recipe
from surrogate.workflows import Spread, evaluate_run, load_surrogate, report_folders, run_file, train_case

LAYOUT = {"variables": {name: {"path": name, "axes": ["sample", "x"]} for name in "ku"}}
CONFIG = {
    "name": "small",
    "data": {
        "path": "data.h5",
        "layout": LAYOUT,
        "inputs": ["k"],
        "targets": ["u"],
        "split": {"validation": 4, "test": 4},
    },
    "model": {"family": "convnet", "width": 2, "depth": 1},
    "optimizer": {"name": "adam"},
    "training": {"epochs": 1, "batch_size": 8, "device": "cpu"},
}
STUDY = CONFIG | {"study": {"kind": "learning_curve", "axes": {"data.split.train": [4, 8]}, "seeds": [0]}}
OPTIONS = {"command": "surrogate", "resume": False, "overwrite": False}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with data, a configuration, a study and things of other people next to them."""
    monkeypatch.chdir(tmp_path)
    k = np.random.default_rng(0).normal(size=(16, 8)).astype("f4")
    with h5py.File("data.h5", "w") as file:
        file["k"], file["u"] = k, k + np.roll(k, 1, axis=1)
    Path("config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    Path("study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    for name in ("others/.lock", "others/checkpoints/LATEST", "others/log.jsonl", "others/evaluation/metrics.nc"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"what is in {name}")
    return tmp_path


def state(folder: Path, *outputs: str) -> dict[str, str]:
    """Content of every file and target of every link, except in the outputs and of notes next to data."""
    result = {}
    for where, folders, files in os.walk(folder):
        if where == str(folder):
            folders[:] = [name for name in folders if name not in outputs]
        for path in (Path(where, name) for name in [*folders, *files]):
            relative = path.relative_to(folder).as_posix()
            if relative in outputs or path.name.startswith((".statistics-", ".verified-")):
                continue
            if path.is_symlink():
                result[relative] = f"-> {os.readlink(path)}"
            elif path.is_file():
                result[relative] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                result[relative] = "folder"
    return result


def train(output: str, **options: bool) -> Path:
    return train_case(Path("config.yaml"), [], Path(output), case=None, **(OPTIONS | options))


def run(file: str, output: str, **options: Any) -> Path | None:
    return run_file(Path(file), [], Path(output), lambda _: None, **(OPTIONS | options))


@pytest.mark.slow
def test_every_command_stays_in_its_output(folder: Path) -> None:
    before = state(folder)
    train("a")
    assert state(folder, "a") == before
    evaluate_run(Path("a"), lambda _: None)
    assert state(folder, "a") == before
    report_folders([Path("a")], Path("b"), command="surrogate")
    surrogate, layout = load_surrogate(Path("a"), "cpu")
    predict(surrogate, "data.h5", Path("p.nc"), layout=layout)
    export_surrogate(surrogate, Path("m.pt2"))
    convert("data.h5", Path("c"), "shards", layout=layout)
    generate(load_recipe("peaks", ["sizes.tiny.simulations=2"]), "tiny", Path("d"))
    run("config.yaml", "e")
    run("study.yaml", "f")
    run("study.yaml", "f", resume=True)
    run("config.yaml", "e", overwrite=True)
    assert state(folder, *"abcdef", "p.nc", "m.pt2") == before


LINKS = (".lock", "checkpoints", "evaluation", "log.jsonl")


@pytest.mark.parametrize("name", LINKS)
def test_links_in_a_run_folder_are_not_followed(folder: Path, name: str) -> None:
    Path("mine").mkdir()
    (Path("mine") / MARKER).touch()
    (Path("mine") / name).symlink_to(folder / "others" / name)
    before = state(folder)
    with pytest.raises(ConfigError, match=f"{name} is a symbolic link"):
        train("mine", resume=True)
    assert state(folder) == before
    if name != ".lock":
        train("mine", overwrite=True)  # the link itself is what is removed
        assert state(folder, "mine") == state(folder, "mine") | {k: v for k, v in before.items() if k[:4] != "mine"}
        assert not (Path("mine") / name).is_symlink()


def test_evaluation_does_not_follow_links(folder: Path) -> None:
    train("mine")
    Path("mine/evaluation").symlink_to(folder / "others" / "evaluation")
    before = state(folder)
    with pytest.raises(ConfigError, match=r"evaluation is a symbolic link to .* outside of the folder"):
        evaluate_run(Path("mine"), lambda _: None)
    assert state(folder) == before


def test_copies_on_a_node_do_not_follow_links(folder: Path) -> None:
    """The folder may be one that all users of a node share."""
    copy = Path(stage("data.h5", Path("node")))
    shutil.rmtree(copy.parent)
    before = state(folder, "node")
    lock, part = (Path("node") / f".{copy.parent.name}.{kind}" for kind in ("lock", "part"))
    lock.unlink(missing_ok=True)
    lock.symlink_to(folder / "others/log.jsonl")
    with pytest.raises(ConfigError, match="is a symbolic link, which a lock cannot be"):
        stage("data.h5", Path("node"))
    lock.unlink()
    for link in (part, copy.parent):
        link.symlink_to(folder / "others")
    assert stage("data.h5", Path("node")) == str(copy)
    assert copy.read_bytes() == Path("data.h5").read_bytes()
    assert not copy.parent.is_symlink()
    assert state(folder, "node") == before


@pytest.mark.parametrize("file", ["config.yaml", "study.yaml"])
@pytest.mark.parametrize("read", ["data.h5", "configuration"])
def test_what_is_read_is_never_removed(folder: Path, file: str, read: str) -> None:
    inside = Path("out") / "kept" / (file if read == "configuration" else read)
    claim_output(Path("out"))
    inside.parent.mkdir()
    shutil.move(file if read == "configuration" else read, inside)
    if read == "configuration":
        file = str(inside)
    else:
        tree = yaml.safe_load(Path(file).read_text())
        Path(file).write_text(yaml.safe_dump(tree | {"data": tree["data"] | {"path": str(inside)}}))
    before = state(folder)
    with pytest.raises(ConfigError, match=r"is inside the output out, which --overwrite empties"):
        run(file, "out", overwrite=True)
    assert state(folder) == before


def test_the_working_directory_is_never_emptied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim_output(Path("out/deep"))
    (Path("out") / MARKER).touch()
    Path("out/deep/kept").touch()
    monkeypatch.chdir("out/deep")
    before = state(folder)
    for output in (Path(".."), Path("."), folder / "out", folder / "out" / "deep"):
        with pytest.raises(ConfigError, match="holds the working directory"):
            claim_output(output, overwrite=True)
    assert state(folder) == before


def test_an_output_that_is_a_link_is_not_emptied(folder: Path) -> None:
    claim_output(Path("real"))
    Path("real/kept").touch()
    Path("out").symlink_to("real")
    with pytest.raises(ConfigError, match="out is a symbolic link; give the folder that it names"):
        claim_output(Path("out"), overwrite=True)
    assert Path("real/kept").exists()


def test_a_prediction_never_replaces_what_it_reads(folder: Path) -> None:
    train("mine")
    Path("same.h5").symlink_to("data.h5")
    Path("linked.h5").unlink(missing_ok=True)
    with h5py.File("linked.h5", "w") as file:
        file["k"], file["u"] = h5py.ExternalLink("data.h5", "k"), np.ones((16, 8), "f4")
    surrogate, layout = load_surrogate(Path("mine"), "cpu")
    before = state(folder)
    for inputs, output in (
        ("data.h5", "data.h5"),
        ("*a.h5", "data.h5"),
        ("data.h5", "same.h5"),
        ("linked.h5", "data.h5"),
    ):
        with pytest.raises(ConfigError, match=f"{output} is read by this command, so it is not replaced"):
            predict(surrogate, inputs, Path(output), layout=layout, overwrite=True)
    assert state(folder) == before
    predict(surrogate, "data.h5", Path("p.nc"), layout=layout)
    with pytest.raises(ConfigError, match=r"p\.nc exists already; give --overwrite"):
        predict(surrogate, "data.h5", Path("p.nc"), layout=layout)
    predict(surrogate, "data.h5", Path("p.nc"), layout=layout, overwrite=True)


def test_tables_and_files_that_data_refer_to_are_never_removed(folder: Path) -> None:
    claim_output(Path("out"))
    Path("out/t.csv").write_text("y1,y2\n" + "0.5,0.5\n" * 4)
    shutil.move("data.h5", "out/far.h5")
    with h5py.File("data.h5", "w") as file:
        file["k"], file["u"] = h5py.ExternalLink("out/far.h5", "k"), np.ones((16, 8), "f4")
    before = state(folder)
    peaks = load_recipe("peaks", ["sizes.tiny.simulations=4", "sampling.method=table", "sampling.table=out/t.csv"])
    refused = pytest.raises(ConfigError, match=r"is inside the output out, which --overwrite empties")
    with refused:
        generate(peaks, "tiny", Path("out"), overwrite=True)
    with refused:
        train("out", overwrite=True)
    with refused:
        convert("data.h5", Path("out"), "shards", layout=Mapping.model_validate(LAYOUT), overwrite=True)
    with refused:
        run("study.yaml", "out", overwrite=True)
    assert state(folder) == before


def test_a_card_replaces_nothing_but_a_card(folder: Path) -> None:
    Path("README.md").write_text("# mine\n")
    with pytest.raises(ConfigError, match=r"has a README\.md or picture\.png that is no card of peaks"):
        write_card(load_recipe("peaks"), "tiny", folder)
    assert Path("README.md").read_text() == "# mine\n"


def test_a_lost_marker_has_a_way_out(folder: Path) -> None:
    claim_output(Path("out"))
    Path("out/kept").touch()
    (Path("out") / MARKER).unlink()
    for options in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(ConfigError, match=r"if its file \.surrogate was lost: touch out/\.surrogate"):
            claim_output(Path("out"), **options)
    (Path("out") / MARKER).touch()
    claim_output(Path("out"), resume=True)


def test_a_folder_is_emptied_under_its_lock(folder: Path) -> None:
    claim_output(Path("out"))
    Path("out/kept").touch()
    with locked(Path("out")), pytest.raises(InUse):
        claim_output(Path("out"), overwrite=True)
    assert Path("out/kept").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"training": CONFIG["training"] | {"epochs": 2}},
        {"name": "other"},
        {"study": STUDY["study"] | {"seeds": [1]}},
    ],
)
def test_a_folder_holds_one_study(folder: Path, change: dict) -> None:
    run("study.yaml", "out", spread=Spread(part=(9, 9)))  # the plan, and none of the two cases
    before = state(folder)
    Path("other.yaml").write_text(yaml.safe_dump(STUDY | change, sort_keys=False))
    with pytest.raises(ConfigError, match=r"output out holds a study with another configuration \(.* -> "):
        run("other.yaml", "out", resume=True)
    Path("other.yaml").unlink()
    assert state(folder) == before


@pytest.mark.slow
def test_a_study_may_grow(folder: Path) -> None:
    run("study.yaml", "out")
    Path("study.yaml").write_text(
        yaml.safe_dump(STUDY | {"study": STUDY["study"] | {"seeds": [0, 1]}}, sort_keys=False)
    )
    run("study.yaml", "out", resume=True)
    assert len(list(Path("out/cases").iterdir())) == 4
