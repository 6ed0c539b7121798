"""separate() keeps weights and outputs, or says why it cannot."""

import pytest
import torch
from torch import Tensor, nn

from surrogate.errors import ConfigError
from surrogate.models.heads import ConvHead, DenseHead, TransposedConvHead, head_of
from surrogate.models.separable import Separable, separate


class Net(nn.Module):
    """A user's own model; `end` is what it does last."""

    def __init__(self, end: str = "head") -> None:
        super().__init__()
        self.end = end
        self.body = nn.Linear(3, 4)
        self.decoder = nn.ModuleDict({"mid": nn.Linear(4, 4), "out": nn.Linear(4, 4)})

    def forward(self, x: Tensor) -> Tensor:
        z = torch.tanh(self.decoder["mid"](torch.tanh(self.body(x))))
        y = self.decoder["out"](z)
        match self.end:
            case "relu":
                return torch.relu(y)
            case "view":
                return y.view(-1, 2, 2)
            case "sum":
                return y + z
            case "twice":
                return self.decoder["out"](y)
            case "pair":
                return y, z
            case "branch":
                return y if x.sum() > -1e9 else -y
            case "branch, relu":
                return torch.relu(y) if x.sum() > -1e9 else -y
        return y


def same_outputs(model: nn.Module, parts: Separable, x: Tensor) -> None:
    assert torch.equal(model(x), parts(x))
    own = {id(parameter) for parameter in model.parameters()}
    assert {id(parameter) for parameter in parts.parameters()} == own
    inside = {id(parameter) for parameter in parts.features.parameters()}
    assert not inside & {id(parameter) for parameter in parts.head.parameters()}


@pytest.mark.parametrize(
    ("model", "shape", "kind"),
    [
        (nn.Linear(3, 2), (5, 3), DenseHead),
        (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2, bias=False)), (5, 3), DenseHead),
        (
            nn.Sequential(nn.Conv1d(1, 3, 3), nn.Sequential(nn.ReLU(), nn.Sequential(nn.Conv1d(3, 2, 3)))),
            (5, 1, 9),
            ConvHead,
        ),
        (
            nn.Sequential(nn.Tanh(), nn.ConvTranspose2d(1, 3, 4, stride=2), nn.Identity()),
            (5, 1, 4, 4),
            TransposedConvHead,
        ),
        (nn.Sequential(nn.Tanh(), Net()), (5, 3), DenseHead),
        (Net(), (5, 3), DenseHead),
    ],
)
def test_weights_and_outputs_stay(model: nn.Module, shape: tuple[int, ...], kind: type) -> None:
    parts = separate(model)
    assert isinstance(parts.head, kind)
    same_outputs(model, parts, torch.randn(shape))


def test_the_model_is_not_changed() -> None:
    model = Net()
    names = list(model.state_dict())
    parts = separate(model)
    assert list(model.state_dict()) == names
    assert isinstance(model.decoder["out"], nn.Linear)
    assert isinstance(parts.features.decoder["out"], nn.Identity)


def test_what_is_separable_already_is_returned() -> None:
    parts = Separable(nn.Tanh(), head_of(nn.Linear(2, 1)))
    assert separate(parts) is parts


def test_the_head_may_be_named_and_compared_on_an_example() -> None:
    model = Net()
    name, example = {"head": "decoder.out"}, {"example": torch.randn(2, 3)}
    for options in (name, example, {**name, **example}):
        same_outputs(model, separate(model, **options), torch.randn(5, 3))


