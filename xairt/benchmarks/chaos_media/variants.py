"""The four variants of a task: random or structural background, fixed or random position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from xairt.errors import DataError, suggest

VariantName = Literal["RBFP", "RBRP", "SBFP", "SBRP"]
"""Type of a setting that names a variant."""

PARTS = ("train", "test")
"""Parts of a data set, which share no foreground."""

_TEST_EVERY = 5


@dataclass(frozen=True)
class Variant:
    """What surrounds a foreground, and where it lies.

    Attributes
    ----------
    name : str
        As published: RB or SB (random or structural background), FP or RP (fixed or random position).
    structural : bool
        Whether the background is a photograph or a recording; noise otherwise.
    random_position : bool
        Whether each sample has its foreground at a place of its own.
    """

    name: str
    structural: bool
    random_position: bool


VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        name: Variant(name, structural=name.startswith("SB"), random_position=name.endswith("RP"))
        for name in ("RBFP", "RBRP", "SBFP", "SBRP")
    }
)
"""The variants by name (Shi et al. 2024, section 3)."""


def variant_of(name: str | Variant) -> Variant:
    """Return a variant.

    Raises
    ------
    DataError
        If there is none of this name.

    Examples
    --------
    >>> variant_of("SBFP")
    Variant(name='SBFP', structural=True, random_position=False)
    """
    if isinstance(name, Variant):
        return name
    if name not in VARIANTS:
        raise DataError(
            f"variant {name!r}: unknown; give one of {', '.join(VARIANTS)}{suggest(name, VARIANTS)}"
        )
    return VARIANTS[name]


def checked_part(part: str) -> int:
    """Return 0 for "train" and 1 for "test", the number that keys the part's random numbers.

    Raises
    ------
    DataError
        If it is neither.
    """
    if part not in PARTS:
        raise DataError(f"part {part!r}: unknown; give 'train' or 'test'{suggest(part, PARTS)}")
    return PARTS.index(part)


def checked_count(n: int, name: str = "n") -> int:
    """Return a number of samples.

    Raises
    ------
    DataError
        If it is no whole number from 1.
    """
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise DataError(f"{name} {n!r}: no number of samples; give a whole number from 1")
    return n


def of_part(files: Sequence[str], part: str) -> tuple[str, ...]:
    """Return the files of a part: every fifth for tests, the last one where there are fewer, the others to train.

    Parameters
    ----------
    files : sequence of str
        In an order that tells nothing.
    part : {"train", "test"}

    Raises
    ------
    DataError
        If the part is unknown.

    Examples
    --------
    >>> of_part("abcdefg", "test"), of_part("ab", "test"), of_part("abcdefg", "train")
    (('e',), ('b',), ('a', 'b', 'c', 'd', 'f', 'g'))
    """
    tests = checked_part(part) == 1
    first = min(_TEST_EVERY, len(files)) - 1
    tested = set(range(first, len(files), _TEST_EVERY))
    return tuple(file for k, file in enumerate(files) if (k in tested) == tests)
