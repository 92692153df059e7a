"""What a reader must know before believing a number of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xairt.runs import scores
from xairt.runs.report.entries import ENTRY, with_entries
from xairt.runs.report.facts import DAMAGED, Attribution, Facts, stage_of
from xairt.runs.report.tables import MISSING, number_format
from xairt.runs.runner import FIGURES, outdated

FAIL, WARN = "fail", "warn"

NAMED = 6
"""So many cases, steps or files are named one by one."""

NAMED_REASONS = 3
"""So many reasons of one label are told."""


@dataclass(frozen=True)
class Finding:
    """A warning: how bad ("fail" or "warn"), of which run (empty: of all), of what, and what it is."""

    severity: str
    run: str
    subject: str
    text: str


def findings(runs: Sequence[Facts]) -> list[Finding]:
    """Return what is wrong with runs, the worst first."""
    found = [*_versions(runs)]
    for facts in runs:
        found += [
            *_failed(facts),
            *_damaged(facts),
            *_gates(facts),
            *_not_run(facts),
            *_outdated(facts),
            *_scores(facts),
            *_statuses(facts),
        ]
    return sorted(found, key=lambda finding: finding.severity != FAIL)


def _failed(facts: Facts) -> Iterator[Finding]:
    """Tell failed steps, one finding for each reason."""
    found: dict[str, list[str]] = {}
    for step, record in facts.records.items():
        if record.error:
            found.setdefault(record.error, []).append(step)
    for error, steps in found.items():
        yield Finding(FAIL, facts.name, f"{_named(steps, 'steps')} failed", error)


def _damaged(facts: Facts) -> Iterator[Finding]:
    """Tell files that are not what was written, one finding for each stage."""
    found: dict[str, list[str]] = {}
    for step, files in facts.damaged.items():
        found.setdefault(stage_of(step), []).extend(files)
    for stage, files in found.items():
        text = f"missing or changed since the stage {stage} wrote it; run again to rebuild it"
        yield Finding(FAIL, facts.name, _named(files, "files"), text)


def _gates(facts: Facts) -> Iterator[Finding]:
    """Tell networks below a gate, one finding for each metric."""
    gates = facts.run.benchmark.case_gates(facts.run.config)
    found: dict[tuple[str, float, bool], list[scores.MissedGate]] = {}
    for missed in scores.missed_gates(facts.table, gates):
        found.setdefault((missed.metric, missed.minimum, missed.value is None), []).append(missed)
    for (metric, minimum, missing), those in found.items():
        values = [m.value for m in those if m.value is not None]
        write = number_format([*values, minimum])
        value = MISSING if missing else ("as low as " if len(those) > 1 else "") + write(min(values))
        yield Finding(
            FAIL,
            facts.name,
            f"network of {_named([m.case for m in those])} below its accuracy gate",
            f"{metric} is {value}, at least {write(minimum)} is asked for; "
            "attributions of a network that does not know its task say little about the methods",
        )


def _not_run(facts: Facts) -> Iterator[Finding]:
    """Tell stages without a record, each with its cases."""
    done = {(step.split("/")[0], stage_of(step)) for step in facts.records}
    for stage in facts.run.benchmark.stages:
        if stage == FIGURES:
            if stage not in facts.records:
                yield Finding(WARN, facts.name, stage, "not drawn; run the stage figures")
            continue
        cases = [case for case in facts.cases if (case, stage) not in done]
        if cases:
            yield Finding(WARN, facts.name, stage, f"not done for {_named(cases)}; run again to go on")
    missing: dict[str, list[str]] = {}
    for a in facts.attributions:
        if f"{a.case}/explain/{a.label}" not in facts.records and (a.case, "explain") in done:
            missing.setdefault(a.label, []).append(a.case)
    for label, cases in missing.items():
        yield Finding(WARN, facts.name, label, f"attribution {MISSING} for {_named(cases)}")


def _outdated(facts: Facts) -> Iterator[Finding]:
    """Tell results that do not belong to the run's settings, one finding for each stage."""
    found: dict[str, list[str]] = {}
    for step in outdated(facts.run):
        if not facts.records[step].error:
            found.setdefault(stage_of(step), []).append(step.split("/")[0])
    for stage, cases in found.items():
        of = "" if stage == FIGURES else f" for {_named(list(dict.fromkeys(cases)))}"
        text = (
            f"what is shown{of} belongs to other settings or files than those of now; run again to renew it"
        )
        yield Finding(FAIL, facts.name, stage, text)


