"""One static HTML file for one run or several: what was found, in words, tables and figures, and how to repeat it."""

from surrogate.report.page import write_report

__all__ = ["write_report"]
