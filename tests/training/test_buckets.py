"""Gradients reduced in buckets during the backward pass are those of one process with all samples."""

from pathlib import Path

import pytest
import torch
from forked import CONTEXT
from torch import Tensor, distributed, nn

from surrogate.training.buckets import Buckets
from surrogate.training.ranks import Ranks

SHARES = {  # batches of each rank, as slices of six samples
    "equal": ([slice(0, 3)], [slice(3, 6)]),
    "unequal": ([slice(0, 1)], [slice(1, 6)]),
    "none on one rank": ([slice(0, 6)], []),
    "several batches": ([slice(0, 1), slice(1, 4)], [slice(4, 6)]),
}
BYTES = {"one bucket": 2**20, "small buckets": 64, "a bucket for each parameter": 1}


class Network(nn.Module):
    """Layers of several sizes, and a parameter that is never used."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        self.unused = nn.Parameter(torch.ones(5).double())
        self.fixed = nn.Parameter(torch.ones(5), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def data() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn(6, 3, generator=random).double(), torch.randn(6, 2, generator=random).double()


def descend(network: nn.Module, batches: list[slice]) -> int:
    """Leave the gradient of the mean loss over all batches on the parameters; return the number of samples."""
    (x, y), samples = data(), sum(rows.stop - rows.start for rows in batches)
    for rows in batches:
        loss = nn.functional.mse_loss(network(x[rows]), y[rows]) * ((rows.stop - rows.start) / samples)
        loss.backward()
    return samples


def gradients(network: nn.Module) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]


def reduced(rank: int, shares: tuple[list[slice], ...], size: int) -> tuple[list[Tensor], Tensor, list[float], int]:
    """The mean gradient, a further mean, sums, and the number of reductions begun before the backward pass ended."""
    network, average = Network(), torch.full((2,), 1.0 + rank)
    buckets = Buckets(list(network.parameters()), Ranks(rank, 2), size)
    batches, samples = shares[rank], sum(rows.stop - rows.start for rows in shares[rank])
    for _ in range(2):  # a second step starts from the gradients of the first
        network.zero_grad()
        buckets.begin(samples, len(batches))
        descend(network, batches)
        early = len(buckets._running)
        sums = buckets.end([average], [10.0 + rank, 2.0**30 + rank])
    return gradients(network), average, sums, early


def surprised(rank: int) -> str:
    """What is raised by a backward pass that was not announced."""
    network = Network()
    buckets = Buckets(list(network.parameters())[:-2], Ranks(rank, 2), 1)
    buckets.begin(3, 1)
    descend(network, [slice(0, 3)])
    try:
        descend(network, [slice(0, 3)])
    except RuntimeError as error:
        return str(error)
    finally:
        buckets.end([], [])
    return ""


def rank_of_two(rank: int, folder: Path) -> None:
    store = distributed.FileStore(f"{folder}/store", 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    results = {(name, size): reduced(rank, SHARES[name], BYTES[size]) for name in SHARES for size in BYTES}
    torch.save({"reduced": results, "surprised": surprised(rank)}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What two gloo processes compute."""
    folder = tmp_path_factory.mktemp("buckets")
    processes = [CONTEXT.Process(target=rank_of_two, args=(rank, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("size", BYTES)
@pytest.mark.parametrize("name", SHARES)
def test_the_mean_gradient_is_that_of_one_process(two_ranks: list[dict], name: str, size: str) -> None:
    network = Network()
    descend(network, [slice(0, 6)])
    expected = [torch.zeros(5).double(), *gradients(network)]  # the parameter that is not used comes first
    samples = [sum(rows.stop - rows.start for rows in share) for share in SHARES[name]]
    mean = (samples[0] + 2 * samples[1]) / 6
    for each in two_ranks:
        found, average, sums, _ = each["reduced"][name, size]
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(average, torch.full((2,), mean))
        assert sums == [6.0, 21.0, 2.0**31 + 1]


def test_ranks_agree_to_the_last_bit(two_ranks: list[dict]) -> None:
    first, second = (each["reduced"] for each in two_ranks)
    for case in first:
        assert all(map(torch.equal, first[case][0], second[case][0]))


def test_reductions_begin_before_the_backward_pass_has_ended(two_ranks: list[dict]) -> None:
    early = {case: found[3] for case, found in two_ranks[1]["reduced"].items()}
    for name in ("equal", "unequal", "several batches"):
        assert early[name, "one bucket"] == 0
        assert early[name, "small buckets"] > 1
        assert early[name, "a bucket for each parameter"] == 6  # the seventh is of the parameter that is not used
    assert early["none on one rank", "a bucket for each parameter"] == 0


def test_a_backward_pass_too_many_is_refused(two_ranks: list[dict]) -> None:
    for each in two_ranks:
        assert "more backward passes than announced" in each["surprised"]
