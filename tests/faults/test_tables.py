"""Tables are read strictly: the same numbers as the standard library reads, or one line that names the line."""

from __future__ import annotations

import csv
import io
import os
import random
from pathlib import Path

import h5py
import numpy as np
import pytest

from surrogate.data import Mapping, open_snapshots
from surrogate.errors import ConfigError, DataError
from surrogate.simulate import Ensemble, load_recipe
from surrogate.tables import NUMBER, read_table

GOOD = "name,k,q.0,q.1\na,1,2.5,-3\nb,.5,1e-3,+4.\n"
PIECES = (
    "",
    " ",
    ",",
    ",,",
    "\n",
    "\r\n",
    "\n\n",
    '"',
    "'",
    ";",
    "\t",
    "1",
    "-",
    "nan",
    "inf",
    "1e400",
    "1_0",
    "0x1",
    "k",
)
PIECES += ("q.0", "\0", "\ufeff", "\u2028", "\x0b", "é", "#", "1,2", "9" * 400, "\u0661")


def read(path: Path, text: str | bytes) -> np.ndarray:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path).numbers(["k", "q.0", "q.1"])


def test_a_good_table(tmp_path: Path) -> None:
    expected = [[1, 2.5, -3], [0.5, 1e-3, 4]]
    for text in (
        GOOD,
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        GOOD.replace(",", " , "),
        GOOD.replace("\n", "\n\n"),
    ):
        np.testing.assert_array_equal(read(tmp_path / "t.csv", text), expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,k,q.0,q.1\na,1,2,3\nb,4,5,6,7\n", "line 3 has 5 values, but the header names 4 columns"),
        ("name,k,q.0,q.1\n\n\na,1,2\n", "line 4 has 3 values, but the header names 4"),
        ("k,k,q.0,q.1\n1,2,3,4\n", "columns 1 and 2 are both named 'k'"),
        ("k,,q.0,q.1\n1,2,3,4\n", "line 1: column 2 has no name"),
        ("1,2,3,4\n1,2,3,4\n", "line 1 holds numbers; the first line must name the columns"),
        ("k;q.0;q.1\n1;2;3\n", "no column 'k'.*separate the columns by commas"),
        ("k,q.0,q.1\n1,2,nan\n", "column 'q.1', line 2: 'nan' is no finite number"),
        ("k,q.0,q.1\n1,2,1e39\n", "line 2: '1e39' is no finite number in the range of float32"),
        ("k,q.0,q.1\n\n1,2,1_000\n", "line 3: '1_000' is no finite number"),
        ('k,q.0,q.1\n1,2,"3\n', "line 2: no table of comma-separated values"),
        (b"k,q.0,q.1\n1,2,\xff\n", "line 2 is not UTF-8 text"),
        ("k,q.0,q.1\n", "the table has no row"),
        ("", "the file is empty"),
    ],
)
def test_bad_tables_name_the_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / "t.csv", text)
    assert "\n" not in str(caught.value)


def test_a_pipe_is_no_table(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(DataError, match="is not a regular file"):
        read_table(tmp_path / "t.csv")


def mutated(generator: random.Random) -> str:
    text = GOOD
    for _ in range(generator.randint(1, 3)):
        start = generator.randrange(len(text) + 1)
        stop = min(len(text), start + generator.choice((0, 0, 1, 1, 4)))
        text = text[:start] + generator.choice(PIECES) + text[stop:]
    return text


def fuzz(folder: Path, count: int) -> None:
    """What is accepted is what the standard library reads, column by column; all else is one line."""
    accepted, refused = 0, []
    for seed in range(count):
        text = mutated(random.Random(seed))
        try:
            values = read(folder / "t.csv", text)
        except DataError as error:
            refused.append(str(error))
            continue
        accepted += 1
        rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), skipinitialspace=True))
        header, *rows = [row for row in rows if any(map(str.strip, row)) or len(row) > 1]
        names = [name.strip() for name in header]
        assert all(len(row) == len(names) for row in rows), seed
        assert len(set(names)) == len(names), seed
        expected = [[row[names.index(name)].strip() for name in ("k", "q.0", "q.1")] for row in rows]
        assert all(NUMBER.fullmatch(cell) for row in expected for cell in row), seed
        np.testing.assert_array_equal(values, np.array(expected, float), err_msg=str(seed))
    assert accepted > count // 20
    assert all("\n" not in text and len(text) < 2000 for text in refused)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run,Re\n0,100,7\n1,200,7\n", "line 2 has 3 values, but the header names 2 columns"),
        ("run,Re,Re\n0,1,2\n1,2,3\n", "columns 2 and 3 are both named 'Re'"),
        ("run,Re\n0,1\n\n1\n", "line 4 has 1 values"),
        (b"run,Re\n0,\xff\n1,2\n", "line 2 is not UTF-8 text"),
        ("", "the file is empty"),
    ],
)
def test_a_table_of_a_declared_layout_is_read_as_strictly(tmp_path: Path, text: str | bytes, message: str) -> None:
    for run in range(2):
        with h5py.File(tmp_path / f"sim_{run}.h5", "w") as file:
            file["u"] = np.full((4, 4), run, "f4")
    layout = {"files": "sim_{run}.h5", "variables": {"u": {"path": "u", "axes": ["y", "x"]}}}
    for key in ({"key": "run"}, {}):
        declared = Mapping.model_validate({**layout, "table": {"file": "table.csv", **key}})
        (tmp_path / "table.csv").write_text("run,Re,name\n 1,2e2,b\n0,,a\n")
        opened = open_snapshots(tmp_path, declared)
        np.testing.assert_array_equal(opened["Re"], [np.nan, 200] if key else [200, np.nan])
        (tmp_path / "table.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(DataError, match=message):
            open_snapshots(tmp_path, declared)


def test_a_damaged_hdf5_table_of_parameters_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    path, rng = tmp_path / "table.h5", random.Random(0)
    with h5py.File(path, "w") as file:
        file["y1"], file["y2"] = np.linspace(-1, 1, 8), np.linspace(1, 2, 8)
    whole = path.read_bytes()
    refused = 0
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(3):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        said = ""
        try:
            recipe = load_recipe("peaks", [f"sampling={{method: table, table: {path}}}", "sizes.tiny.simulations=8"])
            assert np.isfinite(float(Ensemble(recipe, "tiny").member(3).parameters["y1"]))
        except ConfigError as error:
            said = str(error)
        refused += bool(said)
        assert "\n" not in said
    assert refused > 5


def test_changed_tables(tmp_path: Path) -> None:
    fuzz(tmp_path, 300)


@pytest.mark.slow
def test_many_changed_tables(tmp_path: Path) -> None:
    fuzz(tmp_path, 5000)
