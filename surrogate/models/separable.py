"""Separable networks: nonlinear features, then a head that is linear in its weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from surrogate.errors import ConfigError, did_you_mean
from surrogate.models.heads import SUPPORTED, Head, head_of, is_supported

__all__ = ["Separable", "separate"]

REMEDY = "a separable model ends in " + ", ".join(SUPPORTED[:-1]) + " or " + SUPPORTED[-1]

PARALLEL = ("DataParallel", "DistributedDataParallel")
FUNCTIONS = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


class Separable(nn.Module):
    r"""A network :math:`y = \phi(x; \theta) \cdot W`: features, then a head.

    Arguments:
        features: The nonlinear features phi, any module.
        head: The head, see `head_of`.

    Attributes:
        has_std: The network itself gives standard deviations, as Gaussian processes do.
    """

    has_std = False

    def __init__(self, features: nn.Module, head: Head) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, *inputs: Any) -> Tensor:
        return self.head(self.features(*inputs))

    def std(self, inputs: Tensor) -> Tensor:
        """Return the standard deviation of every output, with the shape of the outputs."""
        raise NotImplementedError(f"{type(self).__name__} has no standard deviations")

    def data_shapes(self, given: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Return the shapes of parameters that depend on the training data, consistent with those given."""
        return {}


def separate(model: nn.Module, *, head: str | None = None, example: Any = None) -> Separable:
    """Split a model before its last layer; weights and outputs do not change.

    The parts share every parameter with `model`, which is not changed and can still be used. The last layer is
    identified by descending into `nn.Sequential` and by tracing any other forward. A model that cannot be traced,
    because its forward branches on data, needs the name of its last layer and an example input, on which the outputs
    are compared.

    Arguments:
        model: A model whose last operation is a linear, convolution or transposed convolution layer.
        head: Name of that layer as in `model.named_modules()`, if tracing does not identify it.
        example: An input of the model, or a tuple of them; when given, the outputs are compared on it.

    Raises:
        ConfigError: The model is not separable; the message names its last operation.

    Example:
        >>> from torch import nn
        >>> model = separate(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)))
        >>> model.features(torch.zeros(5, 3)).shape, model.head.matrix().shape  # weights and bias of the last layer
        (torch.Size([5, 8]), torch.Size([9, 2]))
    """
    if isinstance(model, Separable):
        return model
    _refuse_wrapped(model)
    if head is None or example is None:
        last = _last_layer(model)
        if head not in (None, last):
            raise ConfigError(
                f"'{head}' is not the last operation of {type(model).__name__}, '{last}' is; use head='{last}'"
            )
        head = last
    try:
        layer = model.get_submodule(head)
    except AttributeError as error:
        names = [path for path, module in model.named_modules() if is_supported(module)]
        raise ConfigError(f"{type(model).__name__} has no layer '{head}'; {did_you_mean(head, names)}") from error
    _refuse_hooks(model, head)
    parts = Separable(_without(model, head), head_of(layer))
    own = set(map(id, parts.head.parameters()))
    for name, parameter in parts.features.named_parameters():
        if id(parameter) in own:
            raise ConfigError(f"the last layer '{head}' shares its weights with '{name}' of the features; {REMEDY}")
    if example is not None:
        _compare(model, parts, example if isinstance(example, tuple) else (example,), head)
    return parts


def _refuse_wrapped(model: nn.Module) -> None:
    """Raise for objects that are no module, and for wrappers (compiled or parallel) around the user's module."""
    if not isinstance(model, nn.Module):
        raise ConfigError(f"separate takes a torch.nn.Module, got {type(model).__name__}")
    kind = type(model).__name__
    for wrapper, inside in (("OptimizedModule", "_orig_mod"), *((name, "module") for name in PARALLEL)):
        if kind == wrapper:
            raise ConfigError(
                f"the model is wrapped in {kind}; separate model.{inside} and wrap its features afterwards"
            )


