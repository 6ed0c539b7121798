"""Networks that are compared share the time equally, and nothing is promised that there is no time for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from surrogate.workflows.budget import LEAST, MOST, Pilot, epochs_within

seconds = st.floats(1e-4, 100.0)
networks = st.dictionaries(
    st.sampled_from("abcdefg"), st.builds(Pilot, error=seconds, epoch=seconds, overhead=st.floats(0, 10)), max_size=7
)


def cost(pilot: Pilot, epochs: int, folds: int) -> float:
    return folds * (pilot.overhead + pilot.epoch * epochs)


@given(networks, st.floats(0, 2000), st.integers(1, 10))
def test_the_time_suffices_and_is_shared_equally(pilots: dict[str, Pilot], time: float, folds: int) -> None:
    epochs = epochs_within(pilots, time, folds)
    assert all(LEAST <= count <= MOST for count in epochs.values())
    spent = {name: cost(pilots[name], count, folds) for name, count in epochs.items()}
    assert sum(spent.values()) <= time * (1 + 1e-9) + 1e-9
    whole = {name: cost(pilots[name], count + 1, folds) for name, count in epochs.items() if count < MOST}
    for name in whole:  # what others do not need was handed on
        assert whole[name] >= time / len(epochs) * (1 - 1e-9)
    if not epochs:  # then not even one of them fits
        assert all(cost(pilot, LEAST, folds) > time * (1 - 1e-9) for pilot in pilots.values())


def test_the_least_promising_are_left_out_first() -> None:
    pilots = {str(error): Pilot(error, epoch=1.0, overhead=0.0) for error in (0.3, 0.1, 0.2)}
    assert epochs_within(pilots, 30.0, folds=1) == {"0.3": 10, "0.1": 10, "0.2": 10}
    assert epochs_within(pilots, 12.0, folds=1) == {"0.1": 6, "0.2": 6}
    assert epochs_within(pilots, 9.0, folds=1) == {"0.1": 9}
    assert epochs_within(pilots, 4.0, folds=1) == {}
    too_slow = {"too slow": Pilot(0.05, 100.0, 0.0)}
    assert epochs_within(pilots | too_slow, 30.0, folds=1) == epochs_within(pilots, 30.0, folds=1)
    assert epochs_within(pilots | {"slow": Pilot(0.05, 4.0, 0.0)}, 41.0, folds=1) == {"0.1": 20, "slow": 5}
