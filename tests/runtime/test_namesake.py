"""The unrelated package of the same import name is noticed."""

import warnings
from pathlib import Path

import pytest

from surrogate.runtime.namesake import warn_of_namesake


def test_an_unrelated_package_of_the_same_name_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "surrogate-0.1.dist-info").mkdir()
    (tmp_path / "surrogate-0.1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: surrogate\nVersion: 0.1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match=r"surrogate 0\.1 is installed here too.*pip uninstall surrogate"):
        warn_of_namesake()


def test_this_package_alone_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_namesake()
