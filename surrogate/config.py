"""Strict settings: YAML with line numbers, pydantic models, overrides from the command line, one digest.

Steps: `read_yaml` (plain tree, line of every key) -> `apply_overrides` -> `validate` -> frozen `Settings`.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from surrogate.errors import ConfigError, did_you_mean

__all__ = [
    "Settings",
    "Source",
    "apply_overrides",
    "assign",
    "changes",
    "digest",
    "dump",
    "dump_tree",
    "leaves",
    "load",
    "parse_yaml",
    "read_yaml",
    "validate",
]

MAX_BYTES = 1_000_000
UNICODE_BREAKS = frozenset("\x85\u2028\u2029")
MAX_DEPTH = 20
SHOWN = 60  # letters of a value in a message
PLAIN_TAGS = {
    yaml.ScalarNode: ("null", "bool", "int", "float", "str"),
    yaml.MappingNode: ("map",),
    yaml.SequenceNode: ("seq",),
}

Key = tuple[str | int, ...]


class Settings(BaseModel):
    """Base of all configurations: unknown keys and NaN are refused, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


S = TypeVar("S", bound=BaseModel)


@dataclass
class Source:
    """A parsed file: its name, its plain tree and the line of every key."""

    name: str
    tree: dict[str, Any]
    lines: dict[Key, int] = field(default_factory=dict)
    containers: set[int] = field(
        default_factory=set
    )  # start positions of mappings and lists: one that appears again is an alias

    def where(self, key: Key) -> str:
        """Return `file:line` of the deepest part of `key` that is in the file."""
        for length in range(len(key), 0, -1):
            line = self.lines.get(key[:length])
            if line:
                return f"{self.name}:{line}"
        return self.name


class _Loader(yaml.SafeLoader):
    """Load YAML's safe subset with the numbers of YAML 1.2: `1e-3` is a number, `on` and `12:30` are text."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node; end at the depth that is refused, before the time for the rest of a hostile file."""
        if self.depth > MAX_DEPTH + 1:
            raise RecursionError
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag in ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf)|\.(?:nan|NaN))$"),
    list("-+.0123456789"),
)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


class _Dumper(yaml.SafeDumper):
    """Dump YAML, quoting exactly the text that `_Loader` would not read back as text."""

    def text(self, value: str) -> yaml.ScalarNode:
        """Represent text; Unicode line breaks need double quotes, without which YAML folds them to spaces."""
        broken = not UNICODE_BREAKS.isdisjoint(value)
        return self.represent_scalar("tag:yaml.org,2002:str", value, style='"' if broken else None)


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
_Dumper.add_representer(str, _Dumper.text)


def read_yaml(path: Path) -> Source:
    """Parse a configuration file.

    Raises:
        ConfigError: The file is missing, too large, not YAML, not a mapping, or repeats a key.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"cannot read configuration {path}: it is a folder, a pipe or a device; give a file")
        size = status.st_size
        text = path.read_text(encoding="utf-8") if size <= MAX_BYTES else ""
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"cannot read configuration {path}: {reason}") from error
    if size > MAX_BYTES:
        raise ConfigError(f"configuration {path} has {size} bytes; at most {MAX_BYTES} are read")
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Source:
    """Parse configuration text; messages use `name` as the name of the file."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        source = Source(name, {})
        if node is None:
            return source
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{name}:1: expected a mapping of `key: value` lines")
        source.tree = _plain(node, (), source)
        return source
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{name}{line}: not valid YAML: {problem}") from error
    except RecursionError as error:
        raise ConfigError(f"{name}: nested deeper than {MAX_DEPTH} levels") from error


