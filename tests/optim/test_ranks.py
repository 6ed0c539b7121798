"""slimTrain on several ranks is slimTrain on one process with all samples."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Adam

from surrogate.errors import NumericalError
from surrogate.models.heads import head_of
from surrogate.models.separable import Separable
from surrogate.optim.slimtrain import SlimTrain

STEPS = 4
SHARES = {  # samples of each rank at each step
    "equal": [(slice(0, 3), slice(3, 6))] * STEPS,
    "unequal": [
        (slice(0, 1), slice(1, 6)),
        (slice(0, 5), slice(5, 6)),
        (slice(0, 6), slice(6, 6)),
        (slice(0, 2), slice(2, 6)),
    ],
}


def network() -> Separable:
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.Tanh()).double()
    return Separable(features, head_of(nn.ConvTranspose1d(4, 1, 4, stride=2, padding=1).double()))


def data(seed: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(6, *shape, dtype=torch.float64, generator=random) for shape in ((2, 8), (1, 16)))
    return x, y


def solve(rank: int, shares: list[tuple[slice, ...]]) -> list[Tensor]:
    """The head's weights and the running sum after each solve, features as they are."""
    model = network()
    optimizer = SlimTrain(Adam(model.features.parameters()), model.head, memory_depth=2)
    found = []
    for step, share in enumerate(shares):
        x, y = data(step)
        with torch.no_grad():
            optimizer.solve(model.features(x[share[rank]]), y[share[rank]])
        found.append(torch.cat([model.head.matrix().flatten(), torch.tensor([float(optimizer.running_sum)])]))
    return found


def train(rank: int, ranks: int) -> list[Tensor]:
    """All weights after each step of training with equal shares, features in DistributedDataParallel."""
    model = network()
    features = DistributedDataParallel(model.features) if ranks > 1 else model.features
    optimizer = SlimTrain(Adam(model.features.parameters(), lr=1e-2), model.head, memory_depth=2)
    found = []
    for step in range(STEPS):
        x, y = (part.chunk(ranks)[rank] for part in data(step))
        z = features(x)
        optimizer.solve(z.detach(), y)
        optimizer.zero_grad()
        nn.functional.mse_loss(model.head(z), y).backward()
        optimizer.step()
        found.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    return found


def refused(rank: int) -> str:
    """What a rank says when the first has targets that are not finite."""
    model = network()
    optimizer = SlimTrain(Adam(model.features.parameters()), model.head)
    x, y = data(0)
    if rank == 0:
        y[0] = torch.nan
    try:
        optimizer.solve(model.features(x), y)
    except NumericalError as error:
        return str(error)
    return ""


def collectives(rank: int) -> tuple[list[str], list[str], Tensor]:
    """The calls to other ranks of a solve, those of a second one with heads that differ by rounding, and the head."""
    model, (x, y) = network(), data(0)
    optimizer, called = SlimTrain(Adam(model.features.parameters()), model.head), []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("all_reduce", "broadcast", "all_gather", "reduce", "barrier"):
            original = getattr(distributed, name)
            patch.setattr(
                distributed, name, lambda *a, name=name, call=original, **k: (called.append(name), call(*a, **k))[1]
            )
        optimizer.solve(model.features(x), y)
        before, called[:] = called[:], []
        model.head.assign_(model.head.matrix() * (1 + rank * torch.finfo(torch.float64).eps))
        optimizer.solve(model.features(x), y)
    return before, called, model.head.matrix()


def rank_of_two(rank: int, folder: str) -> None:
    store = distributed.FileStore(f"{folder}/store", 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    found = {name: solve(rank, shares) for name, shares in SHARES.items()}
    results = {"found": found, "trained": train(rank, 2), "refused": refused(rank), "collectives": collectives(rank)}
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What two gloo processes compute."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    multiprocessing.start_processes(rank_of_two, (str(folder),), nprocs=2, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", SHARES)
def test_two_ranks_have_the_weights_of_one_process(two_ranks: list[dict], name: str) -> None:
    whole = [(slice(0, 6),)] * STEPS
    for first, second, expected in zip(*(each["found"][name] for each in two_ranks), solve(0, whole), strict=True):
        assert torch.equal(first, second)
        assert torch.linalg.norm(first - expected) <= 1e-10 * torch.linalg.norm(expected)


def test_training_with_ddp_is_training_in_one_process(two_ranks: list[dict]) -> None:
    for first, second, expected in zip(*(each["trained"] for each in two_ranks), train(0, 1), strict=True):
        assert torch.equal(first, second)
        torch.testing.assert_close(first, expected, rtol=1e-8, atol=1e-10)


def test_all_ranks_refuse_what_one_of_them_has_seen(two_ranks: list[dict]) -> None:
    for each in two_ranks:
        assert each["refused"].startswith("slimTrain step 1: the targets are not finite, weights left as they are")


def test_a_solve_takes_one_reduction(two_ranks: list[dict]) -> None:
    for each in two_ranks:
        assert each["collectives"][0] == ["all_reduce"]


def test_heads_that_differ_in_the_last_bit_are_made_equal(two_ranks: list[dict]) -> None:
    (_, first_called, first), (_, second_called, second) = (each["collectives"] for each in two_ranks)
    assert first_called == second_called == ["all_reduce", "broadcast"]
    assert torch.equal(first, second)
