"""Changed configurations are read, or refused in lines that say where; nothing else, and in bounded time."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from surrogate.catalogue import entries
from surrogate.config import apply_overrides, parse_yaml, read_yaml
from surrogate.errors import ConfigError, SurrogateError
from surrogate.experiment.settings import case_sources, read_experiment
from surrogate.models.families.convnet import ConvNetSettings
from surrogate.models.registry import Shapes, build
from surrogate.simulate import load_recipe
from surrogate.studies import STUDY, read_study

PIECES = (
    "",
    " ",
    "\n",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "!!bool maybe",
    "!!int ''",
    "!!seq x",
    "!!str [1]",
    "&a ",
    "*a",
    "|",
)
PIECES += (
    "<<: ",
    "'",
    '"',
    '"\\0"',
    '"\\ud800"',
    "\t",
    "#",
    "1e999",
    "-1",
    "0",
    "1000000",
    "9" * 5000,
    ".nan",
    "null",
    "~",
)
PIECES += (
    "[" * 200,
    "a: {" * 200,
    "%YAML 1.1\n",
    "---\n",
    "...\n",
    "\u2028",
    "? ",
    "true",
    "!!python/none x",
    "é",
    "\x07",
)
NAMES = sorted(entries("pipelines") | entries("datasets"))


def resolve(path: Path, recipe: bool) -> None:
    """Read a file as the commands do, up to where work would begin."""
    if recipe:
        load_recipe(path)
        return
    source = apply_overrides(read_yaml(path), [])
    for case in case_sources(source).values():
        tree = {key: value for key, value in case.tree.items() if key != STUDY}
        tree.setdefault("data", {})
        if isinstance(tree["data"], dict):
            tree["data"].setdefault("path", "data")
        read_experiment(type(case)(case.name, tree, case.lines))
    if STUDY in source.tree:
        read_study(source)


def mutated(text: str, generator: random.Random) -> str:
    for _ in range(generator.randint(1, 4)):
        start = generator.randrange(len(text) + 1)
        stop = min(len(text), start + generator.choice((0, 0, 1, 3, 12)))
        text = text[:start] + generator.choice(PIECES) + text[stop:]
    return text


def fuzz(folder: Path, seeds: range) -> None:
    everything = entries("pipelines") | entries("datasets")
    texts = {
        name: path.read_text(encoding="utf-8") for name, path in everything.items() if not name.startswith("slurm")
    }
    path, read, refused = folder / "f.yaml", 0, {}
    for seed in seeds:
        generator = random.Random(seed)
        name = generator.choice(sorted(texts))
        path.write_text(mutated(texts[name], generator), encoding="utf-8")
        try:
            resolve(path, recipe=name in entries("datasets"))
            read += 1
        except SurrogateError as error:
            refused[seed] = error
        except BaseException as error:
            raise AssertionError(f"seed {seed}") from error
    assert read > len(seeds) // 20
    assert [seed for seed, error in refused.items() if error.exit_code not in (2, 3)] == []
    lines = [(seed, line) for seed, error in refused.items() for line in str(error).split("\n")]
    assert [seed for seed, line in lines if not line.isprintable() or not line] == []


def test_changed_configurations(tmp_path: Path) -> None:
    fuzz(tmp_path, range(100))


@pytest.mark.slow
def test_many_changed_configurations(tmp_path: Path) -> None:
    fuzz(tmp_path, range(200, 5200))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!bool maybe", "f:1: cannot read value 'maybe'"),
        ("a: !!seq x", "is not allowed here"),
        ("a: !!str [1]", "is not allowed here"),
        ('a: "x\\0y"', "f:1: a NUL or half of a surrogate pair is no text"),
        ('"x\\ud800": 1', "f:1: a NUL or half of a surrogate pair is no text"),
        ("a: " + "[" * 5000, "nested deeper than 20 levels"),
        ("a: " + "9" * 5000, "cannot read value '9{60}...'"),
    ],
)
def test_values_that_yaml_cannot_make(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, "f")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"family": "convnet", "dilations": [0]}, "greater than or equal to 1"),
        ({"family": "unet", "levels": 10**6}, "levels: expected at most 30"),
        ({"family": "convnet", "depth": 10**9}, "depth: expected at most 1,000"),
        ({"family": "mlp", "width": 10**18}, "width: expected at most 1,000,000"),
    ],
)
def test_sizes_of_networks_are_bounded(model: dict, message: str) -> None:
    tree = {"name": "a", "data": {"path": "d", "inputs": ["u"], "targets": ["u"]}, "model": model}
    with pytest.raises(ConfigError, match=message):
        read_experiment(type(parse_yaml("", "f"))("f", tree))


def test_circular_padding_beyond_the_grid_is_refused() -> None:
    settings = ConvNetSettings(dilations=(1, 9), padding="circular")
    build(settings, Shapes(inputs=1, outputs=1, grid=(9, 12)))
    with pytest.raises(ConfigError, match="circular padding by 9 points would go around a grid of 8x12"):
        build(settings, Shapes(inputs=1, outputs=1, grid=(8, 12)))


def test_a_pipe_is_no_configuration(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f.yaml")
    with pytest.raises(ConfigError, match="it is a folder, a pipe or a device"):
        read_yaml(tmp_path / "f.yaml")
