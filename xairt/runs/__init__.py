"""Runs: tables of cases, each generated, trained, explained and scored once, and never twice."""

from xairt.runs.cluster import executor
from xairt.runs.config import STAGES, MethodNames, RunConfig, Sweep, parse_settings, read_settings, setting
from xairt.runs.contract import PRESETS, Benchmark, Case, CaseSettings, Explanation, benchmark, benchmarks
from xairt.runs.report import write_report
from xairt.runs.runner import Outcome, Run, execute, settings_of

__all__ = [
    "PRESETS",
    "STAGES",
    "Benchmark",
    "Case",
    "CaseSettings",
    "Explanation",
    "MethodNames",
    "Outcome",
    "Run",
    "RunConfig",
    "Sweep",
    "benchmark",
    "benchmarks",
    "execute",
    "executor",
    "parse_settings",
    "read_settings",
    "setting",
    "settings_of",
    "write_report",
]
