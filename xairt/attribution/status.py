"""Whether an attribution's sum keeps its promise, sample by sample, and why where it does not."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
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


def report(sums: Sums, status: np.ndarray, label: str, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Say for a whole call how well sums keep their promise; written to the log too.

    Parameters
    ----------
    sums, status
        Of the call, see `flags`.
    label : str
        Short name of the method.
    identity : mapping
        Identity of the method: its dtype and parameters decide on the remedy.

    Returns
    -------
    dict
        ``status`` (the worst; an attribution that float32 is too coarse for is at least "warn"), ``reason``,
        and the numbers of samples ``ok``, ``warn`` and ``fail``.
    """
    counts = {name: int((status == flag).sum()) for name, flag in zip(MEANINGS[:3], FLAGS, strict=False)}
    if sums.gap is None:
        return _without_promise(len(status), counts, label, identity) | counts
    rounding = _rounding(sums) if identity.get("dtype") == "float32" else []
    worst = max(int(status.max()), int(WARN) if rounding else int(OK))
    missed = _missed(sums, counts)
    remedy = [] if rounding or not missed else [_remedy(sums, identity)]
    reason = "; ".join(missed + rounding + remedy) or f"{len(status)} samples ok"
    log.log(logging.WARNING if worst else logging.INFO, "%s: %s", label, reason)
    return {"status": MEANINGS[worst], "reason": reason} | counts


def _without_promise(
    n: int, counts: dict[str, int], label: str, identity: Mapping[str, Any]
) -> dict[str, Any]:
    """Return status and reason where no sum can be judged; values that are not finite are told anyway."""
    if counts["fail"]:
        reason = f"{counts['fail']} of {n} samples fail: attributions or outputs are not finite"
        log.warning("%s: %s", label, reason)
        return {"status": MEANINGS[FAIL], "reason": reason}
    reason = "the method promises nothing about its sum"
    if _is_lrp(identity):
        reason = f"engine '{identity['engine']}' keeps no ledger to judge the sum by"
    return {"status": MEANINGS[NOT_PROMISED], "reason": reason}


def _is_lrp(identity: Mapping[str, Any]) -> bool:
    return identity.get("method", "").startswith(("lrp.", "deep_taylor"))


def _missed(sums: Sums, counts: dict[str, int]) -> list[str]:
    """Return what sums miss, empty where all are ok."""
    n = len(sums.amount)
    parts = [f"{counts[name]} of {n} samples {name}" for name in ("warn", "fail") if counts[name]]
    if not parts:
        return []
    size = scale(sums.amount)
    finite = np.isfinite(sums.gap) & np.isfinite(size)
    beyond = finite & (np.abs(sums.gap) > OK_SHARE * size)
    found = []
    if beyond.any():
        with np.errstate(divide="ignore"):
            worst = (np.abs(sums.gap[beyond]) / size[beyond]).max()
        found.append(f"the sum misses its promise by up to {_percent(worst)}")
    if not finite.all():
        found.append(f"{int((~finite).sum())} sums or outputs are not finite")
    return [f"{' and '.join(parts)}: {' and '.join(found)}"]


def _rounding(sums: Sums) -> list[str]:
    """Return why float32 is too coarse, empty where it is not."""
    largest = scale(sums.amount).max(initial=0.0)
    found = []
    if largest and np.isfinite(sums.magnitude).all() and np.isfinite(largest):
        times = sums.magnitude.max() / largest
        if times > LARGEST_AMPLIFICATION:
            found.append(f"relevance of up to {times:.1g} times the largest output cancels")
    if sums.sensitivity is not None and sums.sensitivity > LARGEST_SENSITIVITY:
        found.append(f"the last digit of x changes the attribution by {_percent(sums.sensitivity)}")
    return [f"ill-conditioned in float32: {' and '.join(found)}; use dtype='float64'"] if found else []


def _remedy(sums: Sums, identity: Mapping[str, Any]) -> str:
    finer = [name for name in FINER if name in identity.get("parameters", {})]
    if finer:
        return f"use more {finer[0]}"
    native32 = identity.get("dtype") == "float32" and identity.get("engine") == "native"
    if native32 and (np.abs(sums.gap) <= LARGEST_ROUNDING * sums.magnitude).all():
        return "try dtype='float64'"
    if identity.get("convention"):
        return f"convention '{identity['convention']}' may be the reason; compare without it"
    if _is_lrp(identity) and identity.get("target", "").startswith("callable"):
        return "LRP needs a target in proportion to the outputs, such as their mean or a difference"
    return "compare with another method before you trust the attribution"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:,.0f} %"
