"""Killed or asked to stop, at any step or in the middle of a checkpoint, a run resumes to the same end."""

import json
import os
import random
import signal
from pathlib import Path

import forked
import pytest

SCRIPT = Path(__file__).with_name("killed.py")
OPTIMIZERS = ["slimtrain", "adam", "adamw", "sgd", "muon", "lbfgs", "gnvpro", "elm"]
SHORT = {"elm": (4, 12)}  # steps and flushes of the whole run; the others have 12 and more than 30


def compare(folder: Path, optimizer: str, cases: list[str]) -> None:
    done = forked.run(str(SCRIPT), str(folder), optimizer, *cases, folder=folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    status, expected = found["undisturbed"]
    assert status == 0, done.stderr
    for case in cases:
        ended, resumed, digests = found[case]
        if case.startswith("term"):
            assert os.waitstatus_to_exitcode(ended) == 75
        else:
            assert os.WTERMSIG(ended) == signal.SIGKILL, done.stderr
        assert os.waitstatus_to_exitcode(resumed) == 0, done.stderr
        assert digests == expected, case


@pytest.mark.parametrize(("optimizer", "cases"), [("slimtrain", ["step:7", "write:9"]), ("muon", ["term:5"])])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path, optimizer: str, cases: list[str]) -> None:
    compare(tmp_path, optimizer, cases)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_survives_kills_at_twenty_random_moments(tmp_path: Path, optimizer: str) -> None:
    random.seed(optimizer)
    steps, writes = SHORT.get(optimizer, (12, 30))
    cases = [f"{random.choice(['step', 'step', 'term'])}:{random.randrange(1, steps)}" for _ in range(12)]
    cases += [f"write:{random.randrange(1, writes)}" for _ in range(8)]
    compare(tmp_path, optimizer, sorted(set(cases)))
