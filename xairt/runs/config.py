"""What a run computes: frozen settings, each with the first stage that it changes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import yaml
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from xairt.attribution.parameters import Parameters, one_line
from xairt.data.files import atomic_write
from xairt.errors import DataError, MethodError, reason_of

STAGES = ("generate", "train", "explain", "score", "figures")
"""The stages of a run in their order; a benchmark may leave out any of them."""

_SEAL = "# settings of a run; sha256 of what follows: "

T = TypeVar("T")


def _different(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) < len(values):
        raise ValueError("a value stands there twice; name each once")
    return values


Sweep = Annotated[
    tuple[T, ...],
    Field(min_length=1),
    AfterValidator(_different),
    BeforeValidator(lambda value: value if isinstance(value, list | tuple) else (value,)),
]
"""Type of a setting whose values make one case each: ``Sweep[int]`` takes ``1000`` and ``[1000, 10000]``.

Bounds of the values stand in their type: ``Sweep[pydantic.PositiveInt]``.
"""


def _known_methods(methods: tuple[str, ...]) -> tuple[str, ...]:
    from xairt.attribution.registry import resolve

    for method in methods:
        try:
            resolve(method)
        except MethodError as error:
            raise ValueError(str(error)) from None
    return methods


MethodNames = Annotated[Sweep[str], AfterValidator(_known_methods)]
"""Type of a setting that names methods, with parameters where not the defaults, as of `xairt.explainer`.

One or several; each must be known, and stand there once.
"""


def setting(stage: str, default: Any, *, description: str, **bounds: Any) -> Any:
    """Declare a setting of a benchmark.

    Parameters
    ----------
    stage : str
        The first stage that reads it, one of `STAGES`. A change redoes that stage and what follows; an
        earlier stage cannot read it.
    default : value
    description : str
        One line with the unit.
    **bounds
        Limits as of `pydantic.Field`: ge, gt, le, lt, min_length ...

    Raises
    ------
    ValueError
        If there is no such stage.
    """
    if stage not in STAGES:
        raise ValueError(f"setting of stage '{stage}': stages are {', '.join(STAGES)}")
    return Field(default, description=description, json_schema_extra={"stage": stage}, **bounds)


class RunConfig(Parameters):
    """Base of every benchmark's settings: frozen, closed against unknown names.

    Examples
    --------
    >>> class Toy(RunConfig):
    ...     n_samples: Sweep[int] = setting("generate", 100, description="samples, one case for each number")
    >>> Toy.checked("toy", {"n_samples": [10, 20]}).n_samples
    (10, 20)
    >>> Toy.stage_of("n_samples")
    'generate'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def stage_of(cls, name: str) -> str:
        """Return the first stage that reads a setting; `generate` where it was declared without one."""
        extra = cls.model_fields[name].json_schema_extra
        return extra["stage"] if isinstance(extra, Mapping) and "stage" in extra else STAGES[0]

    @classmethod
    def visible(cls, stage: str) -> tuple[str, ...]:
        """Return the names of the settings that a stage may read."""
        last = STAGES.index(stage)
        return tuple(name for name in cls.model_fields if STAGES.index(cls.stage_of(name)) <= last)

    def plain(self) -> dict[str, Any]:
        """Return the settings as lists, numbers and text, as they are stored."""
        return self.model_dump(mode="json")

    def changed(self, benchmark: str, given: Mapping[str, Any]) -> Self:
        """Return these settings with others in place of some, checked anew."""
        return type(self).checked(benchmark, self.plain() | dict(given))


def parse_settings(assignments: Iterable[str]) -> dict[str, Any]:
    """Read ``key=value`` texts; values are YAML, so that ``[1, 2]`` is a list.

    Raises
    ------
    DataError
        If a text has no '=', or its value is no YAML.

    Examples
    --------
    >>> parse_settings(["n_samples=[10, 20]", "method=gradient", "rate=0.1"])
    {'n_samples': [10, 20], 'method': 'gradient', 'rate': 0.1}
    """
    found: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise DataError(f"setting '{text}': write it as key=value, for example n_samples=1000")
        try:
            found[key.strip()] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError):  # the latter for dates and numbers that are none
            raise DataError(f"setting '{key}': {one_line(value)} is no YAML value; quote text") from None
    return found


def write_settings(config: RunConfig, path: str | os.PathLike[str]) -> None:
    """Write settings as YAML, under a first line with the SHA-256 of the rest."""
    text = yaml.safe_dump(config.plain(), sort_keys=False)
    with atomic_write(Path(path)) as unfinished:
        unfinished.write_text(f"{_SEAL}{_hash(text)}\n{text}", encoding="utf-8")


def read_settings(path: str | os.PathLike[str], sealed: bool = False) -> dict[str, Any]:
    """Read settings from a YAML file.

    Parameters
    ----------
    path : path
    sealed : bool
        Whether it must be as `write_settings` wrote it.

    Raises
    ------
    DataError
        If the file is missing, no YAML, holds anything but settings by name, or was changed.
    """
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        remedy = "name the settings with --preset or --config" if sealed else "check the path"
        reason = getattr(error, "strerror", None) or "no text"
        raise DataError(f"{source}: cannot be read ({reason}); {remedy}") from None
    first, _, rest = text.partition("\n")
    if sealed and first != f"{_SEAL}{_hash(rest)}":
        raise DataError(
            f"{source}: changed or cut off since the run wrote it; name the settings with --preset or --config"
        )
    return _parsed(text, source)


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _parsed(text: str, source: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except ValueError as error:
        raise DataError(f"{source}: no YAML value ({reason_of(error)}); quote text") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        raise DataError(f"{source}: no YAML{line}; write lines 'name: value'") from None
    found = {} if found is None else found
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise DataError(f"{source}: holds no settings by name; write lines 'name: value'")
    return found


def describe(config: RunConfig) -> list[dict[str, str]]:
    """Return name, value, stage, bounds and description of every setting, as text."""
    return [
        {
            "setting": name,
            "value": _shown(getattr(config, name)),
            "stage": config.stage_of(name),
            "bounds": ", ".join(filter(None, map(_bound, declared.metadata))),
            "description": declared.description or "",
        }
        for name, declared in type(config).model_fields.items()
    ]


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value)


def _bound(limit: Any) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    known = [f"{sign} {getattr(limit, name)}" for name, sign in signs.items() if hasattr(limit, name)]
    return " and ".join(known)
