"""Writing is whole or not at all."""

import os
from pathlib import Path

import pytest

from surrogate.errors import ConfigError, ResourceError
from surrogate.files import MANIFEST, MARKER, claim_output, fsync_path, replacing, replacing_folder


def test_a_failed_write_leaves_the_previous_version(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")

    def write() -> None:
        with replacing(path) as part:
            part.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write()
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_a_resource_error(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(ResourceError, match="No space left on device"), replacing(path):
        raise OSError(28, "No space left on device")
    assert path.read_text() == "before"


def test_existing_output_is_refused_unless_asked(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    claim_output(folder)
    (folder / "result").write_text("x")
    with pytest.raises(ConfigError, match="exists already; give --overwrite"):
        claim_output(folder)
    claim_output(folder, resume=True)
    assert (folder / "result").exists()
    claim_output(folder, overwrite=True)
    assert set(os.listdir(folder)) == {MARKER, ".lock"}


def test_a_folder_made_by_others_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="not made by surrogate"):
        claim_output(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_output_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(ConfigError, match="is a file"):
        claim_output(path)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="names of open files are read from /proc")
def test_every_file_of_a_unit_is_flushed_once_and_before_the_unit_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    fsync, rename = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda number: (flushed.append(Path(os.readlink(f"/proc/self/fd/{number}")).name), fsync(number))
    )
    with replacing_folder(tmp_path / "unit") as part:
        for name in ("a", "b"):
            with replacing(part / name) as file:
                file.write_text(name)
        (part / "c").write_text("c")
        assert flushed == []
        monkeypatch.setattr(os, "replace", lambda *names: (flushed.append("named"), rename(*names)))
    assert sorted(flushed[: flushed.index("named")]) == sorted(["a", "b", "c", MANIFEST, part.name])
    assert flushed[flushed.index("named") + 1 :] == [tmp_path.name]
    fsync_path(tmp_path / "unit" / "a")  # after it, files are flushed again
    assert flushed[-1] == "a"
