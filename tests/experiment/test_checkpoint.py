"""Checkpoints: exact round trip, damage noticed, the previous version intact."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from surrogate.errors import ConfigError, DataError
from surrogate.experiment.checkpoint import CheckpointFolder, load_state, pack, unpack, verify
from surrogate.models import ConvNetSettings, Signature, Surrogate
from surrogate.normalize import Normalizer

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
states = st.recursive(
    leaves,
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=12,
)


def make_surrogate(seed: int = 0) -> Surrogate:
    torch.manual_seed(seed)
    signature = Signature(inputs=("a",), targets=("b",), grid={"x": 8})
    settings = ConvNetSettings(width=4, depth=1)
    return Surrogate(settings, signature, *(Normalizer(torch.randn(1), torch.rand(1)) for _ in range(2)))


@given(states)
def test_pack_and_unpack_are_inverse(state: object) -> None:
    assert unpack(pack(state, {}), {}) == state


def test_tensors_keep_their_dtype_and_bits() -> None:
    tensors: dict[str, torch.Tensor] = {}
    state = {"a": [torch.tensor([1e-300], dtype=torch.float64)], 3: torch.arange(3, dtype=torch.uint8)}
    back = unpack(pack(state, tensors), tensors)
    assert torch.equal(back["a"][0], state["a"][0])
    assert back["a"][0].dtype == torch.float64
    assert torch.equal(back[3], state[3])


def test_other_objects_are_refused() -> None:
    with pytest.raises(TypeError, match="a/0 holds a object"):
        pack({"a": [object()]}, {})


def test_save_and_load_give_the_same_model(tmp_path: Path) -> None:
    surrogate = make_surrogate()
    folder = CheckpointFolder(tmp_path).save(3, surrogate, {"epoch": 1}, best=True)
    other = make_surrogate(seed=1)
    assert load_state(folder, other) == {"epoch": 1}
    x = torch.randn(2, 1, 8)
    assert torch.equal(other(x), surrogate(x))
    assert torch.equal(Surrogate.load(folder)(x), surrogate.eval()(x))


def test_latest_falls_back_over_a_damaged_checkpoint(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path)
    first = checkpoints.save(1, make_surrogate(), {}, best=True)
    second = checkpoints.save(2, make_surrogate(), {}, best=False)
    content = bytearray((second / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (second / "model.safetensors").write_bytes(content)
    with pytest.raises(DataError, match=r"model\.safetensors differs"):
        verify(second)
    with pytest.warns(UserWarning, match="falling back"):
        assert checkpoints.latest() == first


def test_best_and_newest_are_kept(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path, keep=2)
    for step in range(1, 6):
        checkpoints.save(step, make_surrogate(), {}, best=step == 2)
    assert sorted(path.name[-1] for path in tmp_path.glob("step-*")) == ["2", "4", "5"]
    assert checkpoints.best().name == "step-00000002"


def test_no_checkpoint_yet(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run `surrogate train` first"):
        CheckpointFolder(tmp_path).best()
    assert CheckpointFolder(tmp_path).latest() is None


def test_pointer_may_not_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "BEST").write_text("../elsewhere")
    with pytest.raises(DataError, match="which is no file next to it"):
        CheckpointFolder(tmp_path).best()


def test_the_best_that_is_held_in_memory_is_written_as_it_was(tmp_path: Path) -> None:
    checkpoints, surrogate = CheckpointFolder(tmp_path, keep=1), make_surrogate()
    checkpoints.save(1, surrogate, {"at": torch.ones(1)}, best=True)
    assert not checkpoints.due
    before = {name: value.clone() for name, value in surrogate.state_dict().items()}
    state = {"at": torch.full((1,), 2.0)}
    checkpoints.hold(2, surrogate, state)
    assert checkpoints.best().name == "step-00000001"
    state["at"].zero_()
    with torch.no_grad():
        for parameter in surrogate.parameters():
            parameter.zero_()
    checkpoints.save(3, surrogate, state, best=False)
    assert checkpoints.best().name == "step-00000002"
    assert checkpoints.latest() == tmp_path / "step-00000003"
    restored = make_surrogate(seed=1)
    assert torch.equal(load_state(checkpoints.best(), restored)["at"], torch.full((1,), 2.0))
    assert all(torch.equal(value, before[name]) for name, value in restored.state_dict().items())


def test_a_better_one_replaces_the_one_in_memory(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path)
    checkpoints.hold(1, make_surrogate(), {})
    checkpoints.save(2, make_surrogate(), {}, best=True)
    assert [path.name for path in checkpoints.steps] == ["step-00000002"]
    assert checkpoints.best() == checkpoints.latest()
