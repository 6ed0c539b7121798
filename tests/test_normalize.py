"""Moments merge exactly; normalisation is inverted."""

import errno
import os
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogate.batch import Batch
from surrogate.errors import DataError
from surrogate.files import cache_folder
from surrogate.normalize import Moments, Normalizer, cached_normalizers, fit_normalizers


def make_batches(values, targets, size):
    index = torch.arange(len(values))
    parts = zip(values.split(size), targets.split(size), index.split(size), strict=True)
    return [Batch(x, y, i, torch.zeros_like(i)) for x, y, i in parts]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=6), st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_merged_moments_are_those_of_all_values(sizes, mean, scale):
    generator = torch.Generator().manual_seed(sum(sizes))
    parts = [mean + scale * torch.randn(size, 2, 3, generator=generator, dtype=torch.float64) for size in sizes]
    merged = Moments.of(parts[0])
    for part in parts[1:]:
        merged = merged + Moments.of(part)
    values = torch.cat(parts).transpose(0, 1).flatten(1).numpy()
    assert merged.seen == values.shape[1]
    assert (merged.count == values.shape[1]).all()
    if merged.seen:
        np.testing.assert_allclose(merged.mean, values.mean(1), rtol=1e-10, atol=1e-10 * scale)
        np.testing.assert_allclose(merged.std, values.std(1), rtol=1e-8, atol=1e-10 * abs(mean))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.booleans(), st.floats(0, 1))
