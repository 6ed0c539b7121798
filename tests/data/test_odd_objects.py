"""Objects that cannot be read, next to good ones: each becomes a note of `inspect`, and the rest opens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from surrogate.config import parse_yaml
from surrogate.data import DataSettings, Stream, open_data
from surrogate.data.inspect import describe, render

K = np.random.default_rng(0).normal(size=(6, 4, 5)).astype("f4")
SCALAR = h5py.h5s.create(h5py.h5s.SCALAR)
ROW = h5py.h5s.create_simple((4,))
TIME = h5py.h5t.UNIX_D32LE
Maker = Callable[[h5py.Group, bytes], None]


def of_type(kind: h5py.h5t.TypeID, space: h5py.h5s.SpaceID = ROW) -> Maker:
    """A dataset of a type, whose values are not written."""
    return lambda group, name: h5py.h5d.create(group.id, name, kind, space) and None


def of_values(values: object, dtype: object = None) -> Maker:
    def make(group: h5py.Group, name: bytes) -> None:
        group.create_dataset(name, data=values, dtype=dtype)

    return make


def with_attribute(kind: h5py.h5t.TypeID, attribute: bytes = b"when", space: h5py.h5s.SpaceID = SCALAR) -> Maker:
    def make(group: h5py.Group, name: bytes) -> None:
        group.create_dataset(name, data=np.arange(3))
        h5py.h5a.create(h5py.h5o.open(group.id, name), attribute, kind, space)

    return make


def with_units(units: object, dtype: object = None) -> Maker:
    def make(group: h5py.Group, name: bytes) -> None:
        group.create_dataset(name, data=np.arange(3)).attrs.create("units", units, dtype=dtype)

    return make


def with_link(link: object) -> Maker:
    def make(group: h5py.Group, name: bytes) -> None:
        group[name] = link

    return make


def sized(kind: h5py.h5t.TypeID, size: int) -> h5py.h5t.TypeID:
    changed = kind.copy()
    changed.set_size(size)
    return changed


def anonymous_scale(group: h5py.Group, name: bytes) -> None:
    scale = group.create_dataset(None, data=np.arange(3.0))
    scale.make_scale("nameless")
    group.create_dataset(name, data=np.arange(3.0)).dims[0].attach_scale(scale)


def lost_scale(group: h5py.Group, name: bytes) -> None:
    scale = group.create_dataset(name + b"_scale", data=np.arange(3.0))
    scale.make_scale("lost")
    group.create_dataset(name, data=np.arange(3.0)).dims[0].attach_scale(scale)
    del group[name + b"_scale"]


def odd_label(group: h5py.Group, name: bytes) -> None:
    dataset = group.create_dataset(name, data=np.ones((3, 2)))
    dataset.dims[0].label, dataset.dims[1].label = "a\nb {c}", "x: [m]"


def holding_itself(group: h5py.Group, name: bytes) -> None:
    own = group.create_group(name)
    own["self"], own["above"], own["root"] = own, group, group.file["/"]


def unwritten(group: h5py.Group, name: bytes) -> None:
    group.create_dataset(name, (6, 4, 5), "f4", chunks=(2, 4, 5))


def huge(group: h5py.Group, name: bytes) -> None:
    group.create_dataset(name, (2**40, 2**20), "f4", chunks=(1, 1024))


def without_filter(group: h5py.Group, name: bytes) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((2, 4, 5))
    plan.set_filter(999, h5py.h5z.FLAG_OPTIONAL, (1, 2))
    h5py.h5d.create(group.id, name, h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((6, 4, 5)), plan)


def virtual(group: h5py.Group, name: bytes) -> None:
    layout = h5py.VirtualLayout((6, 4, 5), "f4")
    layout[...] = h5py.VirtualSource("gone\n.h5", "u", (6, 4, 5))
    group.create_virtual_dataset(name, layout)


def external(group: h5py.Group, name: bytes) -> None:
    group.create_dataset(name, (6, 4, 5), "f4", external=[("gone.bin", 0, h5py.h5f.UNLIMITED)])


def bad_packing(group: h5py.Group, name: bytes) -> None:
    group.create_dataset(name, data=K).attrs["scale_factor"] = "many"


STRUCTURE = np.dtype([("id", "i4"), ("u", "f8", (2,)), ("in", [("a", "S3")])])
LATIN, VARIABLE = b"\xb0C\n", h5py.string_dtype("utf-8")
OPAQUE = h5py.h5t.create(h5py.h5t.OPAQUE, 5)
ODD: dict[str, Maker] = {
    "time": of_type(TIME),
    "integer of 3 bytes": of_type(sized(h5py.h5t.STD_I32LE, 3)),
    "integer of 16 bytes": of_type(sized(h5py.h5t.STD_I64LE, 16)),
    "bit field": of_type(h5py.h5t.STD_B8LE),
    "opaque": of_type(OPAQUE),
    "rows of unequal length": of_type(h5py.h5t.vlen_create(h5py.h5t.IEEE_F64LE)),
    "rows of unequal length of times": of_type(h5py.h5t.vlen_create(TIME)),
    "array type": of_type(h5py.h5t.array_create(h5py.h5t.IEEE_F64LE, (3, 2))),
    "references": of_type(h5py.h5t.STD_REF_OBJ),
    "references of regions": of_type(h5py.h5t.STD_REF_DSETREG),
    "structure": of_values(np.zeros(4, STRUCTURE)),
    "complex numbers": of_values(K.astype("c8")),
    "truth values": of_values(np.ones((6, 4, 5), bool)),
    "enumeration": of_values(np.ones(4, "i1"), h5py.enum_dtype({"off": 0, "on\n": 1})),
    "text": of_values("a\nb"),
    "texts in Latin-1": of_values(np.array([LATIN, LATIN], object), VARIABLE),
    "no dataspace": of_values(h5py.Empty("f4")),
    "no entries": of_values(np.zeros((0,))),
    "no entries along an axis": of_values(np.zeros((6, 0, 5))),
    "a number never written": of_type(h5py.h5t.NATIVE_INT32, SCALAR),
    "never written": unwritten,
    "larger than any disk": huge,
    "missing filter": without_filter,
    "virtual, source missing": virtual,
    "external storage missing": external,
    "attribute of time": with_attribute(TIME),
    "attribute of 3 bytes": with_attribute(sized(h5py.h5t.STD_I32LE, 3), b"scale_factor"),
    "ragged attribute": with_attribute(h5py.h5t.vlen_create(h5py.h5t.IEEE_F64LE), b"ragged", ROW),
    "attribute with a name in Latin-1": with_attribute(h5py.h5t.NATIVE_INT32, LATIN),
    "empty attribute": with_attribute(h5py.h5t.NATIVE_INT32, b"units", h5py.h5s.create(h5py.h5s.NULL)),
    "units in Latin-1": with_units(LATIN, VARIABLE),
    "units in Latin-1 of fixed length": with_units(np.bytes_(LATIN)),
    "several units": with_units(["m", "s"]),
    "units that are numbers": with_units(np.arange(3.0)),
    "factor that is text": bad_packing,
    "nameless scale": anonymous_scale,
    "removed scale": lost_scale,
    "labels with brackets": odd_label,
    "group that holds itself": holding_itself,
    "named type": lambda group, name: group.__setitem__(name, np.dtype("f8")),
    "link to nothing": with_link(h5py.SoftLink("/nothing\n")),
    "link to a link out": with_link(h5py.SoftLink("/out")),
    "file missing": with_link(h5py.ExternalLink("gone.h5", "/u")),
    "file outside": with_link(h5py.ExternalLink("/etc/hosts", "/u")),
}
NAMES = [
    b"odd",
    b"\xe4\xf6",
    b"a\nb",
    b"a b",
    b"{sample}",
    b"100%s",
    b"\x1b[31m",
    b"x: 1 # [",
    "ü\u2028".encode(),
    b"*?",
]


def odd_file(path: Path, kinds: list[str], rng: np.random.Generator) -> None:
    with h5py.File(path, "w") as file:
        file["out"] = h5py.ExternalLink("/etc/hosts", "/u")
        group = file.create_group("odd things") if rng.random() < 0.5 else file
        for number, kind in enumerate(kinds):  # letters after the name: numbers would make a series of them
            ODD[kind](group, NAMES[rng.integers(len(NAMES))] + bytes([97 + number // 26, 97 + number % 26]))
        file["good/k"], file["good/T"] = K, 2 * K


def check_rest_opens(path: Path) -> str:
    description = describe(path)
    lines = render(description)
    assert all(line.isprintable() for line in lines)
    text = description.suggested_config.replace('sample: "???"', "sample: n").replace('time: "???"', "time: none")
    settings = DataSettings.model_validate(parse_yaml(text, "proposal").tree["data"])
    names = {"k", "T", "good_k", "good_T"} & {*settings.layout.variables}
    assert len(names) == 2
    ds = open_data(settings.model_copy(update={"layout": settings.layout.only(names)}))
    (k,) = (name for name in names if "k" in name)
    np.testing.assert_array_equal(ds[k], K)
    next(iter(Stream(ds, [k], sorted(names - {k}), batch_size=2)))
    return "\n".join(lines)


def test_all_odd_objects_of_one_file_are_lines_and_the_rest_opens(tmp_path: Path) -> None:
    odd_file(tmp_path / "a.h5", [*ODD], np.random.default_rng(0))
    shown = check_rest_opens(tmp_path / "a.h5")
    for line in ("it is left out", "more objects are left out", "external link to gone.h5:/u", "link to /nothing\\n"):
        assert line in shown


@pytest.mark.slow
def test_a_hundred_files_of_odd_objects(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    chosen = [[kind] for kind in ODD] + [rng.choice([*ODD], 5, replace=False).tolist() for _ in range(100 - len(ODD))]
    for number, kinds in enumerate(chosen):
        odd_file(tmp_path / f"{number}.h5", kinds, rng)
        check_rest_opens(tmp_path / f"{number}.h5")
