"""The contract of a benchmark: its settings, its cases, and the stages of a case."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xairt.errors import DataError, XairtError, reason_of, suggest
from xairt.runs.config import STAGES, RunConfig

if TYPE_CHECKING:
    import pandas as pd

ENTRY_POINTS = "xairt.benchmarks"
"""Group of entry points under which a package registers its benchmarks, as ``name = module:BENCHMARK``."""

_CASE_NAME = r"[A-Za-z0-9][A-Za-z0-9._=-]*"

PRESETS = ("quick", "standard", "paper")


class CaseSettings(Mapping[str, Any]):
    """The settings of one case as attributes, as far as a stage may read them."""

    def __init__(self, values: Mapping[str, Any], later: Mapping[str, str], stage: str) -> None:
        self._values, self._later, self._stage = dict(values), dict(later), stage

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        if name in self._later:
            raise AttributeError(
                f"stage '{self._stage}' reads the setting '{name}' of the later stage '{self._later[name]}': "
                f"declare it with setting('{self._stage}', ...)"
            )
        raise AttributeError(f"no setting '{name}'{suggest(name, self._values)}")

    def __iter__(self):
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True, eq=False)
class Case:
    """One case of a run, as a stage function receives it.

    Attributes
    ----------
    name : str
        Unique in the run; it names the case's folder.
    config : CaseSettings
        ``config.n_samples`` and so on: the settings of the run with this case's own in their place.
    folder : pathlib.Path
        What earlier stages wrote; read only.
    output : pathlib.Path
        Where the stage writes its files; by default `folder`. The runner moves them into `folder` once the
        stage has succeeded.
    progress : bool
        Whether long work should show a progress bar.
    records : mapping
        Seconds that each finished step took, by stage or by ``explain/<label>``.
    """

    name: str
    config: CaseSettings
    folder: Path
    output: Path | None = None
    progress: bool = False
    records: Mapping[str, float] = field(default_factory=dict)

    def read(self, name: str) -> Path:
        """Return the path of a file that an earlier stage wrote.

        Raises
        ------
        DataError
            If there is none.
        """
        path = self.folder / name
        if not path.exists():
            raise DataError(
                f"case '{self.name}': no {name} in {self.folder}; run the stage that writes it first"
            )
        return path

    def write(self, name: str) -> Path:
        """Return the path for a file that this stage writes; its folder exists."""
        path = (self.output or self.folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@dataclass(frozen=True)
class Explanation:
    """One attribution of a case: which samples of which file, by which method with which model.

    Attributes
    ----------
    method : str
        Method with its parameters, as of `xairt.explainer`.
    samples : str
        File of the case that holds the samples, relative to its folder.
    variable : str
        Variable of that file, samples first.
    first, last : int
        Range of samples, last excluded; None is the end.
    model : str
        Model file or folder relative to the case's folder, or a name of the registry.
    label : str
        Name in files and tables; by default the method. Unique in a case.
    engine, convention, target, baseline, dtype, seed
        As of `xairt.explainer`; a baseline is None, a number or a list of numbers.
    groups : str or None
        File of the case with an integer label for every feature, for methods that treat features of one
        label as one, see `xairt.attribution.groups`. It counts as an input, as samples and model do.
    baselines : str or None
        File of the case with a set of baselines, one array with samples first, in place of `baseline`; the
        method explains the mean over the set. It counts as an input, too.

    Raises
    ------
    DataError
        If there are both `baseline` and `baselines`.
    """

    method: str
    samples: str = "data.nc"
    variable: str = "x"
    first: int = 0
    last: int | None = None
    model: str = "model.h5"
    label: str = ""
    engine: str | None = None
    convention: str | None = None
    target: int | None = None
    baseline: float | tuple[float, ...] | None = None
    dtype: str = "float32"
    seed: int = 0
    groups: str | None = None
    baselines: str | None = None

    def __post_init__(self) -> None:
        if self.baseline is not None and self.baselines is not None:
            raise DataError(f"explanation '{self.name}': has baseline and baselines; give one of them")
        for name in ("samples", "model", "groups", "baselines"):  # paths do as well as texts
            if getattr(self, name) is not None:
                object.__setattr__(self, name, os.fspath(getattr(self, name)))

    @property
    def name(self) -> str:
        """The label, or else the method."""
        return self.label or self.method

    @property
    def file(self) -> str:
        """File of the attribution, relative to the folder of the case."""
        return f"attributions/{file_name(self.name)}.nc"


def file_name(label: str) -> str:
    """Return a file name for a label: its letters, digits and ``.=-``, and a hash where others were left out.

    Examples
    --------
    >>> file_name("lrp.z"), file_name("lrp.epsilon(epsilon=0.1)")
    ('lrp.z', 'lrp.epsilon_epsilon=0.1_-d045')
    """
    safe = re.sub(r"[^A-Za-z0-9.=-]+", "_", label)
    if safe == label:
        return safe
    return f"{safe[:80]}-{sha256(label.encode()).hexdigest()[:4]}"


StageFunction = Callable[[Case], Any]


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A benchmark: settings, cases, and what each stage of a case does.

    Attributes
    ----------
    name : str
        As on the command line.
    title : str
        One line.
    config : type
        The settings, a `RunConfig`.
    cases : callable
        From the settings to a dict: name of each case -> settings that it has in place of the run's.
    generate, train : callable or None
        Stages of a case: write files into ``case.output``.
    explain : callable or None
        From a case to its list of `Explanation`; the runner computes them.
    score : callable or None
        From a case to a table with the columns ``method, label, metric, statistic, value, n`` (and, where
        known, ``engine, convention, seconds``).
    figures : callable or None
        From a `xairt.runs.Run` and a folder: draws PNG files over all cases into it.
    presets : dict
        Settings of "quick", "standard" and "paper" that differ from the defaults.
    version : int
        Counted up when a stage computes something else than before: earlier results are then redone.
    citation : sequence of str
        References to cite with results.
    controls : sequence of str
        Labels that are controls; reports always show them.
    gates : mapping
        Smallest value that a network must reach in a metric, {"r2": 0.9}; or the name of the setting that
        holds it. Scores of label "network" are judged by it, see `xairt.runs.scores.missed_gates`.
    """

    name: str
    title: str
    config: type[RunConfig]
    cases: Callable[[Any], Mapping[str, Mapping[str, Any]]]
    generate: StageFunction | None = None
    train: StageFunction | None = None
    explain: Callable[[Case], Sequence[Explanation]] | None = None
    score: Callable[[Case], pd.DataFrame] | None = None
    figures: Callable[[Any, Path], None] | None = None
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    version: int = 1
    citation: Sequence[str] = ()
    controls: Sequence[str] = ("random", "edge", "input")
    gates: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that this benchmark has, in their order."""
        return tuple(stage for stage in STAGES if getattr(self, stage) is not None)

    def configured(self, given: Mapping[str, Any], preset: str | None = None) -> RunConfig:
        """Return checked settings: defaults, then the preset's, then those given.

        Raises
        ------
        DataError
            If there is no such preset.
        MethodError
            If a setting is unknown or out of bounds.
        """
        if preset is not None and preset not in self.presets:
            known = ", ".join(self.presets) or "none"
            raise DataError(
                f"{self.name} has no preset '{preset}': it has {known}{suggest(preset, self.presets)}"
            )
        return self.config.checked(self.name, {**self.presets.get(preset or "", {}), **given})

    def case_table(self, config: RunConfig) -> dict[str, dict[str, Any]]:
        """Return the settings of every case by its name.

        Raises
        ------
        DataError
            If a case has no name that a folder can have, or settings that the benchmark lacks.
        """
        try:
            table = {name: _plain(own) for name, own in self.cases(config).items()}
        except XairtError:
            raise
        except Exception as error:
            raise DataError(
                f"{self.name}: cases(settings) gives no settings by case ({type(error).__name__}: "
                f"{reason_of(error)}); mend the benchmark"
            ) from error
        if not table:
            raise DataError(f"{self.name}: these settings make no case; give at least one value to each")
        for name, own in table.items():
            if not isinstance(name, str) or name in STAGES or not re.fullmatch(_CASE_NAME, name):
                raise DataError(
                    f"{self.name}: case '{name}' cannot name a folder; use letters, digits, . = _ -, and no "
                    "stage's name"
                )
            unknown = set(own) - set(self.config.model_fields)
            if unknown:
                raise DataError(f"{self.name}: case '{name}' sets {sorted(unknown)}, which are no settings")
        return table

    def case_settings(self, config: RunConfig, own: Mapping[str, Any], stage: str) -> CaseSettings:
        """Return the settings that a stage of a case may read."""
        visible = self.config.visible(stage)
        values = {name: own.get(name, getattr(config, name)) for name in visible}
        later = {n: self.config.stage_of(n) for n in self.config.model_fields if n not in visible}
        return CaseSettings(values, later, stage)

    def case_gates(self, config: RunConfig) -> dict[str, dict[str, float]]:
        """Return the minimum of every gated metric by case; a gate that its setting leaves None is open.

        Raises
        ------
        DataError
            If a gate names a setting that there is not.
        """
        unknown = {g for g in self.gates.values() if isinstance(g, str)} - set(self.config.model_fields)
        if unknown:
            raise DataError(f"{self.name}: gates name {sorted(unknown)}, which are no settings")
        found = {}
        for name, own in self.case_table(config).items():
            settings = self.case_settings(config, own, STAGES[-1])
            minima = {m: settings[g] if isinstance(g, str) else g for m, g in self.gates.items()}
            found[name] = {metric: float(value) for metric, value in minima.items() if value is not None}
        return found


def benchmarks() -> dict[str, Callable[[], Benchmark]]:
    """Return a loader for every installed benchmark by its name; nothing is imported before it is called."""
    return {point.name: point.load for point in entry_points(group=ENTRY_POINTS)}


def benchmark(name: str) -> Benchmark:
    """Return an installed benchmark.

    Raises
    ------
    DataError
        If there is none of this name, or what is registered cannot be imported or is no benchmark.
    """
    known = benchmarks()
    if name not in known:
        listed = ", ".join(sorted(known)) or "none"
        raise DataError(f"unknown benchmark '{name}': installed are {listed}{suggest(name, known)}")
    try:
        found = known[name]()
    except XairtError:
        raise
    except Exception as error:
        raise DataError(f"benchmark '{name}' cannot be imported ({type(error).__name__}: {error})") from error
    if not isinstance(found, Benchmark):
        raise DataError(f"benchmark '{name}': its entry point names a {type(found).__name__}, no Benchmark")
    if found.name != name:
        raise DataError(
            f"benchmark '{name}' calls itself '{found.name}'; let entry point and Benchmark.name be the same"
        )
    return found


def _plain(own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a case with numbers of numpy as numbers, as they are stored.

    Raises
    ------
    TypeError
        If one is neither a number nor text, nor a list of them.
    """
    return {
        name: json.loads(json.dumps(value, default=lambda number: number.item()))
        for name, value in own.items()
    }
