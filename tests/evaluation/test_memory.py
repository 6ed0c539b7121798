"""Statistics and an evaluation take no more memory on more data."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "evaluation.py"


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """The passes over 512 MB add less than 100 MB to those over the first 64 MB: the table of 31,000 samples."""
    command = [sys.executable, str(BENCHMARK), "--gigabytes", "0.512"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["megabytes"] >= 500
    assert found["peak_growth_mb"] < 100
