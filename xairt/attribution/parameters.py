"""Checked parameters of the attribution methods."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from xairt.errors import MethodError, suggest


class Parameters(BaseModel):
    """Base of all parameter sets: frozen, and closed against unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

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
            where = f"parameter '{name}' = {first['input']!r}" if name else "parameters"
            raise MethodError(f"{method}: {where}: {message}") from None
