"""A model of your own in a configuration
======================================

Any torch module whose last layer is linear becomes a family of models that the `surrogate` command trains.

`register` gives the module a name, and settings that a configuration may use. Run with `python examples/own_family.py`;
the files go to the folder given, or to runs/own_family.
"""

from __future__ import annotations

import sys
from pathlib import Path
from shutil import copyfile
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from surrogate.models import ModelSettings, Separable, Shapes, Surrogate, register, separate
from surrogate.workflows import run_pipeline


class GatedNetwork(nn.Module):
    """An ordinary torch module without reference to this package."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.lift = nn.Linear(inputs, width)
        self.gate = nn.Linear(inputs, width)
        self.mix = nn.Linear(width, width)
        self.out = nn.Linear(width, outputs)

    def forward(self, y: Tensor) -> Tensor:
        z = torch.tanh(self.lift(y)) * torch.sigmoid(self.gate(y))
        return self.out(torch.tanh(self.mix(z)))


class GatedSettings(ModelSettings):
    """Keys under `model:` in a configuration."""

    family: Literal["gated"] = "gated"
    width: int = Field(32, ge=1)


@register(GatedSettings)
def gated(settings: GatedSettings, shapes: Shapes) -> Separable:
    """(B, C) -> (B, width) -> (B, M)."""
    return separate(GatedNetwork(shapes.inputs, settings.width, shapes.outputs))


CONFIG = """
name: own_family
simulate: {recipe: peaks, size: default}
data:
  inputs: [y1, y2]
  targets: [c]
  split: {validation: 200, test: 200, seed: 0}
model: {family: gated, width: 24}
optimizer: {name: slimtrain, learning_rate: 1e-2}
training: {epochs: 30, batch_size: 20, seed: 0, schedule: cosine}
"""


def main(folder: Path) -> None:
    """Simulate, train the family by its name, evaluate, report; then load the result."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "gated.yaml"
    config.write_text(CONFIG, encoding="utf-8")
    report = run_pipeline(
        config, [], folder / "run", print, command="python examples/own_family.py", resume=False, overwrite=True
    )
    copyfile(report.parent / "figures" / "training.png", "own_family.png")
    surrogate = Surrogate.load(folder / "run" / "cases" / "main")
    with torch.no_grad():
        hill = float(surrogate(torch.tensor([[-0.01, 1.58]])))
    print(f"{type(surrogate.network.features).__name__} gives {hill:.2f} on top of a hill of 8.11; report: {report}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/own_family"))
