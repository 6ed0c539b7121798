"""Write the reference pages from the code: commands, keys of the YAML and public names."""

from __future__ import annotations

import importlib
import inspect
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from surrogate.cli import app as command_line
from surrogate.experiment.settings import Experiment, SimulateSettings, TrainingSettings
from surrogate.models import settings_union
from surrogate.simulate import Recipe
from surrogate.studies import StudySettings
from surrogate.workflows.slurm import Cluster

if typing.TYPE_CHECKING:
    from sphinx.application import Sphinx

PACKAGES = (
    "data",
    "models",
    "optim",
    "slimtik",
    "training",
    "evaluation",
    "prediction",
    "simulate",
    "plotting",
    "studies",
)
GENERATED = "generated"


def commands_page() -> str:
    """Describe every command with its arguments, options and example."""
    parts = ["# Commands\n"]
    for path, command in _commands(typer.main.get_command(command_line), ()):
        parts.append(f"## `surrogate {' '.join(path)}`\n\n{(command.help or '').strip()}\n")
        rows = [row for row in map(_parameter, command.params) if row]
        if rows:
            parts.append("| parameter | default | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n")
        if command.epilog:
            parts.append(f"```text\n{command.epilog}\n```\n")
    return "\n".join(parts)


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name in sorted(children):
        yield from _commands(children[name], (*path, name))


def _parameter(parameter: Any) -> str:
    if parameter.name == "help" or getattr(parameter, "hidden", False):
        return ""
    option = parameter.param_type_name == "option"
    name = ", ".join(parameter.opts) if option else (parameter.metavar or parameter.name.upper())
    default = parameter.default
    shown = f"`{default}`" if isinstance(default, str | int | float) and not isinstance(default, bool) else ""
    return f"| `{name}` | {shown} | {_cell(getattr(parameter, 'help', '') or '')} |"


TOP = """| key | meaning |
|---|---|
| `name` | Name of the run, of its folder below `runs/` and in reports: letters, digits, `_`, `.` and `-`. |
| `simulate` | Data that a pipeline makes for itself, from a recipe; then `data.path` may be absent. |
| `data` | Files, variables, windows, split. |
| `model` | A family and its options. |
| `optimizer` | How the network is trained; absent for families that are fitted in one pass. |
| `training` | Length, batches, loss, schedule, checkpoints. |
| `evaluation` | Roll-outs. |
| `cases` | Several configurations in one: sections that replace those above, by the name of the case. |
| `study` | Many trainings at the points of a grid, for one of four questions. |

Two more kinds of files are at the end: recipes of simulations, and the facts of a cluster.
"""


def configuration_page() -> str:
    """Describe every key of a configuration file."""
    parts = [
        "# Keys of a configuration\n",
        "A configuration is one YAML file; unknown keys are refused with the nearest name.\n",
        TOP,
    ]
    sections: list[tuple[str, type[BaseModel]]] = [
        ("simulate", SimulateSettings),
        ("data", _model_of(Experiment, "data")),
    ]
    sections += [("training", TrainingSettings), ("evaluation", _model_of(Experiment, "evaluation"))]
    for title, model in sections:
        parts += _section(f"`{title}`", model, set())
    parts.append("## `optimizer`\n")
    for model in _members(Experiment.model_fields["optimizer"].annotation):
        parts += _section(f"`optimizer: {{name: {model.model_fields['name'].default}}}`", model, set(), level=3)
    parts.append("## `model`\n")
    for model in _members(settings_union()):
        parts += _section(f"`model: {{family: {model.model_fields['family'].default}}}`", model, set(), level=3)
    parts += _section("`study`", StudySettings, set())
    parts += ["## Recipes\n", *_section("`recipe.yaml`", Recipe, set(), level=3)]
    parts += ["## Clusters\n", *_section("`cluster.yaml`", Cluster, set(), level=3)]
    return "\n".join(parts)


def _model_of(model: type[BaseModel], name: str) -> type[BaseModel]:
    return next(_members(model.model_fields[name].annotation))


