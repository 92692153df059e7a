"""Settings: which objects an image holds, what its label follows from, and which objects should be shown.

Source: Kim, Plumb and Talwalkar (2022), arXiv:2105.06506, with the numbers of images of the published program.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError, suggest

OBJECTS = ("patch", "character", "switch")
"""Names of the objects, in the order of features, boxes and masks."""

CHARACTERS = ("A", "B")
"""What the feature `character` shows as 1 and 2."""

N_VALUES = (2, 3, 3)
"""Number of values of each feature: they count from 0, which is absent."""

PARTS = ("train", "test")
"""Names of the two independent sets of images."""


class Features(NamedTuple):
    """What an image holds.

    Attributes
    ----------
    patch : int
        1 where there is a patch, else 0.
    character : int
        0 none, 1 A, 2 B.
    switch : int
        0 none, 1 at its fixed place, 2 at a random place.
    """

    patch: int = 0
    character: int = 0
    switch: int = 0

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of the objects that are there, in the order of `OBJECTS`."""
        return tuple(name for name, value in zip(OBJECTS, self, strict=True) if value)

    @property
    def name(self) -> str:
        """Name of a bucket of such images, made of the objects.

        Examples
        --------
        >>> Features(patch=1, character=2).name, Features(switch=1).name, Features().name
        ('patch-B', 'fixed_switch', 'empty')
        """
        words = (("patch",), CHARACTERS, ("fixed_switch", "switch"))
        shown = [word[value - 1] for word, value in zip(words, self, strict=True) if value]
        return "-".join(shown) or "empty"


LabelRule = Callable[[Features], int]
ObjectRule = Callable[[Features], Collection[str]]


@dataclass(frozen=True)
class Bucket:
    """Images of a setting that hold the same objects.

    Attributes
    ----------
    features : Features
    label : int
        Class, from 0.
    primary, secondary : tuple of str
        Objects that are there and should be shown, and that are there and should not.
    n_train, n_test : int
        Published numbers of images.
    """

    features: Features
    label: int
    primary: tuple[str, ...]
    secondary: tuple[str, ...]
    n_train: int
    n_test: int

    @property
    def name(self) -> str:
        """Name made of the objects, see `Features.name`."""
        return self.features.name


def _none_excluded(features: Features) -> bool:
    return False


@dataclass(frozen=True, eq=False)
class Setting:
    """A grid of features with the rules of label, primary and secondary objects.

    Rules are functions of `Features`, called once for each bucket; objects that they name count in images
    that hold them.

    Parameters
    ----------
    name : str
    values : mapping of feature to values
        The values that each feature takes; a feature that is left out is absent. The last one changes first
        from bucket to bucket.
    label : function of Features
        Class, from 0.
    primary, secondary : function of Features
        Names of the objects that a saliency map should show, and of those that it should not.
    excluded : function of Features
        True for combinations that the setting has no images of.
    n_train, n_test : int
        Images in each bucket.
    n_train_positive : int, optional
        Training images in each bucket of a label other than 0, where not `n_train`.
    published_id : str, optional
        What the published program calls the setting.

    Raises
    ------
    DataError
        If a feature, value, object or label is not valid, an object is both primary and secondary, or no
        bucket is left.

    Examples
    --------
    A setting of one's own: the label is whether there are a patch and a character.

    >>> both = Setting(
    ...     name="patch-with-character",
    ...     values={"patch": (0, 1), "character": (0, 1, 2)},
    ...     label=lambda f: int(f.patch > 0 and f.character > 0),
    ...     primary=lambda f: ("patch", "character") if f.patch and f.character else (),
    ...     secondary=lambda f: (),
    ... )
    >>> [(bucket.name, bucket.label) for bucket in both.buckets]
    [('empty', 0), ('A', 0), ('B', 0), ('patch', 0), ('patch-A', 1), ('patch-B', 1)]

    Every function takes it as it is; once it is in the table it is known by its name, too.

    >>> SETTINGS[both.name] = both
    >>> setting_of("patch-with-character") is SETTINGS.pop(both.name)
    True
    """

    name: str
    values: Mapping[str, Collection[int]]
    label: LabelRule
    primary: ObjectRule
    secondary: ObjectRule
    excluded: Callable[[Features], bool] = _none_excluded
    n_train: int = 2000
    n_test: int = 500
    n_train_positive: int | None = None
    published_id: str | None = None

    def __post_init__(self) -> None:
        for feature, values in self.values.items():
            if feature not in OBJECTS:
                raise DataError(
                    f"setting '{self.name}': feature {feature!r} is unknown; "
                    f"give {', '.join(OBJECTS)}{suggest(feature, OBJECTS)}"
                )
            known = range(N_VALUES[OBJECTS.index(feature)])
            if not values or any(value not in known for value in values):
                raise DataError(
                    f"setting '{self.name}': {feature} cannot be {tuple(values)}; give some of {tuple(known)}"
                )
        if not self.buckets:
            raise DataError(f"setting '{self.name}': every combination is excluded; leave one")

    @cached_property
    def buckets(self) -> tuple[Bucket, ...]:
        """Buckets in the order of `values`."""
        grid = [
            Features(**dict(zip(self.values, row, strict=True))) for row in product(*self.values.values())
        ]
        return tuple(self._bucket(features) for features in grid if not self.excluded(features))

    def bucket(self, name: str) -> Bucket:
        """Return the bucket of a name.

        Raises
        ------
        DataError
            If the setting has no such bucket.
        """
        known = {bucket.name: bucket for bucket in self.buckets}
        if name not in known:
            raise DataError(
                f"setting '{self.name}': no bucket {name!r}; "
                f"give one of {', '.join(known)}{suggest(name, known)}"
            )
        return known[name]

    def _bucket(self, features: Features) -> Bucket:
        label = self.label(features)
        if not isinstance(label, int | np.integer) or label < 0:
            raise DataError(
                f"setting '{self.name}': label of {features.name} is {label!r}; give whole numbers from 0"
            )
        named = [tuple(rule(features)) for rule in (self.primary, self.secondary)]
        for name in (*named[0], *named[1]):
            if name not in OBJECTS:
                raise DataError(
                    f"setting '{self.name}': {name!r} is no object; "
                    f"give {', '.join(OBJECTS)}{suggest(name, OBJECTS)}"
                )
        both = set(named[0]) & set(named[1])
        if both:
            raise DataError(
                f"setting '{self.name}': {min(both)} of {features.name} is primary and secondary; "
                "name it once"
            )
        primary, secondary = (tuple(name for name in features.objects if name in names) for names in named)
        many = label and self.n_train_positive is not None
        n_train = self.n_train_positive if many else self.n_train
        return Bucket(features, int(label), primary, secondary, n_train, self.n_test)


