"""Reading of method names written as calls, such as ``lrp.epsilon(epsilon=0.1, bias="ignore")``."""

from __future__ import annotations

import ast
import json
from typing import Any

from xairt.errors import MethodError


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Split a method written as a call into its name and keyword parameters.

    Values are Python literals; a bare word, a nested call or a plain path is kept as text. Nothing is evaluated.

    Raises
    ------
    MethodError
        If the text is neither a dotted name nor a call with keyword parameters, each given once.

    Examples
    --------
    >>> parse("gradient")
    ('gradient', {})
    >>> parse("lrp.alpha_beta(alpha=1, beta=0, input_layer_rule=Bounded(low=-3, high=3))")
    ('lrp.alpha_beta', {'alpha': 1, 'beta': 0, 'input_layer_rule': 'Bounded(low=-3, high=3)'})
    """
    text = text.strip()
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError:
        raise MethodError(
            f"method {text!r} cannot be read: write a name, or name(parameter=value, ...)"
        ) from None
    if not isinstance(tree, ast.Call):
        return _dotted(tree, text), {}
    if tree.args or any(k.arg is None for k in tree.keywords):
        raise MethodError(f"method {text!r} has a value without a name: write name(parameter=value, ...)")
    names = [k.arg for k in tree.keywords]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise MethodError(f"method {text!r} gives parameter '{twice}' twice: give it once")
    return _dotted(tree.func, text), {k.arg: _value(k.value, text) for k in tree.keywords}


def _dotted(node: ast.AST, text: str) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, text)}.{node.attr}"
    raise MethodError(f"method {text!r} cannot be read: write a name, or name(parameter=value, ...)")


def _value(node: ast.AST, text: str) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:  # a word, a nested call, or a path such as conf/my-rules.yaml
        return ast.get_source_segment(text, node)


def form(name: str, parameters: dict[str, Any]) -> str:
    """Write a method as a call; the inverse of `parse`.

    Examples
    --------
    >>> form("lrp.epsilon", {"epsilon": 0.1, "bias": "ignore"})
    'lrp.epsilon(epsilon=0.1, bias="ignore")'
    """
    if not parameters:
        return name
    return f"{name}({', '.join(f'{key}={_literal(value)}' for key, value in parameters.items())})"


def _literal(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