def _members(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the settings classes inside an annotation."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _members(argument)


def _section(title: str, model: type[BaseModel], seen: set[type], *, level: int = 2) -> list[str]:
    if model in seen:
        return []
    seen.add(model)
    text = inspect.cleandoc(model.__doc__ or "")
    meanings: dict[str, str] = {}
    for base in reversed(model.__mro__):  # an inherited key is explained where it is declared
        meanings |= _argument_texts(inspect.cleandoc(base.__doc__ or "")) if issubclass(base, BaseModel) else {}
    summary = re.split(r"\n\s*(?:Arguments|Attributes|Raises):", text)[0].strip()
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    nested: list[type[BaseModel]] = []
    for name, field in model.model_fields.items():
        nested += _members(field.annotation)
        if name in ("name", "family") and typing.get_origin(field.annotation) is typing.Literal:
            continue  # in the title
        default = "" if field.default in (PydanticUndefined, None) else field.default
        shown = "" if default == "" or isinstance(default, BaseModel) else f"`{default}`"
        rows.append(
            f"| `{field.alias or name}` | {_type(field.annotation)} | {shown} | {_cell(meanings.get(name, ''))} |"
        )
    parts = [f"{'#' * level} {title}\n", f"{summary}\n", "\n".join(rows) + "\n"]
    for inner in nested:
        parts += _section(f"{inner.__name__}", inner, seen, level=min(level + 1, 4))
    return parts


def _argument_texts(text: str) -> dict[str, str]:
    """Read the `Arguments:` section of a docstring."""
    match = re.search(r"(?:Arguments|Attributes):\n(.*?)(?:\n\S|\Z)", text, re.DOTALL)
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", match[1] if match else "", re.MULTILINE)
    return {name: " ".join(body.split()) for name, body in entries}


def _type(annotation: Any) -> str:
    if typing.get_origin(annotation) is typing.Annotated:
        return _type(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(annotation))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " or ".join(_type(part) for part in typing.get_args(annotation) if part is not type(None))
    if annotation is Any or annotation is None:
        return ""
    name = getattr(annotation, "__name__", str(annotation))
    inner = [_type(part) for part in typing.get_args(annotation) if part is not Ellipsis]
    return f"{name} of {', '.join(inner)}" if inner else name


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def api_page() -> str:
    """List every public name of every public package."""
    parts = [
        "# Python API\n",
        "`import surrogate` offers the names most used; everything below can be imported from its package.\n",
    ]
    for package in PACKAGES:
        module = importlib.import_module(f"surrogate.{package}")
        names = [name for name in module.__all__ if _is_ours(getattr(module, name))]
        parts.append(f"## surrogate.{package}\n\n{inspect.cleandoc(module.__doc__ or '').splitlines()[0]}\n")
        listed = "\n".join(f"   {name}" for name in names)
        options = "   :toctree: api\n   :nosignatures:"
        directive = f".. currentmodule:: surrogate.{package}\n\n.. autosummary::\n{options}\n\n{listed}"
        parts.append(f"```{{eval-rst}}\n{directive}\n```\n")
    return "\n".join(parts)


def _is_ours(item: Any) -> bool:
    return callable(item) and str(getattr(item, "__module__", "")).startswith("surrogate.")


def write_pages(folder: Path) -> None:
    """Write the generated pages where Sphinx reads them; unchanged ones keep their time stamp."""
    folder.mkdir(exist_ok=True)
    pages = {"commands.md": commands_page(), "configuration.md": configuration_page(), "api.md": api_page()}
    for name, text in pages.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def escape(_app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Escape what reStructuredText would take for markup: docstrings are plain text with `code` in backticks."""
    for number, line in enumerate(lines):
        if line.lstrip().startswith((">>>", "...")):  # an example is code
            continue
        parts = line.split("`")
        parts[::2] = [re.sub(r"(?<=\w)_(?=\W|$)|[*|]", r"\\\g<0>", part) for part in parts[::2]]
        lines[number] = "`".join(parts)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension; pages are written before Sphinx looks for sources."""
    write_pages(Path(app.srcdir) / GENERATED)
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", escape, priority=100)  # before napoleon
    return {"parallel_read_safe": True}
