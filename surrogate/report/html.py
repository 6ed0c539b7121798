"""Pages of reports: embedded pictures and a rendered template, written atomically."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from surrogate.files import replacing
from surrogate.plotting.animation import FRAME_DPI
from surrogate.report.definitions import definitions
from surrogate.report.figures import Picture

__all__ = ["Embedder", "Shown", "write_page"]

CSS_DPI = 96  # CSS pixels in an inch
MOVING_BYTES = 3_000_000  # of animations, so that they leave room for figures
IMAGE_BYTES = 6_500_000  # of pictures, which base64 makes a third longer: the page stays below 10 MB


@dataclass(frozen=True)
class Shown:
    """Picture on the page: embedded, or only linked once the page is full.

    Arguments:
        caption: Its caption.
        file: Path of the picture relative to the page.
        content: The picture as base64, or None where it is only linked.
        kind: Its format.
        width: CSS pixels, so that text has one size in all pictures of a page.
    """

    caption: str
    file: str
    content: str | None
    kind: str
    width: int


class Embedder:
    """Encode pictures as text until the page is full."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.left = IMAGE_BYTES
        self.moving = MOVING_BYTES

    def __call__(self, picture: Picture) -> Shown:
        content, file = picture.path.read_bytes(), picture.path.relative_to(self.output).as_posix()
        kind = picture.path.suffix.removeprefix(".")
        with Image.open(picture.path) as image:
            resolution = FRAME_DPI if kind == "gif" else image.info.get("dpi", (CSS_DPI,))[0]
            width = round(image.width * CSS_DPI / resolution)
        moving = len(content) if kind == "gif" else 0
        if len(content) > self.left or moving > self.moving:
            return Shown(picture.caption, file, None, kind, width)
        self.left -= len(content)
        self.moving -= moving
        return Shown(picture.caption, file, base64.b64encode(content).decode("ascii"), kind, width)


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Render a template into a file; every template gets the `definitions` of all numbers.

    Raises:
        ResourceError: It cannot be written; an earlier page is intact.
    """
    loader = PackageLoader("surrogate.report", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.get_template(template).render(values, definitions=definitions())
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path
