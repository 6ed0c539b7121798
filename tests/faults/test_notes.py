"""The small files of runs and studies: damage, a lost file or a pipe in their place is noticed, never used."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from surrogate.batch import Batch
from surrogate.errors import ConfigError, DataError
from surrogate.experiment.run_folder import RunFolder
from surrogate.files import read_json, sha256, write_json
from surrogate.normalize import cached_normalizers
from surrogate.studies import Failure, read_failure, write_note
from surrogate.workflows import run_file

CONTENT = {"error": "1 of 25 values", "kind": "DataError", "final": False, "numbers": [1.5, None, 3]}


def test_every_changed_character_of_a_note_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    write_json(path, CONTENT)
    assert read_json(path) == CONTENT
    text, said = path.read_text(), []
    for place in range(len(text)):
        path.write_text(text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :])
        try:
            assert read_json(path) == CONTENT or "sha256" not in path.read_text()
        except DataError as error:
            said.append(str(error))
    assert len(said) > len(text) / 2
    assert not any("\n" in line for line in said)


def test_a_changed_digit_of_a_study_is_noticed(tmp_path: Path) -> None:
    failure = RunFolder(tmp_path).failure
    write_note(failure, Failure(error="1 of 25 values", kind="DataError", final=False))
    failure.write_text(failure.read_text().replace("25", "26"))
    with pytest.raises(DataError, match=r"failed\.json: damaged, or not written by a study; remove it"):
        read_failure(tmp_path)


FACTS = {"name": "a", "command": "", "seed": 0, "versions": {}, "data_fingerprint": "f", "splits": {"test": 3}}
FACTS |= {"train_seconds": None}


@pytest.mark.parametrize("content", ["{}", "[]", "null", "{", '{"seed": 3}', json.dumps(FACTS | {"splits": 3}), "\0"])
def test_facts_of_a_run_are_read_whole_or_refused(tmp_path: Path, content: str) -> None:
    run = RunFolder(tmp_path)
    assert run.begun() == {}
    run.facts.write_text(json.dumps(FACTS | {"steps": 4}))
    assert run.begun() == FACTS | {"steps": 4}
    run.facts.write_text(content)
    with pytest.raises(DataError, match=r"run\.json .*it was edited or damaged"):
        run.begun()


@pytest.mark.parametrize("line", ["3", "{", "[]", "{}", '{"event": 3}', '{"event": "epoch", "epoch": "x"}', "[" * 9999])
def test_a_damaged_line_of_a_log_is_named(tmp_path: Path, line: str) -> None:
    run = RunFolder(tmp_path)
    run.log_file.write_text('{"event": "step", "step": 1}\n{"event": "st')
    assert run.records() == [{"event": "step", "step": 1}]
    run.log_file.write_text(f'{{"event": "step", "step": 1}}\n{line}\n')
    with pytest.raises(DataError, match=r"log\.jsonl:2: no record of a run; remove this line, or train again"):
        run.records()


READERS: list[Callable[[Path], object]] = [
    sha256,
    read_json,
    lambda path: RunFolder(path.parent).begun(),
    lambda path: RunFolder(path.parent).records(),
    lambda path: read_failure(path.parent),
]


@pytest.mark.parametrize("read", READERS, ids=range(len(READERS)))
def test_a_pipe_in_the_place_of_a_file_does_not_block(tmp_path: Path, read: Callable[[Path], object]) -> None:
    for name in ("run.json", "log.jsonl", "failed.json"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=r"is a pipe or a device|damaged"):
        read(tmp_path / "run.json")


class Stream:
    """Two batches of one channel, as training data are read."""

    input_names, target_names, content = ("a",), ("u",), "0"

    def __init__(self) -> None:
        self.passes = 0

    def __iter__(self):  # type: ignore[no-untyped-def]
        self.passes += 1
        for seed in range(2):
            values = torch.randn(4, 1, 8, generator=torch.Generator().manual_seed(seed))
            yield Batch(values, 3 * values, torch.arange(4), torch.zeros(4))


def test_damaged_statistics_are_computed_again(tmp_path: Path) -> None:
    stream = Stream()
    first = cached_normalizers(stream, tmp_path)[0].state_dict()
    cached_normalizers(stream, tmp_path)
    assert stream.passes == 1
    (kept,) = tmp_path.glob(".statistics-*")
    kept.write_text(re.sub(r"\d\.\d", "5.5", kept.read_text(), count=1))
    again = cached_normalizers(stream, tmp_path)[0].state_dict()
    assert stream.passes == 2
    assert all(torch.equal(again[name], value) for name, value in first.items())


def test_cases_without_their_plan_are_not_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", a=np.ones((12, 4)), u=np.ones((12, 4)))
    Path("study.yaml").write_text("""
name: s
data:
  path: data.npz
  layout: {variables: {a: {path: a, axes: [sample, x]}, u: {path: u, axes: [sample, x]}}}
  inputs: [a]
  targets: [u]
  split: {validation: 2, test: 2}
model: {family: convnet, width: 2, depth: 1}
optimizer: {name: adam}
training: {epochs: 1, device: cpu}
study: {kind: learning_curve, axes: {data.split.train: [4, 8]}, seeds: [0]}
""")
    Path("out/cases/main-0").mkdir(parents=True)
    Path("out/.surrogate").touch()
    with pytest.raises(ConfigError, match=r"out holds cases but no plan\.json, so it is unknown what they belong to"):
        run_file(Path("study.yaml"), [], Path("out"), print, command="", resume=True, overwrite=False)
