"""The studies that are shipped: schedules and the exact head are open to every method."""

from __future__ import annotations

from pathlib import Path

import pytest

from surrogate.config import read_yaml
from surrogate.experiment.settings import Experiment, case_sources, read_experiment
from surrogate.studies import STUDY, read_study

PIPELINES = Path(__file__).parents[2] / "pipelines"
STUDIES = sorted(path for path in PIPELINES.rglob("*.yaml") if STUDY in read_yaml(path).tree)


def read(path: Path) -> dict[str, Experiment]:
    source = read_yaml(path)
    source.tree["data"].setdefault("path", "data")
    return {name: read_experiment(case) for name, case in case_sources(source).items()}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_has_both_methods_plain_and_with_a_schedule_and_an_exact_head(path: Path) -> None:
    """A loop that proposes solves the head exactly after every training run, for any method."""
    study, methods = read_study(read_yaml(path)), read(path).values()
    found = {(it.optimizer.name, it.training.schedule, it.training.refit) for it in methods}
    solved = "none" if study.kind == "propose" else "end"
    assert found == {
        (name, *way) for name in ("adam", "slimtrain") for way in (("constant", "none"), ("cosine", solved))
    }


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_methods_of_a_study_differ_in_optimizer_schedule_and_refit_alone(path: Path) -> None:
    methods = list(read(path).values())
    same = [it.model_dump(exclude={"optimizer": True, "training": {"schedule", "refit"}}) for it in methods]
    assert all(it == same[0] for it in same)
    assert len({it.optimizer.learning_rate for it in methods}) == 1
    assert len(read_study(read_yaml(path)).seeds) >= 3
