"""slimTrain as a torch optimizer: a base optimizer for the features, a damped least-squares step for the head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, distributed
from torch.optim import Optimizer

from surrogate.errors import ConfigError, NumericalError
from surrogate.models.heads import Head
from surrogate.slimtik import (
    Memory,
    NormalEquations,
    ProximalSolution,
    Rule,
    Search,
    Solution,
    depth_for_rows,
    proximal_step,
    rule_of,
    search_of,
    step,
    warmup_speed,
)
from surrogate.slimtik.ranks import broadcast, is_distributed, summed_and_compared

__all__ = ["SlimTrain"]

FIRST_DAMPING = 1e3  # relative, of proximal steps at the start of a warm-up

ELEMENTWISE = (
    "exp_avg",
    "exp_avg_sq",
    "max_exp_avg_sq",
    "exp_inf",
    "momentum_buffer",
    "square_avg",
    "grad_avg",
    "acc_delta",
    "sum",
)

OWN = (  # attributes that torch's Optimizer does not have
    "base",
    "head",
    "rule",
    "search",
    "lower_bound",
    "process_group",
    "memory_rows",
    "proximal",
    "ridge",
    "warmup",
    "memory",
    "running_sum",
    "steps",
    "_pending",
    "_solution",
)


class SlimTrain(Optimizer):
    r"""slimTrain: the head's weights never see a learning rate.

    `step` and `param_groups` are those of the base optimizer, so every torch scheduler works on this one. The head's
    parameters are excluded from the gradient (`requires_grad` becomes False): theirs is never used.

    To solve for several micro-batches at once, `accumulate` all but the last, then `solve` with the last.

    Where torch.distributed is initialised, every rank calls `solve` with its own part of the batch, which may be empty:
    one reduction adds up the sums and compares the heads, and every rank solves the same problem.

    Arguments:
        base: Optimizer of the features' parameters alone.
        head: Head of the network.
        memory_depth: Number r of earlier batches whose Gram matrices are kept.
        memory_rows: Rows in memory for each feature of the head, (r + 1) n / K; the first batch then sets the depth.
        regularization: Start of the running sum of dampings, above zero; the damping itself when it is constant.
        rule: How a damping is judged: a rule, or the name of one without arguments.
        search: Among which dampings: a search, or the name of one.
        lower_bound: The running sum never falls below it.
        proximal: Relative damping c of a `proximal_step`, which replaces the paper's; rule and search are then unused.
        ridge: Relative ridge a of a proximal step.
        warmup: Number of solves over which the head gains speed: the share of the paper's step that is taken rises from
            0.01 to 1, the relative damping of a proximal step falls from 1000 to c.
        process_group: Ranks that share a batch, where torch.distributed is initialised; the default group unless given.

    Raises:
        ConfigError: An argument is out of range, or the base optimizer holds a parameter of the head.

    Example:
        >>> from torch import nn
        >>> from surrogate.models import separate
        >>> _ = torch.manual_seed(0)
        >>> model, criterion = separate(nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))), nn.MSELoss()
        >>> optimizer = SlimTrain(torch.optim.Adam(model.features.parameters()), model.head)
        >>> x = torch.rand(200, 2)
        >>> y = torch.sin(3 * x[:, :1] + x[:, 1:])
        >>> for rows in torch.arange(200).split(20):
        ...     z = model.features(x[rows])
        ...     _ = optimizer.solve(z.detach(), y[rows])  # head weights, in place, no graph
        ...     loss = criterion(model.head(z), y[rows])
        ...     optimizer.zero_grad(); loss.backward(); _ = optimizer.step()
        >>> bool(loss < 0.1 * y.var())
        True

    Source: Newman, Chung, Chung, Ruthotto, SIAM J. Sci. Comput. 44(4), 2022, doi 10.1137/21M1452512.
    """

    def __init__(
        self,
        base: Optimizer,
        head: Head,
        *,
        memory_depth: int = 5,
        regularization: float = 0.05,
        rule: Rule | str = "sgcv",
        search: Search | str = "half-sum",
        lower_bound: float = 1e-7,
        memory_rows: float | None = None,
        proximal: float | None = None,
        ridge: float = 0.0,
        warmup: int = 0,
        process_group: distributed.ProcessGroup | None = None,
    ) -> None:
        own = {id(parameter) for parameter in head.parameters()}
        if any(id(parameter) in own for group in base.param_groups for parameter in group["params"]):
            raise ConfigError(
                "the base optimizer holds parameters of the head, which slimTrain solves for; "
                "give it model.features.parameters() alone"
            )
        if not regularization > 0 or not lower_bound >= 0:
            raise ConfigError(
                f"regularization={regularization} and lower_bound={lower_bound}: "
                "the first must be above zero, the second zero or more"
            )
        if ridge < 0 or (proximal is not None and not proximal >= 0):
            raise ConfigError(f"proximal={proximal} and ridge={ridge}: both must be zero or more")
        if proximal is None and ridge:
            raise ConfigError(f"ridge={ridge} has no effect without proximal; leave it out")
        warmup_speed(0, warmup)
        depth_for_rows(1, 1, 1.0 if memory_rows is None else memory_rows)
        super().__init__(base.param_groups, base.defaults)
        self.base = base
        self.head = head.requires_grad_(False)
        self.rule = rule_of(rule) if isinstance(rule, str) else rule
        self.search = (
            search_of(search, damping=regularization, lower_bound=lower_bound) if isinstance(search, str) else search
        )
        self.lower_bound = lower_bound
        self.process_group = process_group
        self.memory_rows, self.proximal, self.ridge, self.warmup = memory_rows, proximal, ridge, warmup
        self.memory = Memory(memory_depth)
        self.running_sum: Tensor | float = regularization
        self.steps = 0
        self._pending: NormalEquations | None = None
        self._solution: Solution | ProximalSolution | None = None
        self._share()

    def __getstate__(self) -> dict[str, Any]:
        """Return all attributes for `copy.deepcopy`; torch's own method keeps groups and state alone."""
        return {**super().__getstate__(), **{name: self.__dict__[name] for name in OWN}}

    def _share(self) -> None:
        """Share groups and state with the base optimizer, without copies."""
        self.param_groups, self.state, self.defaults = self.base.param_groups, self.base.state, self.base.defaults

    @torch.no_grad()
    def accumulate(self, z: Tensor, targets: Tensor) -> None:
        """Add a micro-batch to the batch of the next `solve`, which refuses values that are not finite.

        Raises:
            DataError: The shapes do not fit the head.
        """
        sums = self._normal_equations(z, targets)
        self._pending = sums if self._pending is None else self._pending + sums

    @torch.no_grad()
    def solve(self, z: Tensor, targets: Tensor) -> None:
        """Update the head's weights in place for a batch.

        Arguments:
            z: Features of the batch, samples first; no graph is made or needed.
            targets: Targets in the shape of the head's output.

        Raises:
            NumericalError: The batch is empty or not finite, or the solve failed; nothing has changed but that
                accumulated micro-batches are dropped.
            DataError: The shapes do not fit the head.
        """
        pending, self._pending = self._pending, None
        own = self._normal_equations(z, targets)
        own = own if pending is None else (pending + own).arranged(self.head.blocks)
        batch = self._summed(own) if is_distributed() else own
        where = f"slimTrain step {self.steps + 1}"
        if batch.samples == 0:
            raise NumericalError(f"{where}: the batch is empty, features {tuple(z.shape)}; drop empty batches")
        memory = self.memory
        if self.memory_rows is not None and not self.steps:
            memory = Memory(depth_for_rows(self.head.shape[0], batch.rows, self.memory_rows))
        memory = memory.pushed(batch.packed_G)
        try:
            solution = self._solved(batch, memory)
        except NumericalError as error:
            if torch.isfinite(batch.packed.sum() + batch.cross.sum() + batch.energy):
                raise NumericalError(f"{where}: {error}") from error
            culprit = "targets" if torch.isfinite(batch.packed.sum()) else "features"
            raise NumericalError(
                f"{where}: the {culprit} are not finite, weights left as they are; "
                "lower the learning rate or look for NaN and Inf in the data"
            ) from error
        self.head.assign_(solution.weights)
        self.memory, self.running_sum, self._solution = memory, solution.running_sum, solution
        self.steps += 1

    def _solved(self, batch: NormalEquations, memory: Memory) -> Solution | ProximalSolution:
        """Return the step of the batch, at the speed of the warm-up."""
        W, H = self.head.matrix(), memory.total
        options: dict[str, Any] = {"lower_bound": self.lower_bound, "blocks": self.head.blocks}
        if self.proximal is not None:
            c = self.proximal
            if self.steps < self.warmup:
                c = max(c, 1e-3) / warmup_speed(self.steps, self.warmup, max(c, 1e-3) / FIRST_DAMPING)
            options |= {"relative_ridge": self.ridge, "running_sum": self.running_sum}
            return proximal_step(W, batch, H, c, **options)
        solution = step(W, batch, H, self.running_sum, rule=self.rule, search=self.search, **options)
        speed = warmup_speed(self.steps, self.warmup)
        return solution if speed == 1 else replace(solution, weights=torch.lerp(W.double(), solution.weights, speed))

    def _normal_equations(self, z: Tensor, targets: Tensor) -> NormalEquations:
        head = self.head
        sums = head.normal_equations(z, targets) if z.numel() else NormalEquations.zeros(*head.shape, z.device)
        return sums.arranged(self.head.blocks)

    def _summed(self, own: NormalEquations) -> NormalEquations:
        """Return the sums of all ranks; where heads have come to differ, give all ranks that of the first.

        Equal machines compute equal bits from equal sums. Others may differ in the last one.
        """
        W = self.head.matrix()
        running_sum = torch.as_tensor(self.running_sum, dtype=torch.float64, device=W.device)
        state = torch.cat([W.double().flatten(), running_sum[None]])
        batch, same = summed_and_compared(own, state, self.process_group)
        if not same:
            broadcast(state, self.process_group)
            self.head.assign_(state[:-1].view_as(W))
            self.running_sum = state[-1]
        return batch

    @property
    def diagnostics(self) -> dict[str, float]:
        """Numbers of the last solve, see `Solution`: damping, running_sum, residual, effective_dof, condition."""
        return {} if self._solution is None else self._solution.diagnostics()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step of the base optimizer on the features."""
        return self.base.step(closure) if closure is not None else self.base.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of features and head."""
        self.base.zero_grad(set_to_none)
        for parameter in self.head.parameters():
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the base optimizer and, under `slimtik`, memory, running sum and steps."""
        return {
            **self.base.state_dict(),
            "slimtik": {
                **self.memory.tensors(self.head.shape[0], self.head.blocks),
                "memory_depth": self.memory.depth,
                "running_sum": float(self.running_sum),
                "steps": self.steps,
            },
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state exactly, in float64; memory moves to the head's device.

        Raises:
            ConfigError: The state belongs to another optimizer, head or memory depth; nothing has changed.
        """
        slimtik = state_dict.get("slimtik")
        if slimtik is None:
            raise ConfigError(
                "the state holds no 'slimtik' entry, so it is not of SlimTrain; load it into its own optimizer"
            )
        memory = self._restored(slimtik)
        groups = {**state_dict, "state": {int(index): values for index, values in state_dict["state"].items()}}
        del groups["slimtik"]
        # torch would load state silently into parameters of other shapes
        parameters = [parameter for group in self.base.param_groups for parameter in group["params"]]
        if len(parameters) != sum(len(group["params"]) for group in groups["param_groups"]):
            raise ConfigError(
                "the state has another number of parameters than the optimizer; load it into the same network"
            )
        for index, values in groups["state"].items():
            shape = parameters[index].shape
            for name, value in values.items():
                if name in ELEMENTWISE and value.shape != shape:
                    raise ConfigError(
                        f"'{name}' of parameter {index} in the state has shape {tuple(value.shape)}, "
                        f"the parameter {tuple(shape)}; load it into the same network"
                    )
        self.base.load_state_dict(groups)
        self._share()
        self.memory, self.running_sum, self.steps = memory, float(slimtik["running_sum"]), int(slimtik["steps"])
        self._pending = self._solution = None

    def _restored(self, slimtik: dict[str, Any]) -> Memory:
        K, depth = self.head.shape[0], self.memory.depth
        if self.memory_rows is not None:
            depth = int(slimtik["memory_depth"])
        if int(slimtik["memory_depth"]) != depth:
            raise ConfigError(
                f"the state has memory_depth={slimtik['memory_depth']}, the optimizer {depth}; use the same"
            )
        stacks, blocks = {}, self.head.blocks
        for name in ("front", "back"):
            stack = slimtik[name].to(self.head.weight.device, torch.float64)
            if stack.ndim != 3 or stack.shape[1:] != (K, K):
                raise ConfigError(
                    f"memory '{name}' of the state has shape {tuple(stack.shape)}, the head needs (., {K}, {K}); "
                    "load the state of a network with the same head"
                )
            stacks[name] = stack.unbind() if blocks is None else tuple(map(blocks.packed, stack))
        return Memory(depth, stacks["front"], stacks["back"])
