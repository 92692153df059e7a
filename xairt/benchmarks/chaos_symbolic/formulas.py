"""Formulas of few variables, read from text without ever running it as Python."""

from __future__ import annotations

import ast
import csv
import operator
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError, suggest

if TYPE_CHECKING:
    import sympy

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CONSTANTS = ("E", "pi")
FUNCTIONS = ("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "exp", "log", "sqrt", "abs")
"""Functions of one variable that a formula may call; ``log`` is the natural one."""

LONGEST = 300
"""Characters of a formula."""

DEEPEST = 60
"""Levels of a formula: ``sin(a+b)`` has three, a sum of n letters has n."""

MOST_CALLS, DEEPEST_CALLS = 40, 12
"""Functions, powers and divisions that a formula may have in all, and inside of each other."""

LARGEST_EXPONENT = 100
LARGEST_NUMBER = 1e40
"""Magnitudes that constant exponents, and any numbers of the expression, may have."""

_LARGEST_INTEGER = 2**53  # numpy has none beyond int64, and float64 none exactly beyond this

HEADER = ("count", "formula")
"""Columns of a file of formulas."""

_CHARACTERS = re.compile(r"[A-Za-z0-9_ .+\-*/(),]")
_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


@dataclass(frozen=True)
class Formula:
    """A formula of the letters a, b, c ..., one for each column of x.

    It consists of numbers, letters, E and pi, of ``+ - * / **``, and of calls of `FUNCTIONS`; anything else is refused,
    and the text is never run as Python.

    Attributes
    ----------
    text : str
        For example ``0.25*a**3+0.75*b**2``.
    n_features : int
        Number of its letters, from a on, used or not: 1 to 26.

    Raises
    ------
    DataError
        If the text is no such formula, uses a letter beyond these, is too long or nested too deeply, or has
        numbers or constant exponents that are too large, or too many functions, powers and
        divisions.

    Examples
    --------
    >>> formula = Formula("a**2+a*b", 2)
    >>> formula([[2.0, 3.0]]).tolist(), formula.derivative([[2.0, 3.0]]).tolist()
    ([10.0], [[7.0, 2.0]])
    """

    text: str
    n_features: int

    def __post_init__(self) -> None:
        if not isinstance(self.n_features, int) or not 1 <= self.n_features <= len(LETTERS):
            raise DataError(
                f"formula {_shown(self.text)}: {self.n_features!r} variables; give a whole number from 1 to "
                f"{len(LETTERS)}"
            )
        _Reader(self.text, self.letters).check()

    @property
    def letters(self) -> str:
        """The letters of the columns of x, in their order."""
        return LETTERS[: self.n_features]

    @property
    def unused(self) -> str:
        """The letters that the formula does not depend on."""
        names = {str(symbol) for symbol in self.expression.free_symbols}
        return "".join(letter for letter in self.letters if letter not in names)

    @cached_property
    def expression(self) -> sympy.Expr:
        """The formula for sympy, with the functions of `calculus`.

        Raises
        ------
        DataError
            If a constant part is not a real number, or too large.
        """
        return _Reader(self.text, self.letters).expression()

    def __call__(self, x: ArrayLike) -> NDArray[np.float64]:
        """Return the values of the formula.

        Parameters
        ----------
        x : (samples, columns)
            The first `n_features` columns are the letters; further ones are ignored.

        Returns
        -------
        numpy.ndarray
            (samples,) float64.

        Raises
        ------
        DataError
            If x has too few columns, or a value is not finite: a logarithm of a negative number, a division by 0.
        """
        return self._computed(self._function, "value", x)[:, 0]

    def derivative(self, x: ArrayLike) -> NDArray[np.float64]:
        """Return the partial derivatives.

        Parameters
        ----------
        x : (samples, columns)
            As of a call.

        Returns
        -------
        numpy.ndarray
            (samples, n_features) float64; 0 for a letter that the formula does not use.

        Raises
        ------
        DataError
            If x has too few columns, or a derivative is not finite.
        """
        return self._computed(self._gradient, "derivative", x)

    @cached_property
    def _function(self) -> Callable[..., Any]:
        return self._compiled([self.expression])

    @cached_property
    def _gradient(self) -> Callable[..., Any]:
        return self._compiled([self.expression.diff(symbol) for symbol in _symbols(self.letters)])

    def _compiled(self, expressions: list[sympy.Expr]) -> Callable[..., Any]:
        import sympy

        integers = set().union(*(expression.atoms(sympy.Integer) for expression in expressions))
        floats = {n: sympy.Float(n) for n in integers if abs(n) > _LARGEST_INTEGER}
        expressions = [expression.xreplace(floats) for expression in expressions]
        return sympy.lambdify(list(_symbols(self.letters)), expressions, modules="numpy", cse=True)

    def _computed(self, function: Callable[..., Any], what: str, x: ArrayLike) -> NDArray[np.float64]:
        values = np.asarray(x, np.float64)
        if values.ndim != 2 or values.shape[1] < self.n_features:
            raise DataError(
                f"formula {_shown(self.text)}: x of shape {values.shape}; give (samples, {self.n_features} or more)"
            )
        columns = values[:, : self.n_features]
        with np.errstate(all="ignore"):
            found = function(*columns.T)
        found = np.stack([np.broadcast_to(column, len(values)) for column in found], axis=1).astype(
            np.float64
        )
        wrong = ~np.isfinite(found).all(axis=1)
        if wrong.any():
            where = ", ".join(
                f"{letter}={value:g}" for letter, value in zip(self.letters, columns[wrong][0], strict=True)
            )
            raise DataError(
                f"formula {_shown(self.text)}: no finite {what} at {where}; change it so that -1..1 is in its domain"
            )
        return found


class _Reader:
    """One text on its way to an expression: first its form is checked, then sympy builds it node by node."""

    def __init__(self, text: str, letters: str) -> None:
        self.text, self.letters = text, letters

    def check(self) -> ast.expr:
        """Return the tree of the text, all of whose nodes are allowed."""
        if not isinstance(self.text, str) or not self.text.strip():
            raise DataError("formula: is no text, or empty; write one such as 0.5*a+b**2")
        if len(self.text) > LONGEST:
            raise self.error(f"has {len(self.text)} characters; write at most {LONGEST}")
        strange = next((c for c in self.text if not _CHARACTERS.match(c)), None)
        if strange is not None:
            raise self.error(f"has the character {strange!r}; use letters, numbers, + - * / ** and brackets")
        try:
            tree = ast.parse(self.text.strip(), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            raise self.error("is no arithmetic expression; check brackets and operators") from None
        self._check_node(tree, 1, 0)
        if sum(map(_is_call, ast.walk(tree))) > MOST_CALLS:
            raise self.error(
                f"has more than {MOST_CALLS} functions, powers and divisions; write it with fewer"
            )
        return tree

    def error(self, reason: str) -> DataError:
        return DataError(f"formula {_shown(self.text)}: {reason}")

    def _check_node(self, node: ast.AST, depth: int, calls: int) -> None:
        calls += _is_call(node)
        if depth > DEEPEST:
            raise self.error(f"is nested deeper than {DEEPEST} levels; write it flatter")
        if calls > DEEPEST_CALLS:
            raise self.error(
                f"has more than {DEEPEST_CALLS} functions, powers and divisions inside of each other; write it flatter"
            )
        for part in self._parts(node):
            self._check_node(part, depth + 1, calls)

    def _parts(self, node: ast.AST) -> list[ast.expr]:
        """Return what a node is made of, if it is allowed."""
        match node:
            case ast.Constant():
                self._check_number(node.value)
                return []
            case ast.Name():
                self._check_name(node.id)
                return []
            case ast.UnaryOp(op=ast.UAdd() | ast.USub()):
                return [node.operand]
            case ast.BinOp() if type(node.op) in (*_OPERATORS, ast.Div, ast.Pow):
                return [node.left, node.right]
            case ast.Call(func=ast.Name(id=name)):
                self._check_call(name, node)
                return node.args
        raise self.error(
            f"has a part that is no arithmetic ({type(node).__name__}); use numbers, letters, + - * / ** and functions"
        )

    def _check_number(self, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(f"has {value!r}, which is no real number; write 2 or 0.5")
        if not abs(value) <= LARGEST_NUMBER:
            raise self.error(f"has a number beyond {LARGEST_NUMBER:g}; use smaller ones")

    def _check_name(self, name: str) -> None:
        if name in LETTERS and name not in self.letters:
            raise self.error(
                f"uses '{name}', but has {len(self.letters)} variables, {self.letters[0]} to {self.letters[-1]}; "
                "raise its count"
            )
        if name not in self.letters and name not in CONSTANTS:
            known = [*self.letters, *CONSTANTS]
            raise self.error(
                f"has the unknown name '{name}'; known are {', '.join(known)}, and the functions "
                f"{', '.join(FUNCTIONS)}{suggest(name, [*CONSTANTS, *FUNCTIONS])}"
            )

    def _check_call(self, name: str, node: ast.Call) -> None:
        if name not in FUNCTIONS:
            raise self.error(
                f"calls the unknown '{name}'; functions are {', '.join(FUNCTIONS)}{suggest(name, FUNCTIONS)}"
            )
        if node.keywords or len(node.args) != 1 or isinstance(node.args[0], ast.Starred):
            raise self.error(f"calls {name} with other than one plain argument; write {name}(a)")

    def expression(self) -> sympy.Expr:
        return self._built(self.check())

    def _built(self, node: ast.expr) -> sympy.Expr:
        """Build an expression, in which every constant part is one number."""
        import sympy

        parts = [self._built(part) for part in self._parts(node)]
        match node:
            case ast.Constant():
                found = sympy.Integer(node.value) if isinstance(node.value, int) else sympy.Float(node.value)
            case ast.Name():
                found = getattr(sympy, node.id) if node.id in CONSTANTS else _symbols(node.id)[0]
            case ast.Call(func=ast.Name(id=name)):
                found = self._called(name, *parts)
            case ast.BinOp(op=ast.Div()):
                found = parts[0] * self._called("power", parts[1], sympy.Integer(-1))
            case ast.BinOp(op=ast.Pow()):
                self._check_exponent(parts[1])
                found = self._called("power", *parts)
            case ast.BinOp() | ast.UnaryOp():
                found = _OPERATORS[type(node.op)](*parts)
        self._check_size(found)
        return sympy.Float(float(found)) if found.is_number and not found.is_Atom else found

    def _called(self, name: str, *parts: sympy.Expr) -> sympy.Expr:
        from xairt.benchmarks.chaos_symbolic import calculus

        if not all(part.is_number for part in parts):
            return calculus.power(*parts) if name == "power" else calculus.FUNCTIONS[name](*parts)
        try:
            return calculus.value(name, *parts)
        except OverflowError:
            raise self._too_large() from None
        except (ValueError, ZeroDivisionError):
            raise self.error(
                "has a part that is no real number, such as 1/0 or sqrt(-1); change it"
            ) from None

    def _check_exponent(self, exponent: sympy.Expr) -> None:
        if exponent.is_number and abs(float(exponent)) > LARGEST_EXPONENT:
            raise self.error(f"has a constant exponent beyond {LARGEST_EXPONENT}; use a smaller one")

    def _check_size(self, found: sympy.Expr) -> None:
        import sympy

        sizes = [max(abs(n.p), n.q) for n in found.atoms(sympy.Rational)]
        sizes += [abs(n) for n in found.atoms(sympy.Float)]
        if any(size > LARGEST_NUMBER for size in sizes):
            raise self._too_large()

    def _too_large(self) -> DataError:
        return self.error(f"has a number beyond {LARGEST_NUMBER:g}; use smaller ones")


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) or isinstance(getattr(node, "op", None), ast.Div | ast.Pow)


def _symbols(letters: str) -> tuple[sympy.Symbol, ...]:
    import sympy

    return tuple(sympy.Symbol(letter) for letter in letters)


def _shown(text: object) -> str:
    line = " ".join(str(text).encode("ascii", "backslashreplace").decode().split())
    return f"'{line if len(line) <= 60 else line[:57] + '...'}'"


FORMULAS = tuple(
    Formula(text, n_features)
    for n_features, text in (
        (1, "a"),
        (1, "a**2"),
        (1, "2/(a**2+1)-1"),
        (1, "sin(a)"),
        (1, "E**a-1.5"),
        (1, "2*log(a**2+1)-1"),
        (2, "0.25*a**3+0.75*b**2"),
        (3, "0.5*a**3+0.75*b**2+a*c"),
        (4, "0.5*E**a*sin(b)-0.25*cos(d)**5/(c**2+1)"),
        (5, "0.5*(a-b)**2+0.2*(c+d*e)**3-0.5"),
        (6, "0.5*cos(a)*tan(b)-log((c-d)**2+1)/((e+f+1)**2+1)"),
        (7, "0.5*(b-c)**2/(a**2+1)+tan(d)*log(e**2+1)+0.5*cos(f)*sin(g)"),
        (
            8,
            "a+(1/2)*b**2+(1/3)*c**3+(1/4)*d**4+(1/5)*e**5+(1/6)*f**6+(1/7)*f**7+(1/8)*g**8",
        ),
        (9, "0.5*(a-1)/(b**2+1)-0.5*c**3/(d**2+1)+0.5*e**5/(f**2+1)-0.5*g**7/(h**2+1)+0.5*tan(i)+0.5"),
        (
            10,
            "0.5*sin(a)-0.5*b**3-log(c**2+1)+0.5*((d+e)**2+1)**(1/2)-0.5*cos(f)*g+h*i**2/((1-j)**2+1)-0.5",
        ),
    )
)
"""The published formulas, numbered from 0 as in the publication. Number 12 has a letter h that it does not use.

Shi et al. (2024), arXiv:2406.12150, and its program.
"""


def read_formulas(path: str | os.PathLike[str]) -> tuple[Formula, ...]:
    """Read formulas from a CSV file with the columns ``count,formula``, one in each line.

    Parameters
    ----------
    path : path
        UTF-8; the count is the number of variables, a formula with a comma stands in quotes.

    Returns
    -------
    tuple of Formula

    Raises
    ------
    DataError
        If the file is missing, no text, has another header or no formula, or a line is no count and formula; the
        message names the line's number.
    """
    source = Path(path)
    try:
        with source.open(encoding="utf-8-sig", newline="") as stream:
            rows = [row for row in csv.reader(stream, skipinitialspace=True) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "no text of comma-separated values"
        raise DataError(f"{source}: cannot be read ({reason}); check the path") from None
    header = tuple(name.strip() for name in rows[0]) if rows else ()
    if header != HEADER:
        raise DataError(
            f"{source}: begins with {_shown(','.join(header))}; let its first line be {','.join(HEADER)}"
        )
    if len(rows) == 1:
        raise DataError(f"{source}: holds no formula; write lines such as 2,a+b**2")
    return tuple(_of_row(source, number, row) for number, row in enumerate(rows[1:], start=1))


def _of_row(source: Path, number: int, row: list[str]) -> Formula:
    if len(row) != len(HEADER):
        raise DataError(f"{source}: formula {number} has {len(row)} columns; write count,formula")
    try:
        return formula_of(",".join(row))
    except DataError as error:
        raise DataError(f"{source}: formula {number}: {error}") from None


def formula_of(entry: int | str) -> Formula:
    """Return a published formula by its number, or one's own by ``count,formula``.

    Parameters
    ----------
    entry : int or str
        From 0 to 14, or text such as "2,a+b**2": the number of variables, and the formula.

    Raises
    ------
    DataError
        If there is no such number, or the text is no count and formula.

    Examples
    --------
    >>> formula_of(6).text, formula_of("3,a*c").unused
    ('0.25*a**3+0.75*b**2', 'b')
    """
    if isinstance(entry, int):
        if not 0 <= entry < len(FORMULAS):
            raise DataError(f"formula {entry}: is not published; give a number from 0 to {len(FORMULAS) - 1}")
        return FORMULAS[entry]
    count, comma, text = entry.partition(",")
    if not comma or not re.fullmatch(r"[0-9]{1,3}", count.strip()):
        raise DataError(
            f"formula {_shown(entry)}: has no count before it; write the number of variables, a comma and the formula"
        )
    formula = Formula(text.strip(), int(count))
    formula.expression  # noqa: B018 (constants that are too large, or not real, show here)
    return formula
