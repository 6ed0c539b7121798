"""The processes of a run: rank, world size, and the reductions over them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import reduce

import torch
from torch import Tensor, distributed

from surrogate.errors import ConfigError, ResourceError, SurrogateError
from surrogate.normalize import Moments

__all__ = ["Ranks", "joined"]

TIMEOUT = timedelta(minutes=10)  # of a collective: then a rank is lost, and the others end


@dataclass(frozen=True)
class Ranks:
    """The processes of a run.

    Arguments:
        rank: Number of this process among all.
        world: Number of processes.
        local: Number of this process among those of its machine, which chooses its GPU.
        device: Where the reductions take place: the host for gloo, the GPU for NCCL.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """True for the process that writes."""
        return self.rank == 0

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Ranks:
        """Read the variables of `torchrun` or another launcher.

        Raises:
            ConfigError: They are incomplete or no numbers.
        """
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        if "WORLD_SIZE" not in environment:
            return cls()
        try:
            rank, world, local = (int(environment[name]) for name in names)
        except (KeyError, ValueError) as error:
            given = ", ".join(f"{name}={environment.get(name)}" for name in names)
            raise ConfigError(
                f"the environment says {given}; start several processes with `torchrun`, or set all three to numbers "
                "(and MASTER_ADDR, MASTER_PORT)"
            ) from error
        if not 0 <= rank < world:
            raise ConfigError(f"RANK={rank} of WORLD_SIZE={world}; ranks count from 0")
        return cls(rank, world, local)

    def sum(self, values: Tensor) -> Tensor:
        """Sum values over the ranks, in place."""
        if self.world > 1:
            moved = values.to(self.device)
            distributed.all_reduce(moved)
            values.copy_(moved)
        return values

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Broadcast the tensors of the first rank to all, in place."""
        for tensor in tensors if self.world > 1 else ():
            moved = tensor.to(self.device)
            distributed.broadcast(moved, src=0)
            tensor.copy_(moved)

    def merged(self, moments: Moments) -> Moments:
        """Moments over the data of all ranks, merged in their order."""
        if self.world == 1:
            return moments
        flat = torch.stack([moments.count, moments.mean, moments.m2]).to(self.device)
        everyone = [torch.empty_like(flat) for _ in range(self.world)]
        distributed.all_gather(everyone, flat)
        seen = torch.zeros(self.world, dtype=torch.float64)
        seen[self.rank] = moments.seen
        parts = zip(self.sum(seen).tolist(), everyone, strict=True)
        return reduce(Moments.__add__, (Moments(int(number), *part.cpu().unbind()) for number, part in parts))

    def all(self, condition: bool) -> bool:
        """Return True if the condition holds on every rank."""
        return self.largest(int(not condition)) == 0

    def largest(self, value: int) -> int:
        """Return the largest value over the ranks."""
        if self.world == 1:
            return value
        result = torch.tensor([value], device=self.device)
        distributed.all_reduce(result, distributed.ReduceOp.MAX)
        return int(result)

    def average(self, tensors: Sequence[Tensor], weight: float, extra: Sequence[float] = ()) -> list[float]:
        """Average tensors over the ranks in place; return sums of the weight and of further numbers; in one reduction.

        Arguments:
            tensors: Floating-point tensors of the same shapes on every rank.
            weight: Weight of this rank, such as its number of samples.
            extra: Numbers whose sums over the ranks are returned.
        """
        if self.world == 1:
            return [weight, *extra]
        numbers = torch.tensor([weight, *extra], dtype=torch.float64)
        coarse = numbers.float()
        fine = (numbers - coarse).float()  # the two hold 48 bits of a number, a float32 alone 24
        device = tensors[0].device if tensors else numbers.device
        targets = [tensor.detach() for tensor in tensors]
        flat = torch.cat([*(target.flatten() for target in targets), coarse.to(device), fine.to(device)])
        averaged = flat[: -2 * len(numbers)]
        averaged.mul_(weight)
        coarse, fine = self.sum(flat)[-2 * len(numbers) :].view(2, -1)
        sums = (coarse.double() + fine.double()).tolist()
        means = averaged.div_(sums[0]).split([target.numel() for target in targets])
        if targets:
            torch._foreach_copy_(targets, [mean.view_as(to) for mean, to in zip(means, targets, strict=True)])
        return sums

    def alone(self, work: Callable[[], object]) -> None:
        """Run a function on the first rank while the others wait; where it fails, all fail.

        Raises:
            SurrogateError: The work's own error on the first rank.
            ResourceError: It failed, on the others.
        """
        failure: SurrogateError | None = None
        if self.first:
            try:
                work()
            except SurrogateError as error:
                failure = error
        failed = self.sum(torch.tensor([float(failure is not None)])).item()
        if failure is not None:
            raise failure
        if failed:
            raise ResourceError(f"rank {self.rank}: rank 0 has failed; see its message")


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the process group of a run, where a launcher started several processes.

    Arguments:
        device: The setting `training.device`: NCCL on GPUs, otherwise gloo.

    Raises:
        ConfigError: The launcher's variables are incomplete.
        ResourceError: The others cannot be reached.
    """
    ranks = Ranks.of(os.environ)
    if ranks.world == 1 or distributed.is_initialized():
        yield ranks
        return
    gpu = device != "cpu" and torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(ranks.local)
    try:
        store, rank, world = next(distributed.rendezvous("env://", timeout=TIMEOUT))
        # torchrun keeps its store when it starts ranks again: without a name of their own they meet the dead ones
        store = distributed.PrefixStore(f"start-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        backend = "nccl" if gpu else "gloo"
        distributed.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=TIMEOUT)
    except (ValueError, RuntimeError) as error:
        raise ResourceError(
            f"rank {ranks.rank} cannot join the others: {str(error).splitlines()[0]}; check MASTER_ADDR and MASTER_PORT"
        ) from error
    try:
        where = torch.device("cuda", ranks.local) if gpu else torch.device("cpu")
        yield Ranks(ranks.rank, ranks.world, ranks.local, where)
    finally:
        distributed.destroy_process_group()
