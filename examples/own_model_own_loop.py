"""slimTrain in your own training loop
===================================

Your own model and your own loop: three changed lines, marked with <--.

The forward pass is spelled in two parts, features and head, so that the features are computed once.

Fits the peaks function to 400 samples and compares slimTrain with plain Adam from the same initial weights.

    python examples/own_model_own_loop.py
"""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from surrogate.models import separate
from surrogate.optim.slimtrain import SlimTrain
from surrogate.plotting import new_figure, save_figure

EPOCHS, BATCH, LEARNING_RATE = 30, 40, 1e-2


class Network(nn.Module):
    """Any model whose last operation is a linear, convolution or transposed convolution layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 16)
        self.second = nn.Linear(16, 16)
        self.last = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))


def peaks(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points in [-3, 3]^2 and the peaks function there."""
    xy = 6 * torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) - 3
    x, y = xy.T
    z = 3 * (1 - x) ** 2 * torch.exp(-(x**2) - (y + 1) ** 2)
    z = z - 10 * (x / 5 - x**3 - y**5) * torch.exp(-(x**2) - y**2) - torch.exp(-((x + 1) ** 2) - y**2) / 3
    return xy, z[:, None]


def train_with_adam(model: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    for epoch in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch)).split(BATCH):
            loss = nn.functional.mse_loss(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def train_with_slimtrain(model: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
    model = separate(model)  # <-- 1
    optimizer = SlimTrain(torch.optim.Adam(model.features.parameters(), LEARNING_RATE), model.head)  # <-- 2
    for epoch in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch)).split(BATCH):
            z = model.features(x[rows])
            optimizer.solve(z.detach(), y[rows])  # <-- 3: the weights of the last layer, in place
            loss = nn.functional.mse_loss(model.head(z), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@torch.no_grad()
def losses(model: nn.Module) -> str:
    train, test = (nn.functional.mse_loss(model(x), y).item() for x, y in (peaks(400, seed=0), peaks(2000, seed=1)))
    return f"training loss {train:.3e}   test loss {test:.3e}"


@torch.no_grad()
def draw(models: dict[str, nn.Module]) -> None:
    """Draw the error of every model at the test points, on one scale."""
    x, y = peaks(2000, seed=1)
    errors = {name: (model(x) - y).flatten() for name, model in models.items()}
    largest = float(max(error.abs().max() for error in errors.values()))
    figure, panels = new_figure(1, len(errors), width=9, height=3.8)
    for ax, (name, error) in zip(panels[0], errors.items(), strict=True):
        shown = ax.tripcolor(*x.T, error, shading="gouraud", cmap="RdBu_r", vmin=-largest, vmax=largest)
        ax.set(title=f"error of {name}", xlabel="x", ylabel="y", aspect="equal")
    figure.colorbar(shown, ax=panels[0])
    save_figure(figure, Path("own_model_own_loop.png"))


def main() -> None:
    torch.manual_seed(0)
    initial = Network()
    x, y = peaks(400, seed=0)
    print("initial    ", losses(initial))
    adam = train_with_adam(copy.deepcopy(initial), x, y)
    slimtrain = train_with_slimtrain(copy.deepcopy(initial), x, y)
    print("Adam       ", losses(adam))
    print("slimTrain  ", losses(slimtrain))
    draw({"Adam": adam, "slimTrain": slimtrain})


if __name__ == "__main__":
    main()
