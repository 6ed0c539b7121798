"""Reports: one static HTML file for one run, several, or a study, with findings in words, tables and figures."""

from surrogate.report.beside import beside_lines
from surrogate.report.page import write_report
from surrogate.report.study import write_study_report

__all__ = ["beside_lines", "write_report", "write_study_report"]