def _scores(facts: Facts) -> Iterator[Finding]:
    """Tell where the table of all scores lacks a case, or is not what the cases' own tables say."""
    if facts.scores_error:
        yield Finding(FAIL, facts.name, scores.FILE, facts.scores_error)
        return
    for case in facts.cases:
        record = facts.records.get(f"{case}/score")
        if record is None or record.error or f"{case}/score" in facts.damaged:
            continue
        rows = facts.table[facts.table["case"] == case].reset_index(drop=True)
        if case in facts.changed:
            text = f"its rows are not those of cases/{case}/{scores.FILE} and left out; run again to rebuild them"
            yield Finding(FAIL, facts.name, scores.FILE, text)
        elif rows.empty:
            yield Finding(
                WARN, facts.name, case, f"no row in {scores.FILE}; run again to bring it up to date"
            )
    (named,) = with_entries([facts.table])
    for (entry, metric), rows in named[named["value"].isna()].groupby([ENTRY, "metric"], sort=False):
        cases = list(dict.fromkeys(rows["case"]))
        yield Finding(WARN, facts.name, str(entry), f"{metric} {MISSING} for {_named(cases)}")


def _statuses(facts: Facts) -> Iterator[Finding]:
    """Tell attributions whose sum misses its promise, one finding for each label and status, the worst first."""
    found: dict[tuple[str, str], list[Attribution]] = {}
    for a in facts.attributions:
        if a.status in (FAIL, WARN) or (not a.status and a.reason and not _has_failed(facts, a)):
            found.setdefault((a.label, a.status or WARN), []).append(a)
    for (label, status), those in found.items():
        known = f"status {status}" if those[0].status else "status unknown"
        yield Finding(status, facts.name, label, f"{known} in {_reasons(those)}")


def _reasons(attributions: Sequence[Attribution]) -> str:
    """Return the reasons, each with its cases, those of most samples first."""
    cases: dict[str, list[str]] = {}
    for a in sorted(attributions, key=lambda a: [-(a.counts or {}).get(name, 0) for name in (FAIL, WARN)]):
        cases.setdefault(a.reason, []).append(a.case)
    told = [f"{_named(those)}: {reason}" for reason, those in list(cases.items())[:NAMED_REASONS]]
    left = sum(map(len, list(cases.values())[NAMED_REASONS:]))
    if left:
        told.append(f"{left} more {'case' if left == 1 else 'cases'}: see Completeness")
    return ". In ".join(told)


def _has_failed(facts: Facts, attribution: Attribution) -> bool:
    record = facts.records.get(f"{attribution.case}/explain/{attribution.label}")
    return attribution.status == DAMAGED or (record is not None and bool(record.error))


def _versions(runs: Sequence[Facts]) -> Iterator[Finding]:
    """Tell results of different versions of xairt, within a run or between runs."""
    by_version: dict[str, list[str]] = {}
    for facts in runs:
        for version in dict.fromkeys(r.versions.get("xairt", "unknown") for r in facts.records.values()):
            by_version.setdefault(version, []).append(facts.name)
    if len(by_version) > 1:
        told = "; ".join(f"{version} in {', '.join(names)}" for version, names in sorted(by_version.items()))
        yield Finding(WARN, "", "unequal versions of xairt", told)


def _named(items: Sequence[str], noun: str = "cases") -> str:
    shown = ", ".join(items[:NAMED])
    return shown if len(items) <= NAMED else f"{shown} and {len(items) - NAMED} more {noun}"
