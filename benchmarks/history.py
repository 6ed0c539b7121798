"""Append the ratios of benchmarks to the history, and show what changed since the last entry of the same kind.

python benchmarks/history.py runs/bench/slimtrain.json

A benchmark is named after its file. An entry is a line of `benchmarks/history.jsonl`: date, commit, benchmark, about,
ratios by case.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path
from typing import Any

HISTORY = Path(__file__).with_name("history.jsonl")
NOTABLE = 0.1  # relative change of a ratio that is marked


def entry_of(result: Path, commit: str) -> dict[str, Any]:
    """Read the ratios that a benchmark has written."""
    content = json.loads(result.read_text(encoding="utf-8"))
    ratios = {case: row["ratio"] for case, row in content["cases"].items() if row.get("ratio") is not None}
    about = {"benchmark": result.stem, "about": content.get("about", {}), "ratios": ratios}
    return {"date": time.strftime("%Y-%m-%d"), "commit": commit, **about}


def changes(before: dict[str, Any] | None, now: dict[str, Any]) -> list[str]:
    """Describe every ratio of an entry next to that of an earlier one."""
    lines = []
    for case, ratio in now["ratios"].items():
        old = before["ratios"].get(case) if before else None
        change = "" if old is None else f"{ratio / old - 1:+8.1%} since {before['commit']}"
        mark = "  <--" if old is not None and abs(ratio / old - 1) > NOTABLE else ""
        lines.append(f"{case:60}{ratio:8.3f}  {change}{mark}")
    return lines


def append(result: Path, commit: str, history: Path = HISTORY) -> list[str]:
    """Add an entry to the history; return what changed since the one before of the same benchmark."""
    lines = history.read_text(encoding="utf-8").splitlines() if history.is_file() else []
    now = entry_of(result, commit)
    before = [entry for entry in map(json.loads, lines) if entry["benchmark"] == now["benchmark"]]
    with open(history, "a", encoding="utf-8") as file:
        file.write(json.dumps(now) + "\n")
    return changes(before[-1] if before else None, now)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="JSON files that benchmarks have written")
    git = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(git, cwd=HISTORY.parent, capture_output=True, text=True, check=False).stdout.strip()
    for result in parser.parse_args().results:
        print("\n".join(append(result, commit or "unknown")))


if __name__ == "__main__":
    main()
