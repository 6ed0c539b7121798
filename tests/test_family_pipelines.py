"""Every family has a configuration in the catalogue that is valid, and that runs from nothing."""

from pathlib import Path

import pytest

from surrogate.models import Surrogate, families
from surrogate.models.registry import is_fitted
from surrogate.workflows import find_pipeline, read_cases, run_pipeline

NETWORKS = [name for name in families() if not is_fitted(name)]  # all others are cases of classical.yaml
SHRUNK = ["training.epochs=1", "data.split={validation: 2, test: 2, seed: 0}"]


@pytest.mark.parametrize("family", NETWORKS)
def test_the_configuration_of_a_family_is_valid(family: str) -> None:
    (experiment,) = read_cases(find_pipeline(family), [], Path("data")).values()
    assert experiment.name == experiment.model.family == family
    assert experiment.simulate is not None
    assert experiment.data.split.test


@pytest.mark.slow
@pytest.mark.parametrize("family", NETWORKS)
def test_it_runs_from_nothing(family: str, tmp_path: Path) -> None:
    path = find_pipeline(family)
    overrides = [*SHRUNK, "simulate.size=tiny"]
    if family == "pod":
        overrides.append("model.modes=4")  # there are eight training simulations
    report = run_pipeline(path, overrides, tmp_path / "run", print, command="", resume=False, overwrite=False)
    assert report.is_file()
    assert Surrogate.load(tmp_path / "run" / "cases" / "main").settings.family == family
