"""Settings of slimTrain and of Adam over all problems of the catalogue: one small study of each, and one table of all.

Example: OMP_NUM_THREADS=1 python benchmarks/defaults.py --folder runs/defaults --workers 2

The rule. An error counts relative to the lowest median over seeds of any setting on its problem, and a setting is worth
its geometric mean over problems and seeds. Learning rate and schedule are chosen together: settings are tied with the
best where the 90 % interval of the ratio to it (bootstrap over problems, paired) reaches 1, and the default is, of the
tied, the one that changes the fewest of the present defaults, and of these the best. Exact solution of the head at the
end, memory depth and regularisation are decided each by itself: a value is taken where its ratio to the present one, at
the same other settings, has an interval below 1.

The written studies stay in the folder: `surrogate run FOLDER/burgers.yaml` repeats one of them.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import xarray as xr

from surrogate.config import apply_overrides, dump_tree, read_yaml
from surrogate.evaluation.bootstrap import interval
from surrogate.experiment.optimizers import SlimTrainSettings
from surrogate.experiment.settings import TrainingSettings
from surrogate.simulate.generate import find_recipe
from surrogate.workflows import Spread, run_file

RATES = [1e-3, 3e-3, 1e-2, 3e-2]
RATE = 1e-2  # at which the other settings are varied
SCHEDULES, REFITS = ["constant", "cosine"], ["none", "end"]
MEMORY, REGULARIZATION = [0, 5, 20], [1e-4, 0.05, 1.0]
SEEDS = [0, 1]
KEYS = (
    "method",
    "optimizer.learning_rate",
    "training.schedule",
    "training.refit",
    "optimizer.memory_depth",
    "optimizer.regularization",
)


class Setting(NamedTuple):
    """A method with its settings; Adam has no memory and no regularisation."""

    method: str
    learning_rate: float
    schedule: str
    refit: str
    memory: float | None
    regularization: float | None


@dataclass(frozen=True)
class Problem:
    """A recipe of the catalogue in its tiny size, and what is learned from it.

    Arguments:
        simulations: Simulations that are run, of which `train`, `validation` and `test` are used.
        inputs: Names of the inputs.
        targets: Names of the targets.
        model: The `model` section.
        split: Numbers of simulations to train, validate and test.
        epochs: Passes over the training data.
        batch_size: Samples in a batch.
        window: The window of a sample, where there is a time axis.
        metric: What is compared.
    """

    simulations: int
    inputs: list[str]
    targets: list[str]
    model: dict[str, Any]
    split: tuple[int, int, int]
    epochs: int
    batch_size: int
    window: dict[str, int] = field(default_factory=dict)
    metric: str = "relative_l2"


CONVNET = {"family": "convnet", "width": 8, "depth": 2, "dilations": [1, 2]}
PERIODIC = {"padding": "circular"}
VELOCITY = ["velocity_y", "velocity_x", "diffusivity"]
STILL = {"steps_out": 0}
COEFFICIENTS = ["activator_diffusivity", "inhibitor_diffusivity", "k"]
PROBLEMS = {
    "burgers": Problem(
        24, ["u", "viscosity"], ["u"], {**CONVNET, **PERIODIC, "width": 12}, (8, 4, 8), 8, 8, {"stride": 4}
    ),
    "burgers_2d": Problem(24, ["u", "viscosity"], ["u"], CONVNET, (8, 4, 8), 7, 4, {"stride": 2}),
    "convection_diffusion": Problem(
        60, ["u"], ["u"], {"family": "autoencoder", "width": 8, "latent": 16, "levels": 2}, (8, 4, 12), 7, 8, STILL
    ),
    "convection_diffusion_box": Problem(24, ["u", *VELOCITY], ["u"], CONVNET, (8, 4, 8), 7, 4, {"stride": 2}),
    "convection_diffusion_reaction": Problem(
        200,
        ["y"],
        ["u"],
        {"family": "antisymmetric", "width": 16, "depth": 4, "final_time": 4.0},
        (100, 40, 60),
        7,
        5,
        {**STILL, "steps_in": 12},
    ),
    "dc_resistivity": Problem(
        100,
        ["depth", "radius", "angle"],
        ["voltage_y", "voltage_x"],
        {"family": "mlp", "width": 16, "depth": 2},
        (40, 20, 40),
        20,
        5,
    ),
    "gray_scott": Problem(
        18,
        ["A", "B"],
        ["A", "B"],
        {**CONVNET, **PERIODIC, "width": 6, "depth": 1},
        (10, 3, 5),
        6,
        3,
        {"stride": 8},
        "rmse",  # in some regimes B dies out, and an error relative to it means nothing
    ),
    "peaks": Problem(
        1000, ["y1", "y2"], ["c"], {"family": "mlp", "width": 16, "depth": 2}, (300, 300, 300), 10, 10, metric="rmse"
    ),
    "reaction_diffusion": Problem(20, ["u", "v"], ["u", "v"], CONVNET, (6, 3, 6), 8, 8, {"stride": 4}),
    "reaction_diffusion_smooth": Problem(
        24, ["u", "v", *COEFFICIENTS], ["u", "v"], CONVNET, (6, 3, 8), 8, 8, {"stride": 4}
    ),
}


def write_study(name: str, problem: Problem, folder: Path) -> Path:
    """Write the recipe and the study of a problem."""
    sizes = [f"sizes.tiny.simulations={problem.simulations}", f"sizes.tiny.shard={problem.simulations // 2}"]
    recipe = folder / "recipes" / f"{name}.yaml"
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(dump_tree(apply_overrides(read_yaml(find_recipe(name)), sizes).tree), encoding="utf-8")
    train, validation, test = problem.split
    data: dict[str, Any] = {"inputs": problem.inputs, "targets": problem.targets}
    data |= {"window": problem.window} if problem.window else {}
    tree = {
        "name": name,
        "simulate": {"recipe": str(recipe.absolute()), "size": "tiny"},
        "data": data | {"split": {"train": train, "validation": validation, "test": test}},
        "model": problem.model,
        "optimizer": {"name": "slimtrain", "learning_rate": RATE},
        "training": {"epochs": problem.epochs, "batch_size": problem.batch_size},
        "evaluation": {"rollout_steps": 0},
        "cases": {"slimtrain": {}, "adam": {"optimizer": {"name": "adam", "learning_rate": RATE}}},
        "study": {
            "kind": "sensitivity",
            "metric": problem.metric,
            "axes": [
                {"optimizer.learning_rate": RATES, "training.schedule": SCHEDULES},
                {"training.refit": REFITS, "training.schedule": SCHEDULES},
                {"optimizer.memory_depth": MEMORY},
                {"optimizer.regularization": REGULARIZATION},
            ],
            "seeds": SEEDS,
        },
    }
    path = folder / f"{name}.yaml"
    path.write_text(dump_tree(json.loads(json.dumps(tree))), encoding="utf-8")  # lists that are shared, written out
    return path


def run_study(name: str, folder: Path, workers: int) -> float:
    """Run the study of a problem, or what is left of it, and tell the seconds."""
    path, started = write_study(name, PROBLEMS[name], folder), time.perf_counter()
    run_file(
        path,
        [],
        folder / name,
        partial(print, flush=True),
        command=f"surrogate run {path}",
        resume=True,
        overwrite=False,
        spread=Spread(workers=workers),
    )
    return time.perf_counter() - started


class Scores:
    """Logarithms of the relative errors of all settings, with shape (problems, seeds) each.

    Arguments:
        folders: Folder of the study of every problem.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        tables = [_table(folder) for folder in folders.values()]
        self.problems = list(folders)
        settings = [setting for setting in tables[0] if all(setting in table for table in tables)]
        errors = {s: np.array([[error for error, _ in table[s]] for table in tables]) for s in settings}
        self.losses = {s: np.array([[loss for _, loss in table[s]] for table in tables]) for s in settings}
        best = np.min([np.median(values, 1) for values in errors.values()], 0)[:, None]
        self.logs = {setting: np.log(values / best) for setting, values in errors.items()}

    def of(self, method: str, **values: Any) -> list[Setting]:
        """Settings of a method with these values."""
        return [s for s in self.logs if s.method == method and all(getattr(s, k) == v for k, v in values.items())]

    def means(self, setting: Setting) -> np.ndarray:
        """Mean over seeds on every problem, with shape (problems,)."""
        return self.logs[setting].mean(1)

    def worth(self, setting: Setting) -> float:
        """Geometric mean over problems and seeds."""
        return float(np.exp(self.means(setting).mean()))


