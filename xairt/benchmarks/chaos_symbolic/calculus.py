"""The functions and powers of formulas for sympy: it knows their derivatives, and nothing else of them.

sympy's own functions look for simplifications and signs when they are made, which takes them hours for some short
expressions. These stay as they are written.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import sympy


class Call(sympy.Function):
    """A function that stays as it is written: base of those below."""

    is_commutative = True

    def slope(self, index: int) -> sympy.Expr:
        """Return the derivative by the argument of this index."""
        raise NotImplementedError

    def _eval_derivative(self, symbol: sympy.Symbol) -> sympy.Expr:
        return sympy.Add(
            *(
                self.slope(index) * part.diff(symbol)
                for index, part in enumerate(self.args)
                if symbol in part.free_symbols
            )
        )


class power(Call):  # noqa: N801
    """``power(x, y)`` is x to the power of y."""

    nargs = 2

    @classmethod
    def eval(cls, base: sympy.Expr, exponent: sympy.Expr) -> sympy.Expr | None:
        """Take a constant factor out of a whole power, and leave out the exponents 0 and 1."""
        if exponent in (0, 1):
            return base if exponent == 1 else sympy.Integer(1)
        if base == sympy.E:
            return exp(exponent)
        factor, rest = base.as_coeff_Mul()
        if exponent.is_Integer and factor != 1:
            return factor**exponent * cls(rest, exponent)
        return None

    def slope(self, index: int) -> sympy.Expr:
        """Return the derivative by base (index 0) or exponent (1)."""
        base, exponent = self.args
        if index == 0:
            return exponent * power(base, exponent - 1)
        if not base.is_number:
            return self * log(base)
        return self * value("log", base) if base > 0 else sympy.nan

    def _numpycode(self, printer: sympy.printing.printer.Printer) -> str:
        base, exponent = (printer._print(part) for part in self.args)
        return f"(({base})**({exponent}))"


def _call(name: str, slope: Callable[[sympy.Expr], sympy.Expr]) -> type[Call]:
    """Return a function of one variable by its name in sympy, which is how numpy code of it is found."""
    members = {"nargs": 1, "slope": lambda self, _: slope(self.args[0]), "__module__": __name__}
    return type(Call)(name, (Call,), members)


sin = _call("sin", lambda x: cos(x))
cos = _call("cos", lambda x: -sin(x))
tan = _call("tan", lambda x: 1 + power(tan(x), 2))
asin = _call("asin", lambda x: power(1 - power(x, 2), -sympy.S.Half))
acos = _call("acos", lambda x: -power(1 - power(x, 2), -sympy.S.Half))
atan = _call("atan", lambda x: power(1 + power(x, 2), sympy.Integer(-1)))
sinh = _call("sinh", lambda x: cosh(x))
cosh = _call("cosh", lambda x: sinh(x))
tanh = _call("tanh", lambda x: 1 - power(tanh(x), 2))
exp = _call("exp", lambda x: exp(x))
log = _call("log", lambda x: power(x, sympy.Integer(-1)))
sqrt = _call("sqrt", lambda x: power(x, -sympy.S.Half) / 2)
Abs = _call("Abs", lambda x: sign(x))
sign = _call("sign", lambda _: sympy.Integer(0))

FUNCTIONS = {
    **{f.__name__: f for f in (sin, cos, tan, asin, acos, atan, sinh, cosh, tanh, exp, log, sqrt)},
    **{"abs": Abs},
}
"""Functions of one variable by their names in formulas."""


def value(name: str, *numbers: sympy.Expr) -> sympy.Expr:
    """Return a function, or ``power``, of constants as one number.

    Parameters
    ----------
    name : str
        ``power``, or one of `FUNCTIONS`.
    numbers : sympy.Expr
        Its arguments, without letters.

    Returns
    -------
    sympy.Expr
        Exact for whole powers of rational numbers, else a float64 number.

    Raises
    ------
    ValueError, ZeroDivisionError
        If it is no real number.
    OverflowError
        If it is beyond float64.
    """
    if name == "power" and numbers[0].is_Rational and numbers[1].is_Integer:
        if numbers[0] == 0 and numbers[1] < 0:
            raise ZeroDivisionError
        return numbers[0] ** numbers[1]
    function = {"power": math.pow, "abs": math.fabs}.get(name) or getattr(math, name)
    return sympy.Float(function(*(float(number) for number in numbers)))
