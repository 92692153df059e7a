"""The one runner of all benchmarks: it does what is not done yet, and nothing else."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from xairt.data.provenance import sha256_of
from xairt.errors import DataError
from xairt.runs import scores
from xairt.runs.config import STAGES, RunConfig, read_settings, write_settings
from xairt.runs.contract import Benchmark, Case, Explanation
from xairt.runs.contract import benchmark as installed
from xairt.runs.explanations import Executor, Serial, explain
from xairt.runs.lock import locked
from xairt.runs.manifest import FILE as MANIFEST_FILE
from xairt.runs.manifest import Manifest, digest
from xairt.runs.steps import carry_out

log = logging.getLogger(__name__)

CONFIG_FILE, CASES, FIGURES = "config.yaml", "cases", "figures"


@dataclass(frozen=True, eq=False)
class Run:
    """A run's folder.

    Attributes
    ----------
    folder : Path
    benchmark : Benchmark
    config : RunConfig
    manifest : Manifest
    """

    folder: Path
    benchmark: Benchmark
    config: RunConfig
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path, benchmark: Benchmark | None = None) -> Run:
        """Read a run.

        Raises
        ------
        DataError
            If the folder holds no run, or one whose benchmark is not installed or whose settings are damaged.
        """
        folder = Path(folder)
        manifest = Manifest.open(folder, benchmark and benchmark.name)
        found = benchmark or installed(manifest.benchmark)
        settings = read_settings(folder / CONFIG_FILE, sealed=True)
        return cls(folder, found, found.configured(settings), manifest)

    @property
    def cases(self) -> dict[str, Case]:
        """Every case by its name, with all settings."""
        return {name: self.case(name, own) for name, own in self.benchmark.case_table(self.config).items()}

    def case(
        self,
        name: str,
        own: Mapping[str, Any],
        stage: str = STAGES[-1],
        output: Path | None = None,
        progress: bool = False,
    ) -> Case:
        """Return a case as a stage sees it."""
        before = f"{name}/"
        seconds = {
            step.removeprefix(before): record.seconds
            for step, record in self.manifest.records.items()
            if step.startswith(before) and not record.error
        }
        settings = self.benchmark.case_settings(self.config, own, stage)
        return Case(name, settings, self.folder / CASES / name, output, progress, seconds)

    @property
    def scores(self) -> pd.DataFrame:
        """The scores of all cases, see `xairt.runs.scores`."""
        return scores.read(self.folder / scores.FILE)


def settings_of(
    benchmark: Benchmark,
    folder: Path | None = None,
    *,
    preset: str | None = None,
    file: Path | None = None,
    given: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Return the settings of a run: the preset's, then a file's, then those given.

    Parameters
    ----------
    benchmark : Benchmark
    folder : Path, optional
        Of the run. What it was run with before takes the place of the preset, unless a preset or a file is named.
    preset : str, optional
        "standard" where there is neither a file nor a run.
    file : Path, optional
        YAML file of settings.
    given : mapping, optional
        Settings by name.

    Raises
    ------
    DataError, MethodError
        If preset or file cannot be used, the run's settings are missing or were changed, or a setting is
        unknown or out of bounds.
    """
    found: dict[str, Any] = {}
    if file is not None:
        found = read_settings(file)
    elif preset is None and folder is not None and _holds_run(Path(folder)):
        found = read_settings(Path(folder) / CONFIG_FILE, sealed=True)
    elif preset is None and "standard" in benchmark.presets:
        preset = "standard"
    return benchmark.configured({**found, **(given or {})}, preset)


@dataclass
class Outcome:
    """What a call of `execute` did, by the names of steps."""

    done: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Step:
    """A step to be done if its inputs are not those of its record."""

    name: str
    stage: str
    inputs: str
    place: Path
    work: Callable[[Path], Mapping[str, Any] | None]


def execute(
    benchmark: Benchmark,
    config: RunConfig,
    folder: Path,
    *,
    only: str | None = None,
    force: Sequence[str] = (),
    executor: Executor | None = None,
    progress: bool = False,
    echo: Callable[[str], object] = lambda text: None,
) -> Outcome:
    """Bring a run's folder up to date with settings.

    Parameters
    ----------
    benchmark : Benchmark
    config : RunConfig
        Checked settings.
    folder : Path
        Made if there is none. What it holds of the same benchmark is kept where it is current.
    only : str, optional
        Do this stage alone; what it reads must be current.
    force : sequence of str
        Stages to do even where they are current.
    executor : Executor, optional
        Where attributions are computed; by default here, one after the other.
    progress : bool
        Show progress bars on a terminal.
    echo : callable
        Receives one line for every step.

    Returns
    -------
    Outcome
        A step that fails is in ``failed``; its case goes no further, other cases do.

    Raises
    ------
    DataError
        If a stage is unknown, another process works in the folder, or the folder holds another benchmark, a
        newer format or a damaged manifest.
    ClusterError
        If the executor's cluster is gone; what is finished is kept.
    """
    for stage in (*force, *([only] if only else ())):
        if stage not in benchmark.stages:
            raise DataError(f"{benchmark.name} has no stage '{stage}': it has {', '.join(benchmark.stages)}")
    if only and not set(force) <= {only}:
        raise DataError(f"only '{only}', but '{force[0]}' forced: leave one of the two out")
    folder = Path(folder)
    table = benchmark.case_table(config)
    with locked(folder):
        run = Run(folder, benchmark, config, Manifest.open(folder, benchmark.name))
        _remove_leftovers(folder)
        work = _Work(run, only, frozenset(force), executor or Serial(), progress, echo)
        ready = {name: own for name, own in table.items() if work.is_ready(name, own)}
        if not ready:
            return work.outcome
        run.manifest.write()
        write_settings(config, folder / CONFIG_FILE)
        for name, own in ready.items():
            work.case(name, own)
        work.gather(table)
        return work.outcome


