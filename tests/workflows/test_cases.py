"""A command imports what it needs."""

import subprocess
import sys

import pytest

import surrogate.workflows

HEAVY = ("matplotlib", "sklearn", "scipy.stats", "scipy.signal", "distributed")


@pytest.mark.slow
def test_training_imports_neither_reports_nor_simulators_nor_fits():
    code = f"import sys, surrogate.workflows as w; w.train_case; print([n for n in {HEAVY} if n in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("name", surrogate.workflows.__all__)
def test_every_public_name_is_there(name):
    assert callable(getattr(surrogate.workflows, name))


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        surrogate.workflows.nothing  # noqa: B018
