"""Whether an attribution's sum keeps its promise, sample by sample, and why where it does not."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

log = logging.getLogger(__name__)

MEANINGS = ("ok", "warn", "fail", "not_promised")
"""What the flags 0, 1, 2 and 3 of the variable ``status`` mean."""

FLAGS = np.arange(len(MEANINGS), dtype=np.int8)
OK, WARN, FAIL, NOT_PROMISED = FLAGS

OK_SHARE, WARN_SHARE = 1e-3, 0.1
"""Largest gap, relative to the amount that was promised, that is ok, and that is only a warning."""

NEAR_ZERO = 1e-6
"""An amount below this share of the call's largest is judged against that largest."""

LARGEST_AMPLIFICATION = 1e4
"""Sum of |attribution| over the call's largest amount from which float32 keeps fewer than 3 digits of a sum."""

LARGEST_SENSITIVITY = 3e-5
"""Change of an attribution, for a change of x in its last digit, from which float32 is called ill-conditioned.

On the archived SST network this change stays below 1e-5 for every rule whose float32 and float64 results
agree to 1e-5, and is 7e-5 to 4e-3 for lrp.epsilon(bias=False) and lrp.z_plus_fast (on inputs of both signs),
which differ by 1e-4 to 3e-3: the threshold lies between. It shows a loss of digits, and does not exclude one:
of the published bias of lrp.alpha_2_beta_1, which loses as many, some batches show nothing.
"""

LARGEST_ROUNDING = 1e-3
"""Gap relative to the sum of |attribution| that float32 may be the reason of."""

FINER = ("steps", "nsamples")
"""Parameters that make a sum more accurate."""


@dataclass(frozen=True, eq=False)
class Sums:
    """What is known of the sums of one call.

    Attributes
    ----------
    gap : numpy.ndarray
        (n,) sum of the attribution minus what was promised; None where nothing was.
    amount : numpy.ndarray
        (n,) what the gap is measured against: the explained output f for methods with a ledger (LRP), else
        the promised sum, such as f(x) - f(baseline).
    magnitude : numpy.ndarray
        (n,) sum of |attribution|; where nothing was promised any sum that is finite if the attribution is.
    sensitivity : float or None
        See `xairt.attribution.batching.sensitivity`; None where it was not measured.
    """

    gap: np.ndarray | None
    amount: np.ndarray
    magnitude: np.ndarray
    sensitivity: float | None = None


def scale(amount: np.ndarray) -> np.ndarray:
    """Return what each gap is measured against: |amount|, or the call's largest where it is near 0.

    Parameters
    ----------
    amount : numpy.ndarray
        (n,) explained outputs or promised sums of all samples of a call.

    Examples
    --------
    >>> scale(np.array([2.0, -1.0, 1e-9]))
    array([2., 1., 2.])
    """
    size = np.abs(np.asarray(amount, np.float64))
    largest = np.max(size, where=np.isfinite(size), initial=0.0)
    return np.where(size < NEAR_ZERO * largest, largest, size)


def flags(sums: Sums) -> np.ndarray:
    """Return the status of each sample as an index into `MEANINGS`, (n,) int8.

    ok up to 0.1 % of `scale`, warn up to 10 %, fail beyond or where anything is not finite.
    """
    if sums.gap is None:
        finite = np.isfinite(sums.amount) & np.isfinite(sums.magnitude)
        return np.where(finite, NOT_PROMISED, FAIL).astype(np.int8)
    gap, size = np.abs(sums.gap), scale(sums.amount)
    found = np.where(gap <= OK_SHARE * size, OK, np.where(gap <= WARN_SHARE * size, WARN, FAIL))
    return np.where(np.isfinite(gap) & np.isfinite(size), found, FAIL).astype(np.int8)


@dataclass(frozen=True)
class Tally:
    """What the report of a call needs to know of its sums; those of several blocks can be merged.

    Attributes
    ----------
    samples, ok, warn, fail : int
        Numbers of samples, in all and of these statuses.
    promised : bool
        Whether the method promises anything.
    miss : float
        Largest finite |gap| that is not ok, relative to its `scale`; 0 where there is none.
    not_finite : int
        Number of sums or amounts that are not finite.
    largest, magnitude : float
        Largest |amount| and largest sum of |attribution|; not finite where one is not.
    is_rounding : bool
        Whether rounding in float32 may be the reason of every gap.
    sensitivity : float or None
        As of `Sums`; the largest of the blocks.
    """

    samples: int
    ok: int
    warn: int
    fail: int
    promised: bool = False
    miss: float = 0.0
    not_finite: int = 0
    largest: float = 0.0
    magnitude: float = 0.0
    is_rounding: bool = True
    sensitivity: float | None = None

    @classmethod
    def of(cls, sums: Sums, status: np.ndarray) -> Tally:
        """Count and measure the sums of a call, given the status of each sample."""
        counts = [len(status), *(int((status == flag).sum()) for flag in (OK, WARN, FAIL))]
        if sums.gap is None:
            return cls(*counts)
        gap, size = np.abs(sums.gap), scale(sums.amount)
        finite = np.isfinite(gap) & np.isfinite(size)
        beyond = finite & (gap > OK_SHARE * size)
        with np.errstate(divide="ignore"):
            miss = (gap[beyond] / size[beyond]).max(initial=0.0)
        return cls(
            *counts,
            promised=True,
            miss=float(miss),
            not_finite=int((~finite).sum()),
            largest=float(size.max(initial=0.0)),
            magnitude=float(np.max(sums.magnitude, initial=0.0)),
            is_rounding=bool((gap <= LARGEST_ROUNDING * sums.magnitude).all()),
            sensitivity=sums.sensitivity,
        )

    @classmethod
    def merged(cls, tallies: Iterable[Tally]) -> Tally:
        """Return the tally of all samples from those of blocks of them.

        It is that of one call, except where an amount is near 0: each block judges it against the largest
        of its own; and that every block probes its rounding, where one call does so once.
        """
        parts = list(tallies)
        probed = [part.sensitivity for part in parts if part.sensitivity is not None]
        added = {
            n: sum(getattr(p, n) for p in parts) for n in ("samples", "ok", "warn", "fail", "not_finite")
        }
        greatest = {
            n: float(np.max([getattr(p, n) for p in parts])) for n in ("miss", "largest", "magnitude")
        }
        return cls(
            **added,
            **greatest,
            promised=all(part.promised for part in parts),
            is_rounding=all(part.is_rounding for part in parts),
            sensitivity=float(np.fmax.reduce(probed)) if probed else None,
        )

    @classmethod
    def from_json(cls, numbers: Mapping[str, Any]) -> Tally:
        """Return the tally that `to_json` has written."""
        return cls(**{name: float(v) if isinstance(v, str) else v for name, v in numbers.items()})

    def to_json(self) -> dict[str, Any]:
        """Return the numbers by name; those that JSON lacks (nan, inf) as text."""
        plain = asdict(self)
        return {n: str(v) if isinstance(v, float) and not np.isfinite(v) else v for n, v in plain.items()}