@dataclass(eq=False)
class _Work:
    """The way through a run's steps."""

    run: Run
    only: str | None
    force: frozenset[str]
    executor: Executor
    progress: bool
    echo: Callable[[str], object]
    outcome: Outcome = field(default_factory=Outcome)

    def is_ready(self, name: str, own: Mapping[str, Any]) -> bool:
        """Return whether the only stage that is wanted can be done: what is before it is current."""
        for step in self._before(name, own):
            if not self.run.manifest.is_current(step.name, step.inputs):
                self.outcome.failed.append(step.name)
                self.echo(f"{step.name}: not up to date; run it without --only, or with --only {step.stage}")
                return False
            self.outcome.current.append(step.name)
        return True

    def _before(self, name: str, own: Mapping[str, Any]) -> Iterator[_Step]:
        """Yield the steps of a case before the only stage that is wanted."""
        stages = self.run.benchmark.stages
        for stage in stages[: stages.index(self.only)] if self.only else ():
            yield from self._steps(stage, name, own)

    def case(self, name: str, own: Mapping[str, Any]) -> None:
        """Do the stages of a case until one fails, or the only one that is wanted."""
        for stage in self.run.benchmark.stages:
            if stage == FIGURES or self.only not in (None, stage):
                continue
            succeeded = [self.step(step) for step in self._steps(stage, name, own)]
            if not all(succeeded):
                return
            if stage == "explain":
                self.run.manifest.drop([f"{name}/explain"])  # where it once could not tell its explanations

    def step(self, step: _Step) -> bool:
        """Do a step unless it is current; return whether it is now."""
        manifest = self.run.manifest
        if step.stage not in self.force and manifest.is_current(step.name, step.inputs):
            self.outcome.current.append(step.name)
            return True
        for file in manifest.damaged(step.name):
            log.warning("%s: missing or changed since it was written; %s is done again", file, step.name)
        succeeded = carry_out(manifest, step.name, step.inputs, step.place, step.work)
        (self.outcome.done if succeeded else self.outcome.failed).append(step.name)
        seconds = manifest.records[step.name].seconds
        self.echo(f"{step.name}: " + (f"{seconds:.1f} s" if succeeded else "failed"))
        return succeeded

    def _steps(self, stage: str, name: str, own: Mapping[str, Any]) -> Iterator[_Step]:
        """Yield the steps of a stage of a case."""
        run, benchmark = self.run, self.run.benchmark
        place = run.folder / CASES / name
        if stage == "explain":
            yield from self._explanations(name, own, place)
            return
        read = self._upstream(stage, name, own)
        inputs = digest(
            {
                **{"benchmark": benchmark.name, "version": benchmark.version, "stage": stage, "case": name},
                **{"settings": dict(run.case(name, own, stage).config), "files": read},
            }
        )

        def work(output: Path) -> None:
            case = run.case(name, own, stage, output, self.progress)
            result = getattr(benchmark, stage)(case)
            if stage == "score":
                scores.write(result, benchmark.name, case, output / scores.FILE)

        yield _Step(f"{name}/{stage}", stage, inputs, place, work)

    def _upstream(self, stage: str, name: str, own: Mapping[str, Any]) -> dict[str, str]:
        """Return the hashes of all files that earlier stages of a case wrote."""
        steps, benchmark = [], self.run.benchmark
        for earlier in benchmark.stages[: benchmark.stages.index(stage)]:
            if earlier == "explain":
                case = self.run.case(name, own, earlier)
                steps += [f"{name}/explain/{e.name}" for e in _unique(benchmark, case)]
            else:
                steps.append(f"{name}/{earlier}")
        return {file: value for step in steps for file, value in self.run.manifest.hashes(step).items()}

    def _explanations(self, name: str, own: Mapping[str, Any], place: Path) -> Iterator[_Step]:
        """Yield a step for each explanation; one that fails where the benchmark cannot tell them."""
        case, step = self.run.case(name, own, "explain"), f"{name}/explain"
        try:
            explanations = _unique(self.run.benchmark, case)
        except Exception as error:
            reason = error

            def fail(output: Path) -> None:
                raise reason

            yield _Step(step, "explain", "", place, fail)
            return
        for explanation in explanations:
            yield self._explanation(case, explanation)

    def _explanation(self, case: Case, explanation: Explanation) -> _Step:
        run, step = self.run, f"{case.name}/explain/{explanation.name}"
        written = {
            **run.manifest.hashes(f"{case.name}/generate"),
            **run.manifest.hashes(f"{case.name}/train"),
        }
        inside = f"{CASES}/{case.name}/"
        written = {file.removeprefix(inside): value for file, value in written.items()}
        told = asdict(explanation)
        if explanation.baselines is None:  # the same hash as before there were any, so that runs stay current
            del told["baselines"]
        names = (explanation.samples, explanation.model, explanation.groups, explanation.baselines)
        read = {name: _hashes(case, name, written) for name in filter(None, names)}
        inputs = digest({"version": run.benchmark.version, "explanation": told, "files": read})

        def work(output: Path) -> Mapping[str, Any]:
            return explain(explanation, case.folder, output, inputs, self.executor, self.progress)

        return _Step(step, "explain", inputs, case.folder, work)

    def gather(self, table: Mapping[str, Any]) -> None:
        """Write the table of all scores that are current, then draw the figures."""
        run = self.run
        if "score" in run.benchmark.stages and self.only in (None, "score", FIGURES):
            scored = [name for name, own in table.items() if self._is_scored(name, own)]
            scores.gather(
                [run.folder / CASES / name / scores.FILE for name in scored], run.folder / scores.FILE
            )
        incomplete = self.only and self.outcome.failed
        if FIGURES in run.benchmark.stages and self.only in (None, FIGURES) and not incomplete:
            self.step(self.figures(table))

    def _is_scored(self, name: str, own: Mapping[str, Any]) -> bool:
        """Return whether the scores of a case, and all that they were computed from, are current."""
        stages = [stage for stage in self.run.benchmark.stages if stage != FIGURES]
        steps = (step for stage in stages for step in self._steps(stage, name, own))
        return all(self.run.manifest.is_current(step.name, step.inputs) for step in steps)

    def figures(self, table: Mapping[str, Any]) -> _Step:
        """Return the step that draws the figures over all cases."""
        run = self.run
        steps = [s for s in run.manifest.records if s.split("/")[0] in table]
        read = {file: value for step in steps for file, value in run.manifest.hashes(step).items()}
        inputs = digest({"version": run.benchmark.version, "settings": run.config.plain(), "files": read})
        return _Step(FIGURES, FIGURES, inputs, run.folder / FIGURES, lambda o: run.benchmark.figures(run, o))