def _refuse_hooks(model: nn.Module, head: str) -> None:
    """Raise for forward hooks on the last layer or its parents, because they may change its outputs."""
    path = head.split(".") if head else []
    for name in (".".join(path[:length]) for length in range(len(path) + 1)):
        module = model.get_submodule(name)
        if module._forward_hooks or module._forward_pre_hooks:
            where = f"'{name}'" if name else type(model).__name__
            raise ConfigError(
                f"{where} has a forward hook, which may change the outputs of the head; remove it before separating"
            )


def _last_layer(model: nn.Module) -> str:
    """Return the name of the layer whose output is the output of `model`; empty when the model is that layer."""
    if is_supported(model):
        return ""
    if not isinstance(model, nn.Sequential):
        return _traced_last_layer(model)
    children = [(name, child) for name, child in model._modules.items() if not isinstance(child, nn.Identity)]
    if not children:
        raise ConfigError(f"{type(model).__name__} has no layers; {REMEDY}")
    name, child = children[-1]
    rest = _last_layer(child)
    return f"{name}.{rest}" if rest else name


def _traced_last_layer(model: nn.Module) -> str:
    kind = type(model).__name__
    if type(model).__module__.startswith("torch.nn.modules"):
        raise ConfigError(
            f"the last layer is {_described(model)}, which is not known to be linear in its weights; {REMEDY}"
        )
    try:
        nodes = list(fx.Tracer().trace(model).nodes)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"cannot trace the forward of {kind} to its last operation ({reason}); "
            "name its last layer and give an example input: separate(model, head=..., example=...)"
        ) from error
    last = nodes[-1].args[0]
    while isinstance(last, fx.Node) and last.op == "call_module" and isinstance(_called(model, last), nn.Identity):
        last = last.args[0]
    if not isinstance(last, fx.Node):
        raise ConfigError(f"{kind} returns {type(last).__name__}, not one tensor; {REMEDY}")
    if last.op != "call_module" or not is_supported(_called(model, last)):
        described = getattr(last.target, "__name__", last.target)
        if last.op == "call_function" and described in FUNCTIONS:
            raise ConfigError(f"{kind} calls '{described}' as a function; call the layer itself; {REMEDY}")
        described = _described(_called(model, last)) if last.op == "call_module" else described
        raise ConfigError(f"the last operation of {kind} is {described}, which is not linear in its weights; {REMEDY}")
    if sum(node.target == last.target for node in nodes if node.op == "call_module") > 1:
        raise ConfigError(
            f"the last layer '{last.target}' of {kind} is also used before, so its features depend on it; {REMEDY}"
        )
    return str(last.target)


def _described(module: nn.Module) -> str:
    """Describe a module in one line."""
    lines = str(module).splitlines()
    return lines[0] if len(lines) == 1 else type(module).__name__


def _called(model: nn.Module, node: fx.Node) -> nn.Module:
    return model.get_submodule(str(node.target))


def _without(model: nn.Module, path: str) -> nn.Module:
    """Return the model with the identity in place of the layer at `path`; containers along the path are copied."""
    if not path:
        return nn.Identity()
    name, _, rest = path.partition(".")
    twin = copy.copy(model)
    child = model.get_submodule(name)
    twin._modules = {**model._modules, name: _without(child, rest)}
    return twin


@torch.no_grad()
def _compare(model: nn.Module, parts: Separable, example: tuple[Any, ...], head: str) -> None:
    """Raise if the parts do not reproduce the model, both in evaluation mode, on an example."""
    modes = {module: module.training for root in (model, parts) for module in root.modules()}
    try:
        expected = model.eval()(*example)
        try:
            output = parts.eval()(*example)
        except (RuntimeError, TypeError):  # the head cannot take such features
            output = None
    finally:
        for module, mode in modes.items():
            module.training = mode
    comparable = isinstance(expected, Tensor) and isinstance(output, Tensor) and expected.shape == output.shape
    if not comparable or not torch.allclose(expected, output):
        raise ConfigError(
            f"the layer '{head}' is not the last operation of {type(model).__name__}: "
            f"head(features(x)) differs from model(x) on the example; {REMEDY}"
        )