def _conditional(name: str, published_id: str, gate: str, other: str, *, character_if: bool) -> Setting:
    """Return a setting of conditional reliance.

    Where there is a `gate` (or there is none, for `character_if` False) the character decides; else the label
    is whether the `other` object is absent. The gate itself decides, too, so it is primary where it is there.
    """

    def reads_character(features: Features) -> bool:
        return bool(getattr(features, gate)) == character_if

    def label(features: Features) -> int:
        if reads_character(features):
            return features.character - 1
        return int(not getattr(features, other))

    return Setting(
        name=name,
        values={"switch": (0, 2), "patch": (0, 1), "character": (0, 1, 2)},
        label=label,
        primary=lambda features: (gate, "character" if reads_character(features) else other),
        secondary=lambda features: (other if reads_character(features) else "character",),
        excluded=lambda features: not features.character and reads_character(features),
        n_train=15_000,
        n_test=400,
        published_id=published_id,
    )


_FULL_GRID = {"patch": (0, 1), "character": (0, 1, 2), "switch": (0, 2)}

SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting(
            name="simple-fr",
            values=_FULL_GRID,
            label=lambda features: features.patch,
            primary=lambda features: ("patch",),
            secondary=lambda features: ("character", "switch"),
            published_id="1.11",
        ),
        Setting(
            name="simple-nr",
            values={"switch": (0, 2), "patch": (0, 1), "character": (1, 2)},
            label=lambda features: features.character - 1,
            primary=lambda features: ("character",),
            secondary=lambda features: ("patch", "switch"),
            n_train=5000,
            published_id="2.11",
        ),
        Setting(
            name="complex-fr",
            values=_FULL_GRID,
            label=lambda features: int(features.patch and features.switch != 0),
            primary=lambda features: ("patch", "switch") if features.patch and features.switch else (),
            secondary=lambda features: ("character",),
            n_train_positive=6000,
            published_id="1.20",
        ),
        _conditional("complex-cr1", "3.71", "switch", "patch", character_if=False),
        _conditional("complex-cr2", "3.72", "patch", "switch", character_if=False),
        _conditional("complex-cr3", "3.73", "switch", "patch", character_if=True),
        _conditional("complex-cr4", "3.74", "patch", "switch", character_if=True),
    )
}
"""Settings by name: the seven of the publication, and those that are added, see `Setting`."""


def setting_of(setting: str | Setting) -> Setting:
    """Return a setting of `SETTINGS` by its name; a `Setting` is returned as it is.

    Raises
    ------
    DataError
        If the name is unknown.

    Examples
    --------
    >>> [bucket.n_train for bucket in setting_of("complex-fr").buckets if bucket.label]
    [6000, 6000, 6000]
    """
    if isinstance(setting, Setting):
        return setting
    if setting not in SETTINGS:
        raise DataError(
            f"setting {setting!r} is unknown; give one of {', '.join(SETTINGS)}{suggest(setting, SETTINGS)}"
        )
    return SETTINGS[setting]


def feature_codes(features: ArrayLike) -> NDArray[np.int64]:
    """Return one number for each row of features (n, 3), from 0 to 17, the same in every setting.

    Raises
    ------
    DataError
        If the shape is another one, or a feature has no such value.

    Examples
    --------
    >>> feature_codes([Features(), Features(switch=2), Features(1, 2, 2)])
    array([ 0,  2, 17])
    """
    rows = np.asarray(features)
    if rows.ndim != 2 or rows.shape[1] != len(OBJECTS) or rows.dtype.kind not in "iu":
        raise DataError(
            f"features: shape {rows.shape} of {rows.dtype} instead of (n, 3) whole numbers; "
            "give patch, character, switch"
        )
    wrong = rows[((rows < 0) | (rows >= N_VALUES)).any(axis=1)]
    if len(wrong):
        raise DataError(
            f"features: {tuple(wrong[0].tolist())} is not valid; "
            "give patch 0 or 1, character and switch 0, 1 or 2"
        )
    return np.ravel_multi_index(tuple(rows.T.astype(np.int64)), N_VALUES)