def test_a_forward_that_branches_on_data_needs_a_name_and_an_example() -> None:
    model = Net("branch")
    with pytest.raises(
        ConfigError,
        match=r"cannot trace the forward of Net to its last operation .*separate\(model, head=..., example=...\)",
    ):
        separate(model)
    with pytest.raises(ConfigError, match="cannot trace the forward"):
        separate(model, head="decoder.out")
    same_outputs(model, separate(model, head="decoder.out", example=torch.randn(2, 3)), torch.randn(5, 3))


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("relu", "the last operation of Net is relu, which is not linear in its weights"),
        ("view", "the last operation of Net is view"),
        ("sum", "the last operation of Net is add"),
        ("twice", "the last layer 'decoder.out' of Net is also used before"),
        ("pair", "Net returns tuple, not one tensor"),
    ],
)
def test_models_that_are_not_separable_say_why(end: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        separate(Net(end))


@pytest.mark.parametrize("end", ["relu", "sum", "twice", "branch, relu", "pair"])
def test_a_named_layer_that_is_not_last_is_found_out_by_the_example(end: str) -> None:
    with pytest.raises(
        ConfigError, match=r"'decoder.out' is not the last operation of Net: head\(features\(x\)\) differs"
    ):
        separate(Net(end), head="decoder.out", example=torch.randn(2, 3))


def test_sequential_models_that_are_not_separable_say_why() -> None:
    with pytest.raises(ConfigError, match=r"the last layer is ReLU\(\), .*; a separable model ends in Linear, Conv1d"):
        separate(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    with pytest.raises(ConfigError, match="Sequential has no layers"):
        separate(nn.Sequential())
    with pytest.raises(ConfigError, match="groups=2 of the head Conv1d"):
        separate(nn.Sequential(nn.Conv1d(2, 2, 1, groups=2)))
    tied = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match=r"the last layer '2' shares its weights with '0.weight' of the features"):
        separate(nn.Sequential(tied, nn.Tanh(), tied))


def test_a_wrong_name_is_answered_with_the_right_one() -> None:
    with pytest.raises(ConfigError, match=r"'decoder.mid' is not the last operation of Net, 'decoder.out' is"):
        separate(Net(), head="decoder.mid")
    with pytest.raises(ConfigError, match=r"Net has no layer 'decoder.aut'; did you mean 'decoder.out'"):
        separate(Net(), head="decoder.aut", example=torch.zeros(1, 3))


def test_comparing_on_an_example_leaves_modes_and_running_statistics_alone() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Sequential(nn.Dropout(), nn.Linear(3, 1)))
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parts = separate(model, example=torch.randn(4, 3))
    assert [module.training for module in model.modules()] == [True, True, False, False, False]
    assert parts.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def sequential() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 2)))


@pytest.mark.parametrize(("name", "where"), [("", "Sequential"), ("1", "'1'"), ("1.1", "'1.1'")])
@pytest.mark.parametrize("before", [False, True])
def test_hooks_that_may_change_outputs_are_refused(name: str, where: str, before: bool) -> None:
    model = sequential()
    module = model.get_submodule(name)
    handle = module.register_forward_pre_hook(print) if before else module.register_forward_hook(lambda *_: None)
    with pytest.raises(ConfigError, match=f"{where} has a forward hook, .*; remove it before separating"):
        separate(model)
    handle.remove()
    model[0].register_forward_hook(lambda module, inputs, output: 2 * output)  # of the features alone
    same_outputs(model, separate(model), torch.randn(5, 3))


class Functional(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x.tanh(), self.weight, self.bias)


def test_what_is_wrapped_called_as_a_function_or_no_module_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"wrapped in OptimizedModule; separate model._orig_mod"):
        separate(torch.compile(sequential(), backend="eager"))
    with pytest.raises(ConfigError, match=r"wrapped in DataParallel; separate model.module"):
        separate(nn.DataParallel(sequential()))
    with pytest.raises(ConfigError, match="Functional calls 'linear' as a function; call the layer itself"):
        separate(Functional(3, 2))
    with pytest.raises(ConfigError, match=r"separate takes a torch.nn.Module, got list"):
        separate([nn.Linear(3, 2)])
    with pytest.raises(ConfigError, match="the last layer is TransformerEncoderLayer, which is not known"):
        separate(nn.TransformerEncoderLayer(4, 2))
