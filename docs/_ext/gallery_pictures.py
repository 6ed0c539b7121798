"""Build the gallery from examples/: a copy that may write data, and the pictures that a script writes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst

__all__ = ["SETTINGS", "written_pictures"]

ROOT = Path(__file__).resolve().parents[2]
COPY = ROOT / "docs" / "_gallery"  # the scripts write data and runs next to themselves
HEADER = """Gallery
=======

Short scripts, each of which ends in a picture and runs in seconds. Every page ends with links to the script and to a
Jupyter notebook of it; the scripts are also in `examples/` of the repository.

"""


ORDER = (  # from a first surrogate to one's own parts; scripts that are not named come last
    "own_file",
    "first_surrogate",
    "time_stepping",
    "autoencoder",
    "classical_and_neural",
    "error_bars",
    "obstacle",
    "active_learning",
    "simulation_codes",
    "study_on_slurm",
)


def place_of(filename: str) -> tuple[int, str]:
    """Return what the scripts of the gallery are sorted by."""
    name = filename.removesuffix(".py")
    return ORDER.index(name) if name in ORDER else len(ORDER), name


def copy_of_examples() -> str:
    """Copy the scripts to a folder without what an earlier build wrote there; return its path."""
    shutil.rmtree(COPY, ignore_errors=True)
    shutil.copytree(ROOT / "examples", COPY, ignore=shutil.ignore_patterns("__pycache__", "runs", "*.png"))
    (COPY / "GALLERY_HEADER.rst").write_text(HEADER, encoding="utf-8")
    return str(COPY)


def written_pictures(block: Any, block_vars: Mapping[str, Any], gallery_conf: Mapping[str, Any]) -> str:
    """Move the PNG files that a block of a script wrote to the gallery, and return the text that shows them."""
    paths = []
    for picture in sorted(Path(block_vars["src_file"]).parent.glob("*.png")):
        paths.append(next(block_vars["image_path_iterator"]))
        shutil.move(picture, paths[-1])
    return figure_rst(paths, gallery_conf["src_dir"])


SETTINGS = {
    "examples_dirs": [copy_of_examples()],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"dask_on_slurm|bring_your_own_data",  # one starts a cluster, the other has no picture
    "within_subsection_order": "gallery_pictures.place_of",
    "image_scrapers": ("gallery_pictures.written_pictures",),
    "reset_modules": (),
    "show_signature": False,
    "download_all_examples": False,
    "write_computation_times": False,
    "remove_config_comments": True,
    "copyfile_regex": "",
}
