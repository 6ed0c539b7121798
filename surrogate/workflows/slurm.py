"""Slurm jobs of a pipeline or a study: one script for each stage, with the settings of the cluster and dependencies."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from surrogate.catalogue import shipped
from surrogate.config import Settings, Source, apply_overrides, load, read_yaml
from surrogate.errors import ConfigError, ResourceError
from surrogate.experiment.folders import ProjectFolder
from surrogate.files import claim_output, replacing
from surrogate.workflows.cases import validate_cases

__all__ = ["Cluster", "Stage", "find_cluster", "plan", "render", "submit"]

STUDY = "study"
SITE = "# SITE:"
COMMAND_SECONDS = 120

Say = Callable[[str], None]


def _one_line(text: str) -> str:
    """Refuse text with a control character or a Unicode line separator, which could end its line in a script."""
    if not text or not text.isprintable():
        raise ValueError("expected one line of printable text")
    return text


Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+@:,/-]*$", max_length=200)]
Feature = Annotated[str, Field(pattern=r"^[A-Za-z0-9\[(][A-Za-z0-9_.:&|*,()\[\]-]*$", max_length=200)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Line = Annotated[str, AfterValidator(_one_line)]
Time = Annotated[str, Field(pattern=r"^([0-9]+-)?[0-9]{1,4}(:[0-9]{2}){0,2}$")]


class Times(Settings):
    """Time limits of the stages, in Slurm's notation.

    Arguments:
        simulate: Of the simulations.
        train: Of a training with its evaluation.
        study: Of a part of a study.
        report: Of the report.
    """

    simulate: Time = "01:00:00"
    train: Time = "04:00:00"
    study: Time = "04:00:00"
    report: Time = "00:30:00"


class Cluster(Settings):
    """Settings of a cluster.

    Arguments:
        account: Project to charge.
        partition: Queue; None takes the default.
        qos: Quality of service.
        constraint: Features that the nodes must have.
        modules: Environment modules to load.
        activate: File to source after the modules.
        variables: Additional environment variables.
        nodes: Nodes of one training.
        gpus: GPUs on each node.
        processes: Ranks on each node; None takes one for each GPU, or one.
        cpus: Processors of each rank, and of each of the other stages.
        memory: Memory of each node, such as `16G`.
        parts: Jobs of a study's array.
        running: Largest number of them that run at the same time.
        stage: Node-local folder for copies of the data of a training; `$TMPDIR` is expanded on the node.
        time: Time limits.
    """

    account: Word | None = None
    partition: Word | None = None
    qos: Word | None = None
    constraint: Feature | None = None
    modules: list[Word] = Field(default_factory=list)
    activate: Line | None = None
    variables: dict[Name, Line] = Field(default_factory=dict)
    nodes: int = Field(1, ge=1, le=10_000)
    gpus: int = Field(0, ge=0, le=64)
    processes: int | None = Field(None, ge=1, le=512)
    cpus: int = Field(1, ge=1, le=1024)
    memory: str | None = Field(None, pattern=r"^[0-9]+[KMGT]?$")
    parts: int = Field(4, ge=1, le=1000)
    running: int | None = Field(None, ge=1)
    stage: Line | None = None
    time: Times = Times()

    @property
    def ranks(self) -> int:
        """Ranks on each node of a training."""
        return self.processes or max(self.gpus, 1)


@dataclass(frozen=True)
class Stage:
    """One job, or one array of jobs.

    Arguments:
        name: Name of the job.
        script: Name of the shipped script.
        arguments: Arguments of the script.
        kind: Kind of stage, which sets its time limit; only training and studies take GPUs.
        after: Names of the stages that it depends on.
        condition: `afterok` if these must have succeeded, `afterany` if they must have ended.
    """

    name: str
    script: str
    arguments: tuple[str, ...]
    kind: Literal["simulate", "train", "study", "report"]
    after: tuple[str, ...] = ()
    condition: Literal["afterok", "afterany"] = "afterok"


def find_cluster(path: Path | None) -> Cluster:
    """Read the settings of a cluster; without a file the shipped defaults.

    Raises:
        ConfigError: A value is not allowed in a script.
    """
    return load(path or shipped("pipelines/slurm/cluster.yaml"), Cluster)


def plan(config: Path, overrides: list[str], output: Path, cluster: Cluster) -> list[Stage]:
    """List the stages of a pipeline or a study, each after those it depends on.

    Arguments:
        config: The configuration.
        overrides: `key.subkey=value` entries that win over it.
        output: Folder of the results.
        cluster: Settings of the cluster.

    Raises:
        ConfigError: The configuration is wrong, or a name or path is not allowed in a script.
    """
    source = apply_overrides(read_yaml(config), overrides)
    tree = source.tree
    options = [word for entry in overrides for word in ("--set", entry)]
    stages = []
    section, data = tree.get("simulate"), tree.get("data")
    if isinstance(section, dict) and not (isinstance(data, dict) and "path" in data):  # a recipe, no other data
        size = str(section.get("size", "default"))
        recipe = (str(section.get("recipe")), "--size", size, "--output", str(ProjectFolder(output).data))
        stages.append(Stage("simulate", "simulate", recipe, "simulate"))
    before = tuple(stage.name for stage in stages)
    if STUDY in tree:
        arguments = (str(config), "--output", str(output), *options)
        stages.append(Stage("study", "study", arguments, "study", before))
    else:
        stages += _trainings(source, config, overrides, output, cluster, before)
    ends = tuple(stage.name for stage in stages if stage.kind in ("train", "study"))
    return [*stages, Stage("report", "report", (str(output),), "report", ends, "afterany")]


def _trainings(
    source: Source, config: Path, overrides: list[str], output: Path, cluster: Cluster, before: tuple[str, ...]
) -> Iterator[Stage]:
    script = "train" if cluster.ranks == cluster.nodes == 1 else "train-node" if cluster.nodes == 1 else "train-nodes"
    for case, experiment in validate_cases(source, ProjectFolder(output).data).items():
        given = [*overrides, f"data.path={experiment.data.path}"] if before else overrides
        options = [word for entry in given for word in ("--set", entry)]
        options += ["--stage", cluster.stage] if cluster.stage else []
        arguments = (str(ProjectFolder(output).case(case)), str(config), "--case", case, *options)
        yield Stage(f"train-{case}", script, arguments, "train", before)


def render(stage: Stage, cluster: Cluster, logs: Path) -> str:
    """Return the script of a stage: the shipped one with the settings of the cluster and its arguments.

    Arguments:
        stage: The stage.
        cluster: Settings of the cluster.
        logs: Folder of the log files.

    Raises:
        ConfigError: A name, path or argument is not allowed in a script.
    """
    for text in (stage.name, str(logs), *stage.arguments):
        if not text.isprintable():
            raise ConfigError(
                f"{text!r} holds a line break or a control character, which a job script must not contain"
            )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", stage.name):
        raise ConfigError(f"'{stage.name}' cannot name a job; use letters, digits, . - and _ in the name of a case")
    if not re.fullmatch(r"[A-Za-z0-9_.+/~-]+", str(logs)):
        raise ConfigError(f"output {logs}: Slurm's log files need a path of letters, digits, . _ + - and /")
    lines = shipped(f"pipelines/slurm/{stage.script}.sbatch").read_text(encoding="utf-8").splitlines()
    directives = max(number for number, line in enumerate(lines) if line.startswith("#SBATCH ")) + 1
    site = next(number for number, line in enumerate(lines) if line.startswith(SITE))
    facts = [f"#SBATCH --{key}={value}" for key, value in _options(stage, cluster, logs)]
    inserted = [f"module load {shlex.quote(name)}" for name in cluster.modules]
    if cluster.activate is not None:
        inserted.append(f"source {shlex.quote(cluster.activate)}")
    variables = dict(cluster.variables)
    if stage.kind == "train":
        variables["SURROGATE_PROCESSES"] = str(cluster.ranks)
    inserted += [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    inserted.append(shlex.join(["set", "--", *stage.arguments]))
    body = [*lines[:directives], *facts, *lines[directives:site], *inserted, *lines[site + 1 :]]
    return "\n".join(body) + "\n"


def _options(stage: Stage, cluster: Cluster, logs: Path) -> Iterator[tuple[str, str | int]]:
    yield "job-name", stage.name
    yield "output", f"{logs}/%x-%A_%a.log" if stage.kind == "study" else f"{logs}/%x-%j.log"
    for key in ("account", "partition", "qos", "constraint"):
        if (value := getattr(cluster, key)) is not None:
            yield key, value
    yield "time", getattr(cluster.time, stage.kind)
    training = stage.kind == "train"
    if training and cluster.nodes > 1:
        yield "nodes", cluster.nodes
    yield "cpus-per-task", cluster.cpus * (cluster.ranks if training else 1)
    if cluster.memory is not None:
        yield "mem", cluster.memory
    if cluster.gpus and stage.kind in ("train", "study"):
        yield "gpus-per-node", cluster.gpus if training else 1
    if stage.kind == "study":
        yield "array", f"1-{cluster.parts}" + (f"%{cluster.running}" if cluster.running else "")


def submit(config: Path, overrides: list[str], output: Path, cluster: Cluster, say: Say) -> dict[str, int]:
    """Submit the stages of a pipeline or a study; their scripts and logs are in `slurm/` below the output.

    Returns:
        The id of every job by the name of its stage.

    Raises:
        ConfigError: The configuration or a value is wrong.
        ResourceError: `sbatch` is absent or refuses; jobs submitted before are cancelled.
    """
    folder = ProjectFolder(output).slurm
    copy = folder / config.name
    stages = plan(config, overrides, output, cluster)
    # a copy of the configuration, so that later edits do not change waiting jobs
    renamed = [
        replace(stage, arguments=tuple(str(copy) if word == str(config) else word for word in stage.arguments))
        for stage in stages
    ]
    scripts = {stage.name: render(stage, cluster, folder) for stage in renamed}
    claim_output(output, resume=True)
    folder.mkdir(exist_ok=True)
    for path, text in [(copy, config.read_text(encoding="utf-8"))] + [
        (folder / f"{name}.sbatch", script) for name, script in scripts.items()
    ]:
        with replacing(path) as part:
            part.write_text(text, encoding="utf-8")
    ids: dict[str, int] = {}
    for stage in renamed:
        command, script = ["sbatch", "--parsable"], folder / f"{stage.name}.sbatch"
        if stage.after:
            command.append(f"--dependency={stage.condition}:" + ":".join(str(ids[name]) for name in stage.after))
            command.append("--kill-on-invalid-dep=yes")
        try:
            answer = _run([*command, str(script)])
            ids[stage.name] = int(answer.strip().split(";")[0])
        except ValueError as error:
            _cancel(ids)
            raise ResourceError(f"sbatch answered {answer!r:.200} for {script}, and no job id") from error
        except ResourceError:
            _cancel(ids)
            raise
        say(f"{ids[stage.name]} {stage.name}")
    return ids


def _cancel(ids: dict[str, int]) -> None:
    if ids:
        _run(["scancel", *map(str, ids.values())])


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    except FileNotFoundError as error:
        raise ResourceError(
            f"there is no {command[0]} here; submit on a machine with Slurm, or print the scripts with `slurm render`"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ResourceError(f"{command[0]} did not answer in {COMMAND_SECONDS} s; check `squeue`") from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ResourceError(f"{shlex.join(command)}: {reason}")
    return done.stdout