def planned(run: Run) -> dict[str, str]:
    """Return the steps that a run's settings of now ask for, each with the hash of what it depends on.

    In place of the explanations of a case that its benchmark cannot tell stands ``<case>/explain``.
    """
    table = run.benchmark.case_table(run.config)
    work = _Work(run, None, frozenset(), Serial(), progress=False, echo=str)
    steps = []
    for name, own in table.items():
        for stage in run.benchmark.stages:
            if stage == FIGURES:
                continue
            try:
                steps += work._steps(stage, name, own)
            except Exception as error:  # what an explain stage of a benchmark reads may not be there
                log.warning("%s/%s: cannot be told whether it is up to date (%s)", name, stage, error)
    if FIGURES in run.benchmark.stages:
        steps.append(work.figures(table))
    return {step.name: step.inputs for step in steps}


def outdated(run: Run) -> list[str]:
    """Return the finished steps of a run that its settings of now, or files renewed since, would redo.

    Damaged files do not count, see `xairt.runs.manifest.Manifest.damaged`.
    """
    records = run.manifest.records
    return [
        step for step, inputs in planned(run).items() if step in records and records[step].inputs != inputs
    ]


def _unique(benchmark: Benchmark, case: Case) -> list[Explanation]:
    """Return the explanations of a case.

    Raises
    ------
    DataError
        If two have the same name.
    """
    explanations = list(benchmark.explain(case))
    names = [e.name for e in explanations]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{benchmark.name}: explanations named {', '.join(twice)} twice; give each its own label"
        )
    return explanations


def _remove_leftovers(folder: Path) -> None:
    """Remove unfinished files that a killed process left behind."""
    for path in [*folder.glob(".*.part*"), *folder.glob("*/.*.part*"), *folder.glob(f"{CASES}/*/.*.part*")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _holds_run(folder: Path) -> bool:
    return (folder / CONFIG_FILE).exists() or (folder / MANIFEST_FILE).exists()


def _hashes(case: Case, name: str, written: Mapping[str, str]) -> str | dict[str, str]:
    """Return the hash of a file, or the hashes of a folder's files, that an explanation reads.

    `written` are the hashes of what earlier stages wrote, by name in the case's folder. A name of the registry,
    whose files are known by their hash, stands for itself.
    """
    if name in written:
        return written[name]
    path = Path(os.path.normpath(case.folder / name))
    if path.is_relative_to(case.folder):
        inside = str(path.relative_to(case.folder))
        if inside in written:
            return written[inside]
        if found := {f: value for f, value in written.items() if f.startswith(f"{inside}/")}:
            return found
    if path.is_dir():
        return {str(f.relative_to(path)): sha256_of(f) for f in sorted(path.rglob("*")) if f.is_file()}
    return sha256_of(path) if path.is_file() else name
