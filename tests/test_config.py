"""Configuration: every mistake of a file is reported at once, with line, key and remedy."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Field

from surrogate.config import Settings, apply_overrides, digest, dump, load, parse_yaml, read_yaml, validate
from surrogate.errors import ConfigError


class Small(Settings):
    family: Literal["small"] = "small"
    width: int = Field(3, gt=0)


class Large(Settings):
    family: Literal["large"] = "large"
    depth: int = 3


class Whole(Settings):
    model: Annotated[Small | Large, Field(discriminator="family")]
    rate: float = 1e-3
    names: list[str] = []
    note: str | None = None


def errors(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validate(parse_yaml(text, "f.yaml"), Whole)
    return str(caught.value).splitlines()


def test_all_mistakes_at_once_with_line_and_nearest_name() -> None:
    lines = errors("model:\n  family: small\n  widht: 3\nrate: .nan\nnames: 4\n")
    assert lines[0] == "f.yaml:3: model.widht: unknown key; did you mean 'width'?"
    assert lines[1].startswith("f.yaml:4: rate: input should be a finite number")
    assert lines[2].startswith("f.yaml:5: names: input should be a valid list")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {family: smal}", "f.yaml:1: model.family: unknown name 'smal'; did you mean 'small'?"),
        ("model: {width: 2}", "f.yaml:1: model.family: required, but not given"),
        ("rate: 1", "f.yaml: model: required, but not given"),
        ("model: {family: small, width: -1}", "f.yaml:1: model.width: input should be greater than 0 (got -1)"),
    ],
)
def test_message(text: str, message: str) -> None:
    assert errors(text) == [message]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: 1\na: 2", "f.yaml:2: key 'a' appears twice"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("a: !!python/object/apply:os.system [ls]", "is not allowed"),
        ("a: !!python/name:os.system x", "is not allowed"),
        ("- 1", "expected a mapping"),
        ("a: [1", "f.yaml:1: not valid YAML"),
        ("a: " + "[" * 30 + "]" * 30, "nested deeper than 20 levels"),
        ("a: " + "[" * 5000, "f.yaml"),
    ],
)
def test_unsafe_or_malformed_yaml_is_refused(text: str, part: str) -> None:
    with pytest.raises(ConfigError, match=r"f\.yaml") as caught:
        parse_yaml(text, "f.yaml")
    assert "\n" not in str(caught.value)
    assert part in str(caught.value)


def test_numbers_of_yaml_1_2() -> None:
    tree = parse_yaml("a: 1e-3\nb: on\nc: 12:30\nd: 010\ne: 1_000", "f").tree
    assert tree == {"a": 1e-3, "b": "on", "c": "12:30", "d": 10, "e": "1_000"}


def test_override_wins_and_leaves_the_source_alone() -> None:
    source = parse_yaml("model: {family: small}\nrate: 0.1", "f")
    changed = apply_overrides(source, ["model.width=7", "rate=1e-2", "note="])
    assert validate(changed, Whole).model == Small(width=7)
    assert source.tree["rate"] == 0.1


@pytest.mark.parametrize("entry", ["rate", "=1", "rate.x=1", "a..b=1"])
def test_bad_override_is_refused(entry: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        apply_overrides(parse_yaml("rate: 1", "f"), [entry])


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@example(rate=0.0, names=["\x85", "a\u2028b", "\u2029"], width=1)
@given(st.floats(allow_nan=False, allow_infinity=False), st.lists(NAMES), st.integers(1, 10**12))
def test_dump_and_load_are_inverse(rate: float, names: list[str], width: int) -> None:
    settings = Whole(model=Small(width=width), rate=rate, names=names)
    assert validate(parse_yaml(dump(settings), "f"), Whole) == settings


def test_digest_ignores_order_and_sees_every_change() -> None:
    one = validate(parse_yaml("rate: 1\nmodel: {family: small}", "f"), Whole)
    two = validate(parse_yaml("model: {family: small}\nrate: 1.0", "f"), Whole)
    assert digest(one) == digest(two)
    assert digest(one) != digest(one.model_copy(update={"rate": 2.0}))


def test_missing_and_oversized_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.yaml", Whole)
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigError, match="at most"):
        read_yaml(big)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\x89HDF\xff")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_yaml(binary)
