"""Roll-out: predictions go where the names of the channels say."""

from typing import Any

import pytest
import torch
from torch import Tensor

from surrogate.batch import Batch
from surrogate.errors import ConfigError, DataError
from surrogate.models import Signature
from surrogate.models.rollout import Feedback, pushed, rollout


class Shift(torch.nn.Module):
    """A time stepper that is exact for u(t) = u(0) + t * speed."""

    def __init__(self, steps_out: int = 1) -> None:
        super().__init__()
        targets = tuple(f"u[t{k:+d}]" for k in range(1, steps_out + 1))
        self.signature = Signature(inputs=("u[t-1]", "u[t+0]", "speed"), targets=targets, grid={"x": 4})
        self.noise = torch.nn.Dropout(0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        last, speed = inputs[:, 1:2], inputs[:, 2:3]
        return self.noise(torch.cat([last + k * speed for k in range(1, len(self.signature.targets) + 1)], dim=1))


def truth(times: range, speed: Tensor) -> Tensor:
    """Fields (B, times, 4) of the exact solution."""
    return torch.stack([time * speed.expand(-1, 4) for time in times], dim=1)


def first_inputs(speed: Tensor) -> Tensor:
    return torch.cat([truth(range(2), speed), speed.expand(-1, 4)[:, None]], dim=1)


@pytest.mark.parametrize("steps_out", [1, 2, 3])
def test_rollout_of_an_exact_stepper_is_the_exact_solution(steps_out: int) -> None:
    speed: Tensor = torch.tensor([[1.0], [-2.0]])
    found = rollout(Shift(steps_out).eval(), first_inputs(speed), 4)  # type: ignore[arg-type]
    assert found.shape == (2, 4, steps_out, 4)
    torch.testing.assert_close(found.flatten(1, 2), truth(range(2, 2 + 4 * steps_out), speed))


@pytest.mark.parametrize("every", [False, True])
def test_pushed_batch_of_an_exact_stepper_is_the_later_batch(every: bool) -> None:
    speed = torch.tensor([[1.0], [-2.0]])
    targets = truth(range(2, 2 + 3 * 2), speed)
    batch = Batch(first_inputs(speed), targets, torch.arange(2), torch.zeros(2, dtype=torch.int64))
    stepper: Any = Shift(2)  # in training mode: its dropout must not reach the inputs
    found = pushed(stepper, batch, 3, every=every)
    torch.testing.assert_close(found.inputs[-2:, :2], truth(range(4, 6), speed))
    torch.testing.assert_close(found.targets[-2:], truth(range(6, 8), speed))
    assert len(found) == (6 if every else 2)
    assert stepper.noise.training
    if every:
        torch.testing.assert_close(found.inputs[:2], batch.inputs)
        torch.testing.assert_close(found.targets[2:4], truth(range(4, 6), speed))


def test_strides_and_components_are_followed_by_name() -> None:
    inputs = ("v.x[t-2]", "v.y[t-2]", "v.x[t+0]", "v.y[t+0]", "k")
    feedback = Feedback.of(inputs, ("v.x[t+2]", "v.y[t+2]"))
    assert feedback.sources == (2, 3, 5, 6, 4)
    assert feedback.advance == 2


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (("u[t+0]", "w[t+0]"), ("u[t+1]",), r"input 'w\[t\+0\]' needs w\[t\+1\] next, the targets are u\[t\+1\]"),
        (("u[t+0]",), ("u[t+0]",), r"no roll-out: input 'u\[t\+0\]'"),
        (("k",), ("u[t+1]",), "are no step in time"),
        (("k",), ("u",), "are no step in time"),
    ],
)
def test_what_is_no_time_stepper_is_refused(inputs: tuple[str, ...], targets: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Feedback.of(inputs, targets)


def test_targets_of_other_steps_are_refused() -> None:
    speed = torch.ones(2, 1)
    batch = Batch(first_inputs(speed), truth(range(2, 5), speed), torch.arange(2), torch.arange(2))
    with pytest.raises(DataError, match="3 channels, 2 steps of 2 channels"):
        pushed(Shift(2), batch, 2)  # type: ignore[arg-type]