def _plain(node: yaml.Node, key: Key, source: Source) -> Any:
    """Convert a YAML node to plain Python objects; aliases are refused, so that a small file cannot expand."""
    line = node.start_mark.line + 1
    source.lines.setdefault(key, line)
    if len(key) > MAX_DEPTH:
        raise ConfigError(f"{source.name}:{line}: nested deeper than {MAX_DEPTH} levels")
    if node.tag.removeprefix("tag:yaml.org,2002:") not in PLAIN_TAGS[type(node)]:
        raise ConfigError(f"{source.name}:{line}: tag {node.tag} is not allowed here; plain values only")
    if isinstance(node, yaml.ScalarNode):
        _refuse_unprintable(node.value, line, source)
        loader = _Loader("")
        try:
            return loader.construct_object(node)
        except (ValueError, KeyError, yaml.YAMLError) as error:  # such as `!!bool maybe`
            shown = node.value if len(node.value) <= SHOWN else node.value[:SHOWN] + "..."
            raise ConfigError(f"{source.name}:{line}: cannot read value '{shown}'") from error
        finally:
            loader.dispose()
    if node.start_mark.index in source.containers:
        raise ConfigError(f"{source.name}:{line}: aliases (*name) are not supported; write the value out")
    source.containers.add(node.start_mark.index)
    if not isinstance(node, yaml.MappingNode):
        return [_plain(item, (*key, index), source) for index, item in enumerate(node.value)]
    result: dict[str, Any] = {}
    for name_node, value_node in node.value:
        line, name = name_node.start_mark.line + 1, name_node.value
        if not isinstance(name_node, yaml.ScalarNode) or name_node.tag == "tag:yaml.org,2002:merge":
            raise ConfigError(f"{source.name}:{line}: expected a plain word as a key")
        _refuse_unprintable(name, line, source)
        if name in result:
            shown = ".".join(map(str, (*key, name)))
            raise ConfigError(f"{source.name}:{line}: key '{shown}' appears twice; remove one")
        source.lines[(*key, name)] = line
        result[name] = _plain(value_node, (*key, name), source)
    return result


def _refuse_unprintable(text: str, line: int, source: Source) -> None:
    """Refuse NUL and lone surrogates, which can be in no name of a file."""
    if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text):
        raise ConfigError(f"{source.name}:{line}: a NUL or half of a surrogate pair is no text; remove it")


def apply_overrides(source: Source, overrides: list[str]) -> Source:
    """Set `a.b=value` entries in a parsed tree; values are read as YAML.

    Raises:
        ConfigError: An entry has no `=`, or its path runs through a plain value.

    Example:
        >>> source = parse_yaml("training: {epochs: 20}", "mine.yaml")
        >>> apply_overrides(source, ["training.epochs=50", "training.patience=5"]).tree
        {'training': {'epochs': 50, 'patience': 5}}
    """
    tree = json.loads(json.dumps(source.tree))
    for entry in overrides:
        path, separator, text = entry.partition("=")
        keys = path.strip().split(".")
        if not separator or not all(keys):
            raise ConfigError(f"--set {entry}: write it as key.subkey=value")
        value = parse_yaml(f"value: {text}" if text.strip() else "value: null", f"--set {path.strip()}").tree["value"]
        _assign(tree, keys, value, entry)
    return Source(source.name, tree, source.lines)


def assign(source: Source, values: Mapping[str, Any]) -> Source:
    """Return a parsed tree with the values of dotted keys set.

    Raises:
        ConfigError: A key runs through a plain value.
    """
    tree = json.loads(json.dumps(source.tree))
    for path, value in values.items():
        _assign(tree, path.split("."), value, f"{path}={value}")
    return Source(source.name, tree, source.lines)


def _assign(tree: dict[str, Any], keys: list[str], value: Any, entry: str) -> None:
    for depth, name in enumerate(keys[:-1]):
        below = tree.setdefault(name, {})
        if below is None:
            below = tree[name] = {}
        if not isinstance(below, dict):
            raise ConfigError(f"--set {entry}: '{'.'.join(keys[: depth + 1])}' is a value, not a section with keys")
        tree = below
    tree[keys[-1]] = value


