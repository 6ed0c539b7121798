"""The weights of a stack are the best on the simplex, as a search of all its faces gives them."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogate.training.stacking import convex_weights


def residuals(count: int, seed: int, alike: float) -> np.ndarray:
    """Residuals of several models on 40 numbers, with a part that all share."""
    rng = np.random.default_rng(seed)
    return alike * rng.standard_normal(40) + rng.uniform(0.1, 3.0, (count, 1)) * rng.standard_normal((count, 40))


def best_on_faces(gram: np.ndarray) -> float:
    """The least a'Qa over the simplex: the least over all faces of the stationary point in it, where it is inside."""
    least = np.inf
    for size in range(1, len(gram) + 1):
        for face in itertools.combinations(range(len(gram)), size):
            direction = np.linalg.solve(gram[np.ix_(face, face)], np.ones(size))
            weights = direction / direction.sum()
            if (weights >= -1e-12).all():
                least = min(least, float(weights @ gram[np.ix_(face, face)] @ weights))
    return least


@settings(deadline=None, max_examples=40)
@given(count=st.integers(1, 5), seed=st.integers(0, 999), alike=st.sampled_from([0.0, 1.0, 5.0]))
def test_weights_are_the_best_on_the_simplex(count: int, seed: int, alike: float) -> None:
    rows = residuals(count, seed, alike)
    gram = rows @ rows.T
    weights = np.array(convex_weights(torch.from_numpy(gram)))
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    assert weights @ gram @ weights == pytest.approx(best_on_faces(gram), rel=1e-6)
    assert weights @ gram @ weights <= gram.diagonal().min() * (1 + 1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_units_of_the_error_make_no_difference(scale: float) -> None:
    rows = residuals(3, 4, 0.5)
    gram = torch.from_numpy(rows @ rows.T)
    np.testing.assert_allclose(convex_weights(scale * gram), convex_weights(gram), rtol=1e-6, atol=1e-9)


def test_equal_models_and_perfect_ones() -> None:
    assert sum(convex_weights(torch.ones(3, 3, dtype=torch.float64))) == pytest.approx(1)
    assert convex_weights(torch.diag(torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64))) == pytest.approx(
        [0, 1, 0], abs=1e-7
    )
    assert sum(convex_weights(torch.zeros(2, 2, dtype=torch.float64))) == pytest.approx(1)
