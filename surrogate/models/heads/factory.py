"""Heads by the type of their layer, and the layers that are not supported."""

from __future__ import annotations

from torch import nn
from torch.nn.parameter import is_lazy

from surrogate.errors import ConfigError
from surrogate.models.heads.convolution import ConvHead, TransposedConvHead
from surrogate.models.heads.dense import DenseHead
from surrogate.models.heads.head import Head

__all__ = ["SUPPORTED", "head_of", "is_supported"]

_HEADS: dict[type[nn.Module], type[Head]] = {
    nn.Linear: DenseHead,
    nn.Conv1d: ConvHead,
    nn.Conv2d: ConvHead,
    nn.Conv3d: ConvHead,
    nn.ConvTranspose1d: TransposedConvHead,
    nn.ConvTranspose2d: TransposedConvHead,
    nn.ConvTranspose3d: TransposedConvHead,
}
SUPPORTED = tuple(kind.__name__ for kind in _HEADS)


def is_supported(layer: nn.Module) -> bool:
    """Return True if the layer is of a type that can be a head, regardless of its settings."""
    return any(isinstance(layer, kind) and type(layer).forward is kind.forward for kind in _HEADS)


def head_of(layer: nn.Module) -> Head:
    """Wrap a layer, which keeps its weights, in a head.

    Arguments:
        layer: A linear, convolution or transposed convolution layer of torch, its bias optional.

    Raises:
        ConfigError: The layer is of another kind, or one of its settings is not supported; the message names it.
    """
    name = type(layer).__name__
    if not is_supported(layer):
        raise ConfigError(
            f"{name} cannot be a head: it is not known to be linear in its weights; "
            f"use {', '.join(SUPPORTED[:-1])} or {SUPPORTED[-1]}"
        )
    groups, padding_mode = getattr(layer, "groups", 1), getattr(layer, "padding_mode", "zeros")
    if groups != 1:
        raise ConfigError(f"groups={groups} of the head {name} is not supported; use groups=1")
    if padding_mode != "zeros":
        raise ConfigError(
            f"padding_mode='{padding_mode}' of the head {name} is not supported; "
            "pad in the features and use padding=0 in the head"
        )
    weight = layer._parameters.get("weight")
    if weight is None:
        raise ConfigError(f"the weight of the head {name} is reparametrized; remove the parametrization first")
    if is_lazy(weight) or not weight.is_floating_point():
        kind = "not initialised yet" if is_lazy(weight) else f"of type {weight.dtype}".replace("torch.", "")
        raise ConfigError(f"the weight of the head {name} is {kind}; use an initialised layer of real numbers")
    return next(head for kind, head in _HEADS.items() if isinstance(layer, kind))(layer)
