"""Rules that the user gives layer by layer, in Python or in a YAML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from xairt.attribution import calls
from xairt.attribution.lrp import rules
from xairt.attribution.lrp.parameters import (
    AlphaBetaRule,
    BiasParameters,
    Bounds,
    EpsilonRule,
    GammaRule,
    ZRule,
)
from xairt.attribution.parameters import Parameters, one_line
from xairt.errors import MethodError, suggest

RULES: dict[str, type[Parameters]] = {
    "z": ZRule,
    "epsilon": EpsilonRule,
    "gamma": GammaRule,
    "alpha_beta": AlphaBetaRule,
    "z_plus_fast": Parameters,
    "w_square": Parameters,
    "flat": Parameters,
    "bounded": Bounds,
}
"""Every rule by its name: the parameters that its maker takes."""

RULE_ALIASES: dict[str, tuple[str, dict[str, Any]]] = {
    "alpha_1_beta_0": ("alpha_beta", {"alpha": 1.0, "beta": 0.0}),
    "alpha_1_beta_0_IB": ("alpha_beta", {"alpha": 1.0, "beta": 0.0, "bias": "ignore"}),
    "alpha_2_beta_1": ("alpha_beta", {"alpha": 2.0, "beta": 1.0}),
    "alpha_2_beta_1_IB": ("alpha_beta", {"alpha": 2.0, "beta": 1.0, "bias": "ignore"}),
    "z_plus": ("alpha_beta", {"alpha": 1.0, "beta": 0.0, "bias": "ignore"}),
}
"""Other names of rules: the rule and the parameters that the alias fixes."""

EXAMPLE = '{"layer": "dense", "rule": "epsilon(epsilon=0.1)"}'


def read_rule(text: str, bias: rules.Bias = "canonical") -> rules.Rule:
    """Return the rule that a text such as ``"alpha_beta(alpha=2, beta=1)"`` names.

    Parameters
    ----------
    text : str
        Name or alias of a rule, with parameters in brackets; ``str(rule)`` writes it.
    bias : str
        Bias of a rule that has one and does not state it.

    Raises
    ------
    MethodError
        If the rule or a parameter is unknown, or a value is out of bounds.

    Examples
    --------
    >>> str(read_rule("alpha_1_beta_0", bias="ignore"))
    'alpha_beta(alpha=1, beta=0, bias=ignore)'
    >>> str(read_rule("epsilon(epsilon=0.1)"))
    'epsilon(epsilon=0.1, bias=canonical)'
    """
    word, given = calls.parse(text)
    name, fixed = RULE_ALIASES.get(word, (word, {}))
    if name not in RULES:
        known = ", ".join([*RULES, *RULE_ALIASES])
        raise MethodError(f"unknown rule '{word}': rules are {known}{suggest(word, [*RULES, *RULE_ALIASES])}")
    clash = sorted(set(given) & set(fixed))
    if clash:
        raise MethodError(f"{text}: parameter '{clash[0]}' is fixed by the name '{word}': use {name}")
    open_bias = {"bias": bias} if "bias" in RULES[name].model_fields else {}
    checked = RULES[name].checked(word, open_bias | fixed | given)
    return rules.MAKERS[name](**dict(checked))


def _read_index(value: Any) -> Any:
    """Return one position, several, or a range in its canonical form."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map(_integer, value))
    if isinstance(value, str) and ":" in value:
        return ":".join(str(_integer(part)) if part.strip() else "" for part in value.split(":"))
    return None if value is None else _integer(value)


def _integer(value: Any) -> int:
    try:
        if isinstance(value, bool | float):
            raise ValueError
        return int(value)
    except (TypeError, ValueError):
        raise ValueError("write a position such as 0 or -1, a list [0, 1], or a range '0:3'") from None


