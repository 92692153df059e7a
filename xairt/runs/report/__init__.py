"""Reports: what a run did and found, as one HTML file."""

from xairt.runs.report.page import write_report

__all__ = ["write_report"]
