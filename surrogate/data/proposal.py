"""A proposed `data:` section: written as YAML, read back by the parser, opened, and one batch of it made."""

from __future__ import annotations

import itertools
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import xarray as xr

from surrogate.config import Settings, Source, assign, parse_yaml, validate
from surrogate.data.mapping import BLANK, LEADING, NONE, is_channel, placeholders
from surrogate.data.missing import open_data
from surrogate.data.settings import DataSettings
from surrogate.data.splits import split
from surrogate.data.streaming.stream import Stream
from surrogate.errors import ConfigError, DataError, printable

__all__ = ["Proposal", "Question", "few_steps", "problem_of", "quoted", "time_split"]

Entry = dict[str, Any]
TRIES = 12  # answers to blanks that are tried
KEPT = 8  # targets that are proposed at most


@dataclass(frozen=True)
class Question:
    """A blank: what is asked, and the answers with their consequences."""

    asks: str
    answers: dict[str, str]


@dataclass
class Proposal:
    """A `data:` section.

    Arguments:
        path: The path as the user gave it.
        layout: Name of the layout; None where the entries declare it, or it is recognised.
        variables: Entries of a declared layout by name; of a named layout only axes.
        coordinates: Entries of coordinates.
        axes: Axes of every variable, for the choice of inputs and targets.
        questions: Blanks by key: `sample`, `time`.
        options: Other keys of the layout: `files`, `groups`, `sample`, `time`.
        remarks: Remarks behind lines, by the name of the variable.
        split: The `split:` entry.
        inputs: Names of inputs; None chooses them.
        targets: Names of targets.
        program: Name of the program that wrote the files, where it is known, and the reason.
        extra: Further keys of the section.
        few_steps: The series is too short to predict the next step; targets are at the input steps.
    """

    path: str
    layout: str | None = None
    variables: dict[str, Entry] = field(default_factory=dict)
    coordinates: dict[str, Entry] = field(default_factory=dict)
    axes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    questions: dict[str, Question] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=lambda: {"validation": 0.1, "test": 0.1, "seed": 0})
    inputs: list[str] | None = None
    targets: list[str] | None = None
    program: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    few_steps: bool = False

    def text(self) -> str:
        """Write the section as YAML, with questions and choices as comments."""
        lines = ["data:", f"  path: {quoted(self.path)}"]
        if self.layout:
            lines.append(f"  layout: {self.layout}")
        elif self.variables:
            lines.append("  layout:" + (f"  # {self.program}" if self.program else ""))
            lines += list(self._questions())
            lines += [f"    {key}: {flow(value)}" for key, value in self.options.items()]
            for title, entries in (("variables", self.variables), ("coordinates", self.coordinates)):
                lines += [f"    {title}:"] if entries else []
                for name, entry in entries.items():
                    remark = f"  # {self.remarks[name]}" if name in self.remarks else ""
                    lines.append(f"      {quoted(name)}: {flow(entry)}{remark}")
        inputs, targets, window, others = self.choice()
        lines += [f"  inputs: {flow(inputs)}  # choose", f"  targets: {flow(targets)}  # choose"]
        lines += [f"  # not chosen, being on other grids or too many: {', '.join(others)}"] if others else []
        lines += [f"  window: {flow(window)}"] if window else []
        lines += [f"  {key}: {flow(value)}" for key, value in self.extra.items()]
        return "\n".join(map(printable, [*lines, f"  split: {flow(self.split)}"])) + "\n"

    def _questions(self) -> Iterator[str]:
        for key, question in self.questions.items():
            yield f"    # {question.asks} Answer with one of:"
            yield from (f"    #   {answer}: {consequence}" for answer, consequence in question.answers.items())
            yield f"    {key}: {quoted(BLANK)}"

    def answered(self, answers: Mapping[str, str]) -> Proposal:
        """Return the proposal with answers to questions, by key; `none` says that there is no such axis."""
        named = {answer: key for key, answer in answers.items() if answer != NONE}
        axes = {name: tuple(named.get(axis, axis) for axis in dims) for name, dims in self.axes.items()}
        left = {key: question for key, question in self.questions.items() if key not in answers}
        one = {"by": "time", "validation": 0.1, "test": 0.1} if answers.get("sample") == NONE else self.split
        return replace(self, axes=axes, questions=left, options={**self.options, **answers}, split=one)

    def kinds(self) -> tuple[list[str], list[str], list[str], list[str]]:
        """Divide the variables: fields on the commonest grid, other fields, parameters, and vectors of parameters.

        A vector has one axis, which nothing else has, next to fields of several axes.
        """
        spaces = {name: tuple(a for a in dims if _is_space(a)) for name, dims in self.axes.items()}
        if not any(spaces.values()):  # numbers: those that count the same
            spaces = {name: tuple(a for a in dims if a not in LEADING) for name, dims in self.axes.items()}
        fields = [name for name in self.axes if spaces[name]] or list(self.axes)
        grids = [spaces[name] for name in [n for n in fields if "time" in self.axes[n]] or fields]
        grid = max(grids, key=lambda g: (grids.count(g), len(g)), default=())
        same = [name for name in fields if spaces[name] == grid]
        parameters = [name for name in self.axes if name not in fields and set(self.axes[name]) <= {"sample", "n"}]
        apart = [name for name in fields if name not in same]
        shared = [axis for name, dims in self.axes.items() for axis in {*dims}] + list(self.coordinates)
        vectors = [
            name
            for name in apart
            if len(spaces[name]) == 1 < len(grid) and "time" not in self.axes[name] and shared.count(*spaces[name]) == 1
        ]
        return same, [name for name in apart if name not in vectors], parameters, vectors

    def choice(self) -> tuple[list[str], list[str], dict[str, int], list[str]]:
        """Choose inputs, targets and window: parameters before fields, the first field before the others."""
        same, apart, parameters, vectors = self.kinds()
        moving = [name for name in same if "time" in self.axes[name]]
        window: dict[str, int] = {}
        if self.inputs and self.targets:
            inputs, targets = self.inputs, self.targets
        elif moving:
            targets = moving[:KEPT]
            inputs = [*targets, *[name for name in same if name not in moving][:KEPT], *parameters]
        elif parameters or vectors:
            inputs, targets = [*parameters, *vectors], same[:KEPT]
        else:
            inputs, targets = same[:1], same[1 : KEPT + 1] or same[:1]
        if any("time" in self.axes.get(name, ()) for name in targets):
            window = {"steps_in": 1, "steps_out": 1, "stride": 1}
            if self.few_steps:
                window["steps_out"] = 0
        used = {*inputs, *targets}
        return inputs, targets, window, [name for name in [*same, *apart, *vectors] if name not in used]