def _table(folder: Path) -> dict[Setting, list[tuple[float, float]]]:
    """Error and validation loss of every seed, by setting; infinite where a run failed."""
    table = xr.load_dataset(folder / "table.nc", engine="h5netcdf")
    found: dict[Setting, dict[int, tuple[float, float]]] = {}
    for index in range(table.sizes["point"]):
        row = table.isel(point=index)
        setting = Setting(*(_plain(row[key].item()) for key in KEYS))
        numbers = (float(row[name]) for name in ("error", "validation_loss"))
        error, loss = (value if np.isfinite(value) else np.inf for value in numbers)
        found.setdefault(setting, {})[int(row["seed"])] = (error, loss)
    return {setting: [seeds[seed] for seed in sorted(seeds)] for setting, seeds in found.items()}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value


def ratio(logs: np.ndarray) -> tuple[float, float, float]:
    """Geometric mean of ratios over problems and its interval, from their logarithms with shape (problems,)."""
    if not np.isfinite(logs).all():
        return (float("inf"),) * 3
    low, high = interval(logs)
    return float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high))


def choose_place(scores: Scores, places: list[Setting], present: Setting) -> tuple[Setting, list[Setting]]:
    """The default by the rule, and all that are tied with the best."""
    best = min(places, key=scores.worth)
    tied = [best]
    tied += [s for s in places if s != best and ratio(scores.means(s) - scores.means(best))[1] <= 1]
    changes = {s: sum(a != b for a, b in zip(s, present, strict=True)) for s in tied}
    return min(tied, key=lambda s: (changes[s], scores.worth(s))), tied