def report(tally: Tally, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Say how well the sums of a call, or of several blocks of samples, keep their promise.

    Parameters
    ----------
    tally : Tally
        Of the call, or merged.
    identity : mapping
        Identity of the method: its dtype and parameters decide on the remedy.

    Returns
    -------
    dict
        ``status`` (the worst; an attribution that float32 is too coarse for is at least "warn"), ``reason``,
        and the numbers of samples ``ok``, ``warn`` and ``fail``.
    """
    counts = {name: getattr(tally, name) for name in MEANINGS[:3]}
    if not tally.promised:
        return _without_promise(tally, identity) | counts
    rounding = _rounding(tally) if identity.get("dtype") == "float32" else []
    missed = _missed(tally)
    remedy = [] if rounding or not missed else [_remedy(tally, identity)]
    reason = "; ".join(missed + rounding + remedy) or f"{tally.samples} samples ok"
    worst = FAIL if tally.fail else WARN if tally.warn or rounding else OK
    return {"status": MEANINGS[worst], "reason": reason} | counts


def tell(attributes: Mapping[str, Any]) -> None:
    """Log the reports of a result, given its attributes: as a warning where a promise is missed."""
    for label, found in json.loads(attributes["status_report"]).items():
        if found["status"] != MEANINGS[NOT_PROMISED]:
            level = logging.INFO if found["status"] == MEANINGS[OK] else logging.WARNING
            log.log(level, "%s: %s", label, found["reason"])


def _without_promise(tally: Tally, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return status and reason where no sum can be judged; values that are not finite are told anyway."""
    if tally.fail:
        reason = f"{tally.fail} of {tally.samples} samples fail: attributions or outputs are not finite"
        return {"status": MEANINGS[FAIL], "reason": reason}
    reason = "the method promises nothing about its sum"
    if _is_lrp(identity):
        reason = f"engine '{identity['engine']}' keeps no ledger to judge the sum by"
    return {"status": MEANINGS[NOT_PROMISED], "reason": reason}


def _is_lrp(identity: Mapping[str, Any]) -> bool:
    return identity.get("method", "").startswith(("lrp.", "deep_taylor"))


def _missed(tally: Tally) -> list[str]:
    """Return what sums miss, empty where all are ok."""
    counted = ((name, getattr(tally, name)) for name in ("warn", "fail"))
    parts = [f"{count} of {tally.samples} samples {name}" for name, count in counted if count]
    if not parts:
        return []
    found = [f"the sum misses its promise by up to {_percent(tally.miss)}"] if tally.miss else []
    if tally.not_finite:
        found.append(f"{tally.not_finite} sums or outputs are not finite")
    return [f"{' and '.join(parts)}: {' and '.join(found)}"]


def _rounding(tally: Tally) -> list[str]:
    """Return why float32 is too coarse, empty where it is not."""
    found = []
    if tally.largest and np.isfinite(tally.magnitude) and np.isfinite(tally.largest):
        times = tally.magnitude / tally.largest
        if times > LARGEST_AMPLIFICATION:
            found.append(f"relevance of up to {times:.1g} times the largest output cancels")
    if tally.sensitivity is not None and tally.sensitivity > LARGEST_SENSITIVITY:
        found.append(f"the last digit of x changes the attribution by {_percent(tally.sensitivity)}")
    return [f"ill-conditioned in float32: {' and '.join(found)}; use dtype='float64'"] if found else []


def _remedy(tally: Tally, identity: Mapping[str, Any]) -> str:
    finer = [name for name in FINER if name in identity.get("parameters", {})]
    if finer:
        return f"use more {finer[0]}"
    native32 = identity.get("dtype") == "float32" and identity.get("engine") == "native"
    if native32 and tally.is_rounding:
        return "try dtype='float64'"
    if identity.get("convention"):
        return f"convention '{identity['convention']}' may be the reason; compare without it"
    if _is_lrp(identity) and identity.get("target", "").startswith("callable"):
        return "LRP needs a target in proportion to the outputs, such as their mean or a difference"
    return "compare with another method before you trust the attribution"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:,.0f} %"
