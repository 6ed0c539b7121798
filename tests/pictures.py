"""Pictures of reports that are one pixel large: to draw them takes most of the time of a short pipeline."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

__all__ = ["BLANK", "save_blank"]

BLANK = """
import pictures, surrogate.report.case_figures, surrogate.report.figures
surrogate.report.figures.save_figure = surrogate.report.case_figures.save_animation = pictures.save_blank
"""
"""Lines before a script in a process of `forked.py`."""


def save_blank(_figure: object, path: Path) -> None:
    """Save one pixel in the place of a figure or an animation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (1, 1)).save(path, path.suffix.removeprefix("."))
