"""A study, here and on Slurm
==========================

A study trains every method at every place of a grid with several seeds. This one takes seconds, so that it runs here;
a large one runs as a Slurm array from the same file.
"""

from pathlib import Path
from shutil import copyfile

from surrogate import make_data, run
from surrogate.workflows.slurm import find_cluster, plan, render

STUDY = """
name: waves
data: {path: survey-study, inputs: [depth, radius, angle], targets: [voltage_y], split: {validation: 4, test: 12}}
model: {family: linear}
cases:
  linear map: {}
  kernel ridge: {model: {family: kernel_ridge}}
study:
  kind: learning_curve
  axes: {data.split.train: [6, 12, 24]}
  seeds: [0]
"""
make_data("dc_resistivity", "survey-study", overrides=["sizes.tiny.simulations=40"])
Path("waves.yaml").write_text(STUDY, encoding="utf-8")

# %%
# On a cluster: `surrogate slurm submit waves.yaml --cluster cluster.yaml`. This is what it submits, a job for the
# cases and one for the report, with the account and partition of `cluster.yaml`:
cluster = find_cluster(None)
for stage in plan(Path("waves.yaml"), [], Path("runs/waves"), cluster):
    print(f"--- {stage.name}, after: {', '.join(stage.after) or 'nothing'}")
    print(render(stage, cluster, Path("runs/waves/slurm")))

# %%
# Here: the table, and the curves of the report.
project = run("waves.yaml", "runs/waves", say=lambda line: None)
errors = project.table["error"]
print(f"{project.report}: {errors.size} trainings, {dict(errors.sizes)}")
copyfile(project.path / "figures" / "grid1_curve.png", "study_on_slurm.png")