def test_values_that_are_not_there_are_left_out_of_merged_moments(sizes, per_pixel, share):
    generator = torch.Generator().manual_seed(sum(sizes))
    parts = [5 + torch.randn(size, 2, 3, generator=generator, dtype=torch.float64) for size in sizes]
    for part in parts:
        part[torch.rand(part.shape, generator=generator) < share] = torch.nan
    merged = Moments.of(parts[0], per_pixel=per_pixel)
    for part in parts[1:]:
        merged = merged + Moments.of(part, per_pixel=per_pixel)
    values = torch.cat(parts).numpy()
    axes = 0 if per_pixel else (0, 2)
    count = np.isfinite(values).sum(axes)
    np.testing.assert_array_equal(merged.count, count)
    some = count > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy warns of means of nothing
        mean, std = np.nanmean(values, axes), np.nanstd(values, axes)
    np.testing.assert_allclose(merged.mean[some], mean[some], rtol=1e-10)
    np.testing.assert_allclose(merged.std[some], std[some], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("shape", [(7, 2, 30), (1, 3, 5, 20), (40, 2), (9, 1, 4, 4, 4)])
@pytest.mark.parametrize("block", [8, 50])
def test_moments_do_not_depend_on_the_size_of_blocks(monkeypatch, shape, block):
    values = 7 + torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values[0, 0] = torch.nan
    whole = [Moments.of(values, per_pixel=per_pixel) for per_pixel in (False, True)]
    monkeypatch.setattr("surrogate.normalize.BLOCK", block)
    for expected in whole:
        moments = Moments.of(values, per_pixel=expected is whole[1])
        assert moments.seen == expected.seen
        assert torch.equal(moments.count, expected.count)
        torch.testing.assert_close(moments.mean, expected.mean, rtol=1e-13, atol=0)
        torch.testing.assert_close(moments.m2, expected.m2, rtol=1e-11, atol=1e-13)


class Peers:
    """This process and one with the same data, whose file system may not show the file of statistics yet."""

    def __init__(self, first, sees):
        self.first, self.sees = first, sees

    def all(self, found):
        return found and self.sees

    def merged(self, moments):
        return moments + moments


def test_merging_is_independent_of_the_order():
    parts = [Moments.of(torch.randn(n, 2, 5, dtype=torch.float64) + n) for n in (3, 9, 1)]
    left, right = (parts[0] + parts[1]) + parts[2], parts[2] + (parts[1] + parts[0])
    torch.testing.assert_close(left.m2, right.m2, rtol=1e-12, atol=0)


def test_float16_values_do_not_overflow():
    moments = Moments.of(torch.full((1000, 1, 10), 60000.0, dtype=torch.float16))
    assert moments.mean.item() == 60000.0 - 60000.0 % 32
    assert moments.m2.item() == 0


@pytest.mark.parametrize("space", [(), (5,), (4, 5), (2, 3, 4)])
def test_the_inverse_undoes_it_to_rounding(space):
    values = 3 + 7 * torch.randn(20, 2, *space)
    normalizer, _ = fit_normalizers(make_batches(values, values, 6), ["a", "b"], ["a", "b"])
    normalised = normalizer(values)
    flat = normalised.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(2).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(flat.std(1, unbiased=False), torch.ones(2).double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(normalizer.inverse(normalised), values, rtol=4e-7, atol=4e-6)


def test_a_constant_channel_is_shifted_and_named():
    values = torch.randn(8, 2, 4)
    values[:, 1] = 0.1
    with pytest.warns(UserWarning, match=r"channel 'nu' is constant \(0.1\)"):
        normalizer, _ = fit_normalizers(make_batches(values, values[:, :1], 3), ["u", "nu"], ["u"])
    assert normalizer.scale[1] == 1
    assert normalizer(values)[:, 1].abs().max() < 1e-7


def test_the_state_round_trips():
    normalizer = Normalizer(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
    other = Normalizer(torch.zeros(2), torch.ones(2))
    other.load_state_dict(normalizer.state_dict())
    values = torch.randn(3, 2, 4)
    assert torch.equal(normalizer(values), other(values))


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (lambda: fit_normalizers([], ["a"], ["b"]), "training set is empty"),
        (lambda: Normalizer(torch.zeros(2), torch.zeros(2)), "scale positive"),
        (lambda: Normalizer(torch.zeros(2), torch.ones(3)), "one entry per channel"),
        (lambda: Normalizer(torch.zeros(2), torch.ones(2))(torch.zeros(4, 3, 8)), "expected 2 channels on axis 1"),
    ],
)
def test_refusals(action, text):
    with pytest.raises(DataError, match=text):
        action()


def test_per_pixel_statistics_are_those_of_numpy():
    values = torch.randn(20, 2, 3, 4) * torch.rand(2, 3, 4) + torch.randn(2, 3, 4)
    values[:, 0, 1, 2] = 5  # constant at one point: scaled as its channel, and no reason to warn
    normalizer, _ = fit_normalizers(make_batches(values, values, 6), "ab", "ab", per_pixel=True)
    expected = values.double().numpy()
    np.testing.assert_allclose(normalizer.mean, expected.mean(0), rtol=1e-6, atol=1e-7)
    scale = expected.std(0)
    scale[0, 1, 2] = np.sqrt((scale[0] ** 2).mean())
    np.testing.assert_allclose(normalizer.scale, scale, rtol=1e-6)
    torch.testing.assert_close(normalizer.inverse(normalizer(values)), values, rtol=1e-6, atol=1e-6)
    with pytest.raises(DataError, match="normalised per pixel; use the grid of the training data"):
        normalizer(torch.zeros(2, 2, 6, 8))


@pytest.mark.parametrize("scale", [1e-20, 1e-6, 1, 1e6])
@pytest.mark.parametrize("rounding", [0, 1e-24, 1e-9])
def test_a_pixel_that_varies_by_rounding_alone_is_constant(scale, rounding):
    values = torch.randn(50, 1, 8, dtype=torch.float64)
    values[:, :, [0, -1]] *= rounding  # walls on which a solution is zero but for rounding
    values = (scale * values).float()
    normalizer, _ = fit_normalizers(make_batches(values, values, 9), "a", "a", per_pixel=True)
    normalised = normalizer(values)
    assert normalised[:, :, [0, -1]].abs().max() < 1e-6
    error = normalizer.inverse(normalised + 1e-3) - values  # an error of the network is one of the data's scale
    assert 1e-4 * scale < error.abs().max() < 1e-2 * scale


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
def test_huge_and_tiny_channels_are_normalised(scale):
    values = scale * torch.randn(64, 1, 8, dtype=torch.float64).float()
    normalizer, _ = fit_normalizers(make_batches(values, values, 9), "a", "a")
    normalised = normalizer(values)
    assert normalised.std(unbiased=False).item() == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(normalizer.inverse(normalised), values, rtol=1e-5, atol=1e-6 * scale)


class Counted:
    """Batches that count how often they are read."""

    input_names = target_names = ("a", "b")

    def __init__(self, values, content="0123"):
        self.values, self.content, self.passes = values, content, 0

    def __iter__(self):
        self.passes += 1
        return iter(make_batches(self.values, self.values, 5))


def same(one, two):
    return all(torch.equal(a.mean, b.mean) and torch.equal(a.scale, b.scale) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("per_pixel", [False, True])
def test_statistics_are_read_again_only_for_the_same_data(tmp_path, per_pixel):
    data = Counted(torch.randn(12, 2, 3))
    first = cached_normalizers(data, tmp_path, per_pixel=per_pixel)
    assert same(first, fit_normalizers(data, "ab", "ab", per_pixel=per_pixel))
    data.passes = 0
    assert same(first, cached_normalizers(data, tmp_path, per_pixel=per_pixel))
    assert data.passes == 0
    other = Counted(torch.randn(12, 2, 3), "4567")
    assert not same(first, cached_normalizers(other, tmp_path, per_pixel=per_pixel))
    cached_normalizers(data, tmp_path, per_pixel=not per_pixel)
    assert (other.passes, data.passes) == (1, 1)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"version": 0}', '{"version": 1, "moments": [{}, {}]}'])
def test_damaged_statistics_are_made_again(tmp_path, content):
    data = Counted(torch.randn(12, 2, 3))
    first = cached_normalizers(data, tmp_path)
    (file,) = tmp_path.iterdir()
    good = file.read_text()
    file.write_text(content)
    assert same(first, cached_normalizers(data, tmp_path))
    assert (data.passes, file.read_text()) == (2, good)


def test_statistics_that_cannot_be_kept_are_still_given(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.warns(UserWarning, match="statistics are not kept for the next run: .*No space left"):
        cached_normalizers(Counted(torch.randn(12, 2, 3)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_newest_statistics_stay_though_another_process_deletes_some(tmp_path):
    for age in range(70):
        (tmp_path / f".statistics-{age}.json").write_text("{}")
        os.utime(tmp_path / f".statistics-{age}.json", (1000 - age, 1000 - age))
    (tmp_path / ".statistics-gone.json").symlink_to("deleted")  # listed, but not there any more
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cached_normalizers(Counted(torch.randn(12, 2, 3)), tmp_path)
    kept = {path.name for path in tmp_path.iterdir()}
    assert len(kept) == 64
    assert kept > {f".statistics-{age}.json" for age in range(63)}


def test_where_statistics_are_kept(tmp_path, monkeypatch):
    (tmp_path / "a.h5").write_text("")
    assert cache_folder(tmp_path) == cache_folder(tmp_path / "a.h5") == tmp_path
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_folder(tmp_path / "a.h5") == tmp_path / "cache" / "slim-surrogate"


def test_of_several_processes_the_first_keeps_what_all_found_and_all_read_it_or_none(tmp_path):
    data = Counted(torch.randn(12, 2, 3))
    second = cached_normalizers(data, tmp_path, peers=Peers(first=False, sees=True))
    assert not list(tmp_path.iterdir())
    first = cached_normalizers(data, tmp_path, peers=Peers(first=True, sees=True))
    assert len(list(tmp_path.iterdir())) == 1
    assert same(first, second)
    read = data.passes
    assert same(first, cached_normalizers(data, tmp_path, peers=Peers(first=False, sees=True)))
    assert data.passes == read
    cached_normalizers(data, tmp_path, peers=Peers(first=False, sees=False))
    assert data.passes == read + 1
