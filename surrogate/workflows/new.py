"""Write a first configuration from answers: what a sample is, the task, the family, the optimizer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from surrogate.config import parse_yaml
from surrogate.data.inspect import describe
from surrogate.data.layouts import Paths
from surrogate.data.mapping import NONE, Layout
from surrogate.data.proposal import Proposal, flow, problem_of
from surrogate.errors import ConfigError, DataError, did_you_mean
from surrogate.experiment.settings import Experiment, read_experiment
from surrogate.files import replacing
from surrogate.models.registry import is_fitted, settings_of
from surrogate.models.signature import signature_of
from surrogate.workflows.candidates import fitting_families
from surrogate.workflows.starter import name_from, open_section, proposed_model

__all__ = ["OPTIMIZERS", "TASKS", "Wishes", "new_config", "tasks_of"]

TASKS = {
    "parameters-to-field": "from numbers that differ between simulations",
    "field-to-field": "from one field to others on its grid",
    "time-stepping": "from the state at one time to the next",
    "autoencoder": "from a field to a few numbers and back",
}
OPTIMIZERS = {
    "slimtrain": "Adam on the features, a least-squares solve with automatic regularisation on the last layer",
    "adam": "Adam on everything",
    "adamw": "Adam with decoupled weight decay",
    "gnvpro": "Gauss-Newton on all training data at once",
    "lbfgs": "L-BFGS on all training data at once",
    "elm": "random features, the last layer solved exactly",
}
WITH_RATE = ("slimtrain", "adam", "adamw")
SHOWN = ("family", "width", "depth", "levels", "latent", "modes")  # options of a family that are written out
Ask = Callable[[str, str, Mapping[str, str], str | None], str]


@dataclass(frozen=True)
class Wishes:
    """What a user has said; None where nothing was said.

    Arguments:
        answers: The axes that count simulations and time steps, by `sample` and `time`; `none` where there is none.
        task: One of `TASKS`.
        inputs: Names of the input variables.
        targets: Names of the target variables.
        family: A model family.
        optimizer: Name of an optimizer.
    """

    answers: Mapping[str, str]
    task: str | None = None
    inputs: Sequence[str] | None = None
    targets: Sequence[str] | None = None
    family: str | None = None
    optimizer: str | None = None


def new_config(output: Path, data: Paths, wishes: Wishes, ask: Ask, layout: Layout | None = None) -> Experiment:
    """Write a configuration that `read_experiment` accepts, from what was said and answers to what was not.

    Arguments:
        output: The file to write.
        data: Files as of `describe`.
        wishes: What was said.
        ask: Called with an option, a question, the answers with their meanings, and the usual answer or None.
        layout: Layout of the data; recognised or proposed unless given.

    Raises:
        ConfigError: The file exists; an answer is none of those that are possible; a family does not fit the data.
        DataError: No configuration can be proposed for the data.
    """
    if output.exists():
        raise ConfigError(f"{output} exists already; choose another --output")
    description = describe(data, layout)
    if description.proposal is None:
        reason = next((note for note in reversed(description.notes)), "nothing in it is recognised")
        raise DataError(f"{description.path}: {reason}; see `surrogate inspect {description.path}`")
    questions, answers = description.proposal.questions, dict[str, str]()
    unasked = [key for key in wishes.answers if key not in questions]
    if unasked:
        raise ConfigError(f"--{unasked[0]}: the data say which axis that is; leave it out")
    for key, question in questions.items():  # what the file does not tell
        taken = {*answers.values()} - {NONE}
        left = {axis: text.partition("; then")[0] for axis, text in question.answers.items() if axis not in taken}
        answers[key] = _chosen(f"--{key}", question.asks, left, wishes.answers.get(key), ask, None)
    proposal = _with_task(description.proposal.answered(answers), wishes, ask)
    problem = problem_of(proposal)
    if problem is not None:
        raise DataError(f"{description.path}: with these answers {problem}")
    section = proposal.text().replace("  # choose\n", "\n")
    model = _model(section, wishes.family, ask)
    training = _training(model["family"], wishes.optimizer, ask)
    text = f"name: {name_from(output.stem)}\n{section}model: {flow(model)}\n{training}"
    experiment = read_experiment(parse_yaml(text, str(output)))
    with replacing(output) as part:
        part.write_text(text, encoding="utf-8")
    return experiment


def _chosen(flag: str, asks: str, answers: Mapping[str, str], given: str | None, ask: Ask, usual: str | None) -> str:
    """Return an answer: the given one, the only one there is, or what the user says.

    Raises:
        ConfigError: It is none of those that are possible.
    """
    said = given if given is not None else next(iter(answers)) if len(answers) == 1 else ask(flag, asks, answers, usual)
    if said not in answers:
        raise ConfigError(f"{flag} {said}: not possible with these data; {did_you_mean(said, answers)}")
    return said


def tasks_of(proposal: Proposal) -> dict[str, tuple[list[str], list[str]]]:
    """Return the tasks that the variables allow with their inputs and targets, the usual one first."""
    same, _, parameters, vectors = proposal.kinds()
    moving = [name for name in same if "time" in proposal.axes[name]]
    still = [name for name in same if name not in moving]
    fields = moving or still
    tasks: dict[str, tuple[list[str], list[str]]] = {}
    if moving and not proposal.few_steps:
        tasks["time-stepping"] = ([*moving, *still, *parameters], moving)
    if still and (parameters or vectors):
        tasks["parameters-to-field"] = ([*parameters, *vectors], still)
    if len(fields) > 1:
        tasks["field-to-field"] = (fields[:1], fields[1:])
    tasks["autoencoder"] = (fields[:1], fields[:1])
    inputs, targets, _, _ = proposal.choice()
    if {*targets} <= {*inputs}:
        usual = "time-stepping" if "time-stepping" in tasks else "autoencoder"
    else:
        usual = "parameters-to-field" if {*inputs} <= {*parameters, *vectors} else "field-to-field"
    return {usual: (inputs, targets), **{task: sides for task, sides in tasks.items() if task != usual}}


def _with_task(proposal: Proposal, wishes: Wishes, ask: Ask) -> Proposal:
    """Choose the task, and with it inputs, targets and window."""
    tasks = tasks_of(proposal)
    meanings = {task: f"{TASKS[task]}: {', '.join(sides[0])} to {', '.join(sides[1])}" for task, sides in tasks.items()}
    usual = next(iter(tasks))
    if wishes.task is None and wishes.inputs and wishes.targets:
        task = usual
    else:
        task = _chosen("--task", "What is the surrogate to do?", meanings, wishes.task, ask, usual)
    inputs, targets = tasks[task]
    inputs, targets = list(wishes.inputs or inputs), list(wishes.targets or targets)
    for flag, names in (("--inputs", inputs), ("--targets", targets)):
        for name in names:
            if name not in proposal.axes:
                raise ConfigError(f"{flag} {name}: no such variable; {did_you_mean(name, proposal.axes)}")
    return replace(proposal, inputs=inputs, targets=targets, few_steps=task != "time-stepping")


def _model(section: str, given: str | None, ask: Ask) -> dict[str, Any]:
    """Choose the family; return the section `model`."""
    proposed = parse_yaml(f"model: {proposed_model(section)}", "proposal").tree["model"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds, stream = open_section(section)
        families = fitting_families(signature_of(stream, ds).shapes)
    meanings = {}
    for name in (proposed["family"], *families):
        title = (type(settings_of({"family": name})).__doc__ or name).splitlines()[0]
        how = ", fitted in one pass" if is_fitted(name) else ""
        meanings[name] = title.removeprefix("Settings of ").removeprefix("the ").removesuffix(".") + how
    family = _chosen("--family", "Which family of models?", meanings, given, ask, proposed["family"])
    if family == proposed["family"]:
        return proposed
    options = settings_of({"family": family}).model_dump(mode="json", exclude_none=True)
    return {key: value for key, value in options.items() if key in SHOWN}


def _training(family: str, given: str | None, ask: Ask) -> str:
    """Choose the optimizer; return the sections `optimizer` and `training`."""
    if is_fitted(family):
        if given not in (None, "fit"):
            raise ConfigError(f"--optimizer {given}: {family} is fitted in one pass without an optimizer; leave it out")
        return "training: {seed: 0}\n"
    name = _chosen("--optimizer", "Which optimizer?", OPTIMIZERS, given, ask, "slimtrain")
    rate = ", learning_rate: 1e-3" if name in WITH_RATE else ""
    refit = "" if name == "elm" else ", refit: end"  # its last layer is solved exactly anyway
    length = f"epochs: 20, batch_size: 16, seed: 0{refit}"
    return f"optimizer: {{name: {name}{rate}}}\ntraining: {{{length}}}  # uncertainty: true adds standard deviations\n"
