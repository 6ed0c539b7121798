"""Fixtures and modules that every test may use."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

from forked import no_fsync
from pictures import save_blank

gc.set_threshold(50_000, 10, 10)  # as the commands do: the objects of the libraries stay
os.fsync = no_fsync


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Reference data kept beside the checkout; tests that use them skip where they are absent."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("SURROGATE_SHARED", default)) / "data"
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder}")
    return folder


@pytest.fixture(scope="module")
def blank_pictures() -> Iterator[None]:
    """Make the pictures of reports one pixel large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("surrogate.report.figures.save_figure", save_blank)
        patch.setattr("surrogate.report.case_figures.save_animation", save_blank)
        yield


settings.register_profile("quiet", deadline=None, max_examples=40)  # tests never depend on how busy the machine is
settings.register_profile("ci", deadline=None, max_examples=40, derandomize=True)
settings.register_profile("thorough", deadline=None)


def pytest_configure(config: pytest.Config) -> None:
    """Draw hypothesis's usual number of examples where slow tests are asked for."""
    chosen = config.option.markexpr
    thorough = "slow" in chosen and "not slow" not in chosen
    settings.load_profile("thorough" if thorough else "ci" if os.environ.get("CI") else "quiet")