def load(path: Path, settings: type[S], overrides: list[str] | None = None) -> S:
    """Read a file, apply overrides and validate it."""
    return validate(apply_overrides(read_yaml(Path(path)), overrides or []), settings)


def validate(source: Source, settings: type[S]) -> S:
    """Validate a parsed tree.

    Raises:
        ConfigError: One line for every mistake: file, line, key, what was expected and the nearest valid name.
    """
    try:
        return settings.model_validate(source.tree)
    except ValidationError as error:
        lines = [_explain(item, source, settings) for item in error.errors(include_url=False)]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from error


def _explain(error: Any, source: Source, settings: type[BaseModel]) -> str:
    # pydantic puts the chosen member of a union into the path; a user's file has no such key
    parts: list[str | int] = []
    tree: Any = source.tree
    for index, part in enumerate(error["loc"]):
        in_list = isinstance(tree, list) and isinstance(part, int) and part < len(tree)
        if in_list or (isinstance(tree, dict) and part in tree):
            parts.append(part)
            tree = tree[part]
        elif index == len(error["loc"]) - 1:
            parts.append(part)
    location = tuple(parts)
    shown = ".".join(str(part) for part in location) or "the file"
    where = source.where(location)
    kind = error["type"]
    if kind == "extra_forbidden":
        return f"{where}: {shown}: unknown key; {did_you_mean(str(location[-1]), _siblings(error['loc'], settings))}"
    if kind == "missing":
        return f"{where}: {shown}: required, but not given"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        context, key = error["ctx"], str(error["ctx"]["discriminator"]).strip("'")
        if kind == "union_tag_not_found":
            return f"{where}: {shown}.{key}: required, but not given"
        names = re.findall(r"'([^']+)'", context["expected_tags"])
        return f"{where}: {shown}.{key}: unknown name '{context['tag']}'; {did_you_mean(context['tag'], names)}"
    message = re.sub(r"^(Value error|Assertion failed), ", "", error["msg"])
    given = error.get("input")
    suffix = f" (got {given!r})" if isinstance(given, str | int | float | bool | None) else ""
    return f"{where}: {shown}: {message[0].lower()}{message[1:]}{suffix}"


def _siblings(location: Key, settings: type[BaseModel]) -> list[str]:
    """List the names allowed where the last key of `location` is: walk the models down to it."""
    models: list[type[BaseModel]] = [settings]
    for part in location[:-1]:
        fields = [model.model_fields[part].annotation for model in models if part in model.model_fields]
        if fields:
            models = [model for annotation in fields for model in _models_in(annotation)]
        else:
            tagged = [
                model
                for model in models
                if any(
                    part == f.default or part in getattr(f.annotation, "__args__", ())
                    for f in model.model_fields.values()
                )
            ]
            models = tagged or models
    return sorted({name for model in models for name in model.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


def dump(settings: BaseModel) -> str:
    """Write resolved settings as YAML text that `load` reads back."""
    return dump_tree(settings.model_dump(mode="json"))


def dump_tree(tree: dict[str, Any]) -> str:
    """Write plain values as YAML text that `parse_yaml` reads back."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return the values of a nested mapping by dotted key.

    Example:
        >>> leaves({"model": {"family": "mlp", "width": 8}})
        {'model.family': 'mlp', 'model.width': 8}
    """
    if not isinstance(tree, dict):
        return {prefix.removesuffix("."): tree}
    return {key: value for name, part in tree.items() for key, value in leaves(part, f"{prefix}{name}.").items()}


def changes(before: BaseModel, now: BaseModel) -> dict[str, str]:
    """Return `before -> now` by dotted key for every value in which two settings differ."""
    old, new = leaves(before.model_dump(mode="json")), leaves(now.model_dump(mode="json"))
    keys = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
    return {key: f"{old.get(key, 'absent')} -> {new.get(key, 'absent')}" for key in keys}


def digest(settings: BaseModel) -> str:
    """Return the SHA-256 of settings; it does not depend on the order of keys."""
    text = json.dumps(settings.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
