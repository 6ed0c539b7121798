"""The mean of several networks of one kind, weighted or not, which is a separable network again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from surrogate.errors import ConfigError
from surrogate.models.heads import Head
from surrogate.models.separable import Separable

__all__ = ["SideBySide", "ensemble"]

CLOSE = 1e-4  # of the largest entry of a head's buffer


class SideBySide(nn.Module):
    """Concatenate the features of several networks: (B, C, *S) -> (B, N K, *S), or (B, *, N K) for dense heads.

    Arguments:
        members: The features of each network.
        axis: The axis of their channels.
    """

    def __init__(self, members: Sequence[nn.Module], axis: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.axis = axis

    def forward(self, *inputs: Any) -> Tensor:
        return torch.cat([member(*inputs) for member in self.members], self.axis)


def ensemble(networks: Sequence[Separable], weights: Sequence[float] | None = None) -> Separable:
    r"""Return the mean of the outputs of networks with heads of one kind, as one network.

    .. math:: \sum_{i=1}^N a_i (z_i W_i + b_i) = [z_1, \dots, z_N] \begin{bmatrix} a_1 W_1 \\ \vdots \\ a_N W_N
              \end{bmatrix} + \sum_{i=1}^N a_i b_i

    The features of the networks are shared, their heads copied.

    Arguments:
        networks: At least one; with separate features, and heads that differ in their weights alone.
        weights: The weights a, with sum one; 1 / N each unless given.

    Raises:
        ConfigError: Heads are of different kinds, sizes, or with different constants, such as the modes of `pod`.

    Source: Lakshminarayanan, Pritzel, Blundell, Simple and scalable predictive uncertainty estimation using deep
    ensembles, NeurIPS 2017.
    """
    heads = [network.head for network in networks]
    first = heads[0]
    for other in heads[1:]:
        if _kind(other) != _kind(first):
            raise ConfigError(f"an ensemble needs heads of one kind and size, not {_kind(first)} and {_kind(other)}")
        for (name, value), theirs in zip(first.named_buffers(), other.buffers(), strict=True):
            if not (value.is_meta or bool((value - theirs).abs().max() <= CLOSE * value.abs().max())):
                raise ConfigError(
                    f"an ensemble needs heads that differ in their weights only; these {type(other).__name__}s "
                    f"differ in '{name}' too"
                )
    head = first.widened(len(heads))
    matrices = torch.stack([head.matrix() for head in heads])  # (N, K, M)
    if weights is None:
        shares = torch.full_like(matrices[:, :1, :1], 1 / len(heads))
    else:
        shares = torch.as_tensor(weights, dtype=matrices.dtype, device=matrices.device).view(-1, 1, 1)
    biases = 0 if first.bias is None else 1
    rows, bias = (shares * matrices).split([matrices.shape[1] - biases, biases], 1)
    head.assign_(torch.cat([rows.flatten(0, 1), bias.sum(0)]))
    return Separable(SideBySide([network.features for network in networks], head.channel_axis), head)


def _kind(head: Head) -> str:
    """Describe a head without its weights."""
    plain = [f"{name}={value}" for name, value in vars(head).items() if name[0] != "_" and name != "training"]
    return f"{type(head).__name__}({head.layer}, {', '.join(plain)})"
