"""Definitions of all numbers of a report, read from the page of the documentation that has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby

from surrogate.catalogue import shipped
from surrogate.report.tables import Table

__all__ = ["PAGE", "Definitions", "definitions"]

PAGE = "docs/metrics.md"


@dataclass
class Definitions:
    """A section of the page.

    Arguments:
        title: Its heading.
        blocks: Paragraphs, displayed formulas and tables, in their order.
    """

    title: str
    blocks: list[str | list[str] | Table] = field(default_factory=list)


def definitions() -> list[Definitions]:
    """Read the sections of the page: headings, paragraphs, indented formulas (a list of lines) and tables.

    Raises:
        ResourceError: This installation lacks the page.
    """
    lines = shipped(PAGE).read_text(encoding="utf-8").splitlines()
    sections: list[Definitions] = []
    for blank, group in groupby(lines, key=lambda line: not line.strip()):
        block = [] if blank else list(group)
        while block and block[0].startswith("#"):
            sections.append(Definitions(block.pop(0).lstrip("# ")))
        if block and block[0].startswith("|"):
            header, _, *rows = ([cell.strip() for cell in line.strip().strip("|").split("|")] for line in block)
            sections[-1].blocks.append(Table("", header, rows))
        elif block:
            formula = block[0].startswith("    ")
            sections[-1].blocks.append([line.strip() for line in block] if formula else " ".join(block))
    return sections