def against(scores: Scores, method: str, name: str, present: Any) -> dict[Any, tuple[float, float, float]]:
    """Ratio of every value of a setting to the present one, wherever that setting alone was varied."""
    values = [value for value in {getattr(s, name) for s in scores.of(method)} if value != present]
    bases = scores.of(method, **{name: present})
    bases = [s for s in bases if all(s._replace(**{name: value}) in scores.logs for value in values)]
    return {
        value: ratio(np.mean([scores.means(s._replace(**{name: value})) - scores.means(s) for s in bases], 0))
        for value in sorted(values)
    }


def tuned(scores: Scores, method: str, places: list[Setting]) -> np.ndarray:
    """Logarithms of relative errors, every problem and seed taking the place of its lowest validation loss."""
    losses = np.array([scores.losses[s] for s in places])
    logs = np.array([scores.logs[s] for s in places])
    return np.take_along_axis(logs, losses.argmin(0)[None], 0)[0].mean(1)


def _present() -> Setting:
    """The defaults of the code."""
    optimizer, training = SlimTrainSettings(), TrainingSettings()
    return Setting(
        "slimtrain",
        optimizer.learning_rate,
        training.schedule,
        training.refit,
        optimizer.memory_depth,
        optimizer.regularization,
    )


def report(scores: Scores) -> dict[str, Any]:
    """Print the tables and return their numbers."""
    slimtrain = _present()
    adam = slimtrain._replace(method="adam", memory=None, regularization=None)
    found: dict[str, Any] = {"problems": scores.problems}
    places = {}
    for present in (slimtrain, adam):
        method, *_, refit, memory, regularization = present
        places[method] = scores.of(method, refit=refit, memory=memory, regularization=regularization)
        found[method] = _places(scores, places[method])
        chosen, tied = choose_place(scores, places[method], present)
        found[f"{method} chosen"], found[f"{method} tied"] = chosen, tied
        print(f"chosen: {chosen[1]:g} {chosen[2]}; tied with the best: {[f'{s[1]:g} {s[2]}' for s in tied]}")
        for name in ("refit", "memory", "regularization"):
            for value, numbers in against(scores, method, name, getattr(present, name)).items():
                found[f"{method} {name} {value}"] = numbers
                print("{} {} against {}: {:.3f} ({:.3f}, {:.3f})".format(name, value, getattr(present, name), *numbers))
    pair = [tuned(scores, method, places[method]) for method in ("slimtrain", "adam")]
    found["tuned"] = ratio(pair[0] - pair[1])
    print("slimtrain over adam, each tuned by validation loss: {:.3f} ({:.3f}, {:.3f})".format(*found["tuned"]))
    return found


def _places(scores: Scores, places: list[Setting]) -> list[Any]:
    """Print a row for every learning rate and schedule, the best first."""
    print(f"\n| {places[0].method}: learning rate | schedule | mean (interval) | worst problem | within 1.5 |")
    print("|---|---|---|---|---|")
    for setting in sorted(places, key=scores.worth):
        means = scores.means(setting)
        worst = f"{np.exp(means.max()):.2f} {scores.problems[int(means.argmax())]}"
        text = "{:.2f} ({:.2f}, {:.2f})".format(*ratio(means))
        near = f"{(means <= np.log(1.5)).sum()} of {len(means)}"
        print("|", " | ".join([f"{setting.learning_rate:g}", setting.schedule, text, worst, near]), "|")
    return [[*s, *ratio(scores.means(s)), *np.exp(scores.means(s)).tolist()] for s in places]


def main() -> None:
    """Run what is left, print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/defaults"))
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--problem", action="append", choices=list(PROBLEMS), help="these alone")
    arguments = parser.parse_args()
    names = arguments.problem or list(PROBLEMS)
    seconds = {name: run_study(name, arguments.folder, arguments.workers) for name in names}
    found = report(Scores({name: arguments.folder / name for name in names}))
    content = found | {"seconds": seconds, "sizes": {name: asdict(PROBLEMS[name]) for name in names}}
    (arguments.folder / "defaults.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