class LayerRule(Parameters):
    """One entry of a composite: a rule, and the layers it is for (those that fulfil all its conditions)."""

    layer: rules.Layer | None = Field(None, description="kind or place of the layer")
    name: str | None = Field(None, description="pattern of the layer's name, with * and ?")
    index: Annotated[int | tuple[int, ...] | str | None, BeforeValidator(_read_index)] = Field(
        None,
        description="position among the dense and convolution layers from the input: 0, -1, [0, 1], '0:3'",
    )
    rule: str = Field(description="the rule, such as epsilon(epsilon=0.1)")

    @model_validator(mode="after")
    def _has_a_condition(self) -> LayerRule:
        if self.layer is None and self.name is None and self.index is None:
            raise ValueError("name the layers by layer, name or index; default= serves all others")
        if isinstance(self.index, str) and (self.index.count(":") > 2 or self.index.endswith(":0")):
            raise ValueError(f"index '{self.index}' is no range: write 'start:stop', e.g. '0:3'")
        return self

    @model_serializer(mode="wrap")
    def _what_is_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}

    def choice(self, number: int) -> rules.Choice:
        """Return the entry as data; `number` is its place in the list, counted from 1."""
        index = self.index
        if isinstance(index, str):
            index = slice(*(int(part) if part else None for part in index.split(":")))
        conditions = {"layer": self.layer, "name": self.name, "index": self.index}
        told = ", ".join(f"{key}={value}" for key, value in conditions.items() if value is not None)
        return rules.Choice(
            read_rule(self.rule),
            self.layer,
            self.name,
            index,
            origin=f"lrp.composite: entry {number} ({told})",
        )


class CompositeParameters(BiasParameters):
    """Parameters of the composite: rules by layer, and the rule of all other layers."""

    unlabelled: ClassVar[frozenset[str]] = frozenset({"rules", "default"})

    rules: tuple[LayerRule, ...] = Field(
        (),
        description=(
            "entries, each with a rule and layer, name or index; the first that a layer fulfils gives its rule; "
            "or a YAML file of such a list"
        ),
    )
    default: str = Field("z", validate_default=True, description="rule of the layers that no entry is for")

    @field_validator("rules", mode="before")
    @classmethod
    def _read_entries(cls, value: Any, info: ValidationInfo) -> tuple[LayerRule, ...]:
        return read_entries(value, info.data.get("bias", "canonical"))

    @field_validator("default")
    @classmethod
    def _read_default(cls, value: str, info: ValidationInfo) -> str:
        rule = read_rule(value, info.data.get("bias", "canonical"))
        if rule.name == "bounded":
            raise ValueError("the bounded rule is for layers that read the input: give it with layer='first'")
        return str(rule)

    def composite(self) -> rules.Composite:
        """Return the rules as data."""
        choices = tuple(entry.choice(number) for number, entry in enumerate(self.rules, start=1))
        return rules.Composite(read_rule(self.default), choices)


def read_entries(value: Any, bias: rules.Bias) -> tuple[LayerRule, ...]:
    """Return the checked entries of a composite, each rule with all its parameters.

    Parameters
    ----------
    value : sequence of mapping, str or Path
        The entries, or the path of a YAML file that holds a list of them.
    bias : str
        Bias of the rules that have one and do not state it. Rules for batch normalisation keep the
        canonical one.

    Raises
    ------
    MethodError
        If the file cannot be read, or an entry or its rule is wrong; the message names file and entry.
    """
    from_file = isinstance(value, str | Path)
    entries = _read_yaml(Path(value)) if from_file else value
    place = f"{value}, " if from_file else ""
    if not isinstance(entries, list | tuple):
        raise MethodError(f"{place}{one_line(entries)} is no list of entries: write [{EXAMPLE}, ...]")
    return tuple(_entry(entry, f"{place}entry {n}", bias) for n, entry in enumerate(entries, start=1))


def _entry(entry: Any, place: str, bias: rules.Bias) -> LayerRule:
    if not isinstance(entry, Mapping) or not all(isinstance(key, str) for key in entry):
        raise MethodError(f"{place}: {one_line(entry)} is no entry: write {EXAMPLE}")
    checked = LayerRule.checked(place, dict(entry))
    try:
        rule = read_rule(checked.rule, "canonical" if checked.layer == "batch_normalization" else bias)
    except MethodError as error:
        raise MethodError(f"{place}: {error}") from None
    return checked.model_copy(update={"rule": str(rule)})


def _read_yaml(path: Path) -> Any:
    """Return what a YAML file holds, all values as text: YAML takes 1:30 for 90 and off for False."""
    import yaml

    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise MethodError(f"{path}: cannot be read ({reason}): give a YAML file of rules") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "unreadable"
        raise MethodError(
            f"{path}: is no YAML{where} ({problem}): write a list of entries {EXAMPLE}"
        ) from None
