"""The history of benchmarks: a line for every run, and what changed since the last of the same benchmark."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from history import append


def test_a_run_is_compared_with_the_last_of_the_same_benchmark(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    for commit, ratio in (("a", 1.5), ("b", 1.8)):
        for name, cases in (("steps", {"mnist": {"ratio": ratio}}), ("other", {"mnist": {"ratio": 9.0}, "x": {}})):
            (tmp_path / f"{name}.json").write_text(json.dumps({"about": {"threads": 2}, "cases": cases}))
        append(tmp_path / "other.json", commit, history)
        lines = append(tmp_path / "steps.json", commit, history)
    assert lines == [f"{'mnist':60}{1.8:8.3f}    +20.0% since a  <--"]
    entries = [json.loads(line) for line in history.read_text().splitlines()]
    assert [entry["commit"] for entry in entries if entry["benchmark"] == "steps"] == ["a", "b"]
