"""MNIST's files: read as they were written, plain or compressed, and refused in one line where they are damaged."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from surrogate.data import DataSettings, Stream, open_snapshots
from surrogate.data.formats.idx import read_idx
from surrogate.data.layouts import find_files
from surrogate.data.splits import split
from surrogate.errors import DataError

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def content(values: np.ndarray) -> bytes:
    """The bytes of an IDX file, as its definition says."""
    code = CODES[values.dtype.str[1:]]
    lengths = b"".join(n.to_bytes(4, "big") for n in values.shape)
    return bytes([0, 0, code, values.ndim]) + lengths + values.astype(values.dtype.newbyteorder(">")).tobytes()


def write(path: Path, values: np.ndarray) -> Path:
    path.write_bytes(gzip.compress(content(values)) if path.suffix == ".gz" else content(values))
    return path


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 6, 5), dtype=np.uint8)


def mnist(folder: Path, ending: str = "") -> dict[str, np.ndarray]:
    """The four files, and what is in them."""
    made = {"train": images(20), "t10k": images(8, seed=1)}
    for name, values in made.items():
        write(folder / f"{name}-images-idx3-ubyte{ending}", values)
        write(folder / f"{name}-labels-idx1-ubyte{ending}", np.arange(len(values), dtype=np.uint8) % 10)
    return made


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("layout", ["auto", "idx"])
def test_the_four_files_become_one_data_set_with_groups(tmp_path: Path, ending: str, layout: str) -> None:
    made = mnist(tmp_path, ending)
    ds = open_snapshots(tmp_path, layout)
    assert ds["image"].dims == ("sample", "y", "x")
    for name, values in made.items():
        part = ds.isel(sample=ds["group"].values == name)
        np.testing.assert_array_equal(part["image"], values)
        np.testing.assert_array_equal(part["label"], np.arange(len(values)) % 10)
        assert part["origin"].values[3] == f"{name}[3]"


def test_images_stream_in_grey_values_and_the_given_test_set_can_be_kept(tmp_path: Path) -> None:
    made = mnist(tmp_path)
    ds = open_snapshots(tmp_path)
    data = DataSettings.model_validate(
        {
            "path": str(tmp_path),
            "inputs": ["image"],
            "targets": ["image"],
            "split": {"test": {"group": "t10k"}, "validation": 4},
        }
    )
    parts = split(ds, data.split, by=data.by)
    assert {name: part.sizes["sample"] for name, part in parts.items()} == {"train": 16, "validation": 4, "test": 8}
    (batch,) = Stream(parts["test"], data.inputs, data.targets, batch_size=8, shuffle=False)
    np.testing.assert_array_equal(batch.inputs[:, 0].numpy(), made["t10k"].astype(np.float32))


def test_the_plain_file_is_taken_where_both_are_there_and_labels_may_be_missing(tmp_path: Path) -> None:
    write(tmp_path / "train-images-idx3-ubyte.gz", images(3))
    plain = write(tmp_path / "train-images-idx3-ubyte", images(3))
    assert find_files(tmp_path) == [plain]
    assert "label" not in open_snapshots(tmp_path).variables
    assert open_snapshots(plain).sizes["sample"] == 3


@given(values=st.sampled_from(sorted(CODES)).flatmap(lambda t: arrays(t, array_shapes(max_dims=4, max_side=4))))
def test_every_type_and_shape_comes_back(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray) -> None:
    folder = tmp_path_factory.mktemp("idx")
    for name in ("file", "file.gz"):
        found = read_idx(write(folder / name, values))
        assert found.shape == values.shape
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[:-7], r"its header says 3 x 6 x 5 values, 90 bytes, but 83 follow; copy or download it again"),
        (lambda c: c + b"\0", r"90 bytes, but 91 follow"),
        (lambda c: b"\1" + c[1:], r"starts with 01 00 08 03, no magic number of IDX \(00 00 08 03 for images"),
        (lambda c: c[:2] + b"\7" + c[3:], r"starts with 00 00 07 03"),
        (lambda c: c[:9], r"ends inside its header"),
        (lambda c: b"", r"starts with nothing"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, ending: str, change, message: str) -> None:
    path = tmp_path / f"train-images-idx3-ubyte{ending}"
    damaged = change(content(images(3)))
    path.write_bytes(gzip.compress(damaged) if ending else damaged)
    with pytest.raises(DataError, match=message) as error:
        open_snapshots(tmp_path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "train-images-idx3-ubyte.gz", images(30))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"cannot be decompressed .*copy or download it again"):
        open_snapshots(path)


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    labels = write(tmp_path / "train-labels-idx1-ubyte", np.zeros(4, np.uint8))
    with pytest.raises(DataError, match="train-images-idx3-ubyte is missing"):
        open_snapshots(labels)
    write(tmp_path / "train-images-idx3-ubyte", images(3))
    with pytest.raises(DataError, match=r"has labels of shape \(4,\) for 3 images"):
        open_snapshots(tmp_path)
    other = write(tmp_path / "digits", images(3))
    with pytest.raises(DataError, match="digits: not named as an IDX file is"):
        open_snapshots(other, "idx")
    with pytest.raises(DataError, match="an IDX file, as those of MNIST"):
        open_snapshots(other)
    write(tmp_path / "train-images-idx3-ubyte", images(3)[0])
    with pytest.raises(DataError, match="has 2 axes, images have 3"):
        open_snapshots(tmp_path)
