"""Checked parameters of the attribution methods."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from xairt.errors import DataError, MethodError, suggest


def one_line(value: Any) -> str:
    """Return a short text of a value for an error message, without line breaks.

    Examples
    --------
    >>> one_line("a")
    "'a'"
    >>> len(one_line(list(range(1000)))) < 60
    True
    """
    return " ".join(reprlib.repr(value).split())


def as_array(value: Any, name: str, dtype: str | None = None) -> np.ndarray:
    """Return a value as a numpy array; what a masked array masks becomes NaN.

    Raises
    ------
    DataError
        If it is none: rows of unequal length, or text or complex numbers where real ones are needed.
    """
    try:
        array = np.ma.filled(np.ma.asarray(value, np.float64), np.nan) if np.ma.is_masked(value) else value
        if dtype is not None and np.iscomplexobj(array):
            raise DataError(f"{name} holds complex numbers: give real numbers")
        return np.asarray(array, dtype)
    except (TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        remedy = "give rows of equal length" if isinstance(value, list | tuple) else "give real numbers"
        raise DataError(f"{name} {one_line(value)} is no array of numbers: {remedy}") from None


class Parameters(BaseModel):
    """Base of all parameter sets: frozen, and closed against unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    unlabelled: ClassVar[frozenset[str]] = frozenset()
    """Parameters too long for a label."""

    @classmethod
    def checked(cls, method: str, given: dict[str, Any]) -> Self:
        """Return the parameters, or raise one line that names the method, the parameter and the remedy.

        Raises
        ------
        MethodError
            If a parameter is unknown (with a suggestion) or has a value out of bounds.
        """
        names = tuple(cls.model_fields)
        for name in given:
            if name not in names:
                known = ", ".join(names) or "none"
                raise MethodError(f"{method} has no parameter '{name}': it has {known}{suggest(name, names)}")
        try:
            return cls(**given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = ".".join(str(part) for part in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            where = f"parameter '{name}' = {one_line(first['input'])}" if name else "parameters"
            raise MethodError(f"{method}: {where}: {message}") from None

    def numbers(self) -> Iterator[tuple[str, float]]:
        """Yield name and value of every parameter that is a floating point number, also inside of others."""
        yield from _numbers(self.model_dump(), "")


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, float):
        yield name, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _numbers(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part, name)