def _is_space(axis: str) -> bool:
    return axis not in LEADING and not is_channel(axis) and not re.fullmatch(r"(n|number)\d*", axis)


def quoted(text: str) -> str:
    """Write a text as YAML: as it is where that is safe, else in double quotes."""
    plain = re.fullmatch(r"[A-Za-z_/.][\w/.*-]*", text) and text.lower() not in ("true", "false", "null", "on", "off")
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return text if plain else printable(json.dumps(clean, ensure_ascii=False))  # \x85, \u2028: line breaks of YAML


def flow(value: Any) -> str:
    """Write a value as YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{quoted(str(key))}: {flow(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    return quoted(value) if isinstance(value, str) else json.dumps(value)


class _Section(Settings):
    """The `data:` section alone."""

    data: DataSettings


def problem_of(proposal: Proposal) -> str | None:
    """Read a proposal back, open it, divide it and make one batch, its blanks answered; return what fails, or None."""
    source = parse_yaml(proposal.text(), "proposal")
    asked = {f"data.layout.{key}": list(question.answers) for key, question in proposal.questions.items()}
    problem: str | None = None
    for answers in itertools.islice(itertools.product(*asked.values()), TRIES):
        answered = assign(source, dict(zip(asked, answers, strict=True))) if asked else source
        problem = _try(proposal, answered, bool(asked))
        if problem is None:
            return None
    return problem


def _try(proposal: Proposal, source: Source, asked: bool) -> str | None:
    try:
        settings = validate(source, _Section).data
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = open_data(settings)
            part: xr.Dataset = (
                ds if asked else split(ds, settings.split, by=settings.by, window=settings.window)["train"]
            )
            ds = part.isel(sample=slice(0, 1))
            stream = Stream(ds, settings.inputs, settings.targets, batch_size=1, window=settings.window, shuffle=False)
            next(iter(stream))
    except DataError as error:
        return (
            None
            if "is not finite" in str(error) or " holds nan" in str(error) or "holds inf" in str(error)
            else str(error)
        )
    except (ConfigError, StopIteration) as error:
        told = placeholders(" ".join(str(entry.get("path")) for entry in proposal.variables.values()))
        if len(told) > 1 and "counts objects" in str(error):
            counted = ", ".join(f"{{{name}}}" for name in told)
            return f"the names of its datasets count several things ({counted}); declare the datasets that are needed"
        return re.sub(r"^proposal:\d+: [\w.]+: ", "", str(error)) or "it gives no sample"
    return None


def few_steps(steps: int) -> bool:
    """Test whether a series is too short for steps that predict the next one."""
    return steps < 6


def time_split(steps: int) -> dict[str, object]:
    """Divide the steps of one simulation: a tenth each, or as few as a short series allows."""
    extent = 1 if few_steps(steps) else 2
    if steps >= 20 * extent:
        return {"by": "time", "validation": 0.1, "test": 0.1}
    gap = min(extent, max(0, (steps - 3 * extent) // 2))
    return {"by": "time", "validation": extent, "test": extent, "gap": gap}
