"""A first surrogate from simulated data
=====================================

Sixty simulations of a resistivity survey, a Gaussian process, a picture with its error bar: the map from depth,
radius and angle of a buried body to the voltages at the surface; the picture is `first.png`.
"""

from pathlib import Path

import torch
import xarray as xr

import surrogate as sg
from surrogate.plotting import new_figure, plot_comparison, plot_error_map, save_figure

data = sg.make_data("dc_resistivity", "data", overrides=["sizes.tiny.simulations=60"])
settings = {
    "data": {"path": "data", "inputs": ["depth", "radius", "angle"], "targets": ["voltage_y"], "split": {"test": 0.3}},
    "model": {"family": "pod_gp"},
}
run = sg.train(settings, "runs/first", quiet=True)
print(f"mean relative L2 error of {run.evaluation.sizes['sample']} simulations that were not used: {run.error:.2%}")

errors = run.evaluation["relative_l2_sample"].values
sample = int(errors.argsort()[len(errors) // 2])  # the median of them
unseen = run.evaluation.isel(sample=sample)
inputs = [float(unseen[f"parameter_{name}"]) for name in ("depth", "radius", "angle")]
prediction, std = run.surrogate.predict_with_std(torch.tensor([inputs]))

truth = data["voltage_y"].sel(sample=abs(data["depth"].values - inputs[0]).argmin())
fields = xr.Dataset({"truth": truth, "prediction": truth.copy(data=prediction.detach()[0, 0])}, attrs=truth.attrs)
figure, panels = new_figure(1, 4, width=14, height=3.2)
plot_comparison(fields, ax=panels[0, :3])
spread = truth.copy(data=std.detach()[0, 0]).assign_attrs(long_name="standard deviation")
plot_error_map(spread, ax=panels[0, 3]).set_title("standard deviation", fontsize="medium")
save_figure(figure, Path("first.png"))
print("first.png: truth, prediction, error and predicted standard deviation of the median of them")
