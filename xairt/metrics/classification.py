"""How well classes are predicted, and whether better than the class frequency and persistence."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError

BASELINES = ("class_frequency", "persistence")

FEWEST_EFFECTIVE = 10
"""Effective samples below which no significance is told: the test would call chance a skill too often."""


def class_numbers(labels: ArrayLike, name: str = "labels") -> NDArray[np.int64]:
    """Return classes as integers.

    Parameters
    ----------
    labels : (samples,)
        Whole numbers from 0, or booleans, of any type; a DataArray does.
    name : str
        Of the labels, for the message.

    Returns
    -------
    numpy.ndarray
        (samples,) int64.

    Raises
    ------
    DataError
        If there are none, or they are something else.

    Examples
    --------
    >>> class_numbers([0.0, 1.0, 1.0])
    array([0, 1, 1])
    """
    given = np.asarray(labels)
    if given.ndim != 1 or not given.size or given.dtype.kind not in "iufb":
        raise DataError(f"{name} {given.shape} of {given.dtype}: give one class number for each sample")
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        raise DataError(f"{name}: holds NaN or infinity; leave out samples without a class")
    classes = given.astype(np.int64)
    if (classes != given).any() or classes.min() < 0:
        odd = given[(classes != given) | (classes < 0)][0]
        raise DataError(f"{name}: {odd:g} is no class; give 0 for the first class, 1 for the next ...")
    return classes


def accuracy(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Return the share of samples whose class is predicted.

    Parameters
    ----------
    labels, predicted : (samples,)
        Classes from 0: the right ones, and the predicted ones.

    Returns
    -------
    float
        0 to 1.

    Raises
    ------
    DataError
        If they are no classes, or their numbers differ.

    Examples
    --------
    >>> accuracy([0, 1, 1, 0], [0, 1, 0, 0])
    0.75
    """
    return float(np.mean(np.equal(*_pair(labels, predicted))))


def top_k_accuracy(labels: ArrayLike, outputs: ArrayLike, k: int = 5) -> float:
    """Return the share of samples whose class has one of the k largest outputs.

    Parameters
    ----------
    labels : (samples,)
        The right classes, from 0.
    outputs : (samples, classes)
        One number for each class: probabilities, or logits. Of equal ones the right class counts as the last, so
        that a network that cannot tell classes apart has no hit.
    k : int
        1 is the accuracy; with as many as there are classes all samples are hits.

    Returns
    -------
    float
        0 to 1.

    Raises
    ------
    DataError
        If labels are no classes of the outputs, numbers of samples differ, outputs hold NaN, or k < 1.

    Examples
    --------
    >>> outputs = [[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]
    >>> top_k_accuracy([0, 1], outputs, k=1), top_k_accuracy([0, 1], outputs, k=2)
    (0.5, 1.0)
    """
    right, values = class_numbers(labels), np.asarray(outputs)
    if values.ndim != 2 or len(values) != len(right) or values.dtype.kind not in "iuf":
        raise DataError(f"outputs {values.shape}: give (samples, classes) for the {len(right)} labels")
    if right.max() >= values.shape[1]:
        raise DataError(f"labels: class {right.max()}; outputs are those of 0 to {values.shape[1] - 1}")
    if np.isnan(values).any():
        raise DataError("outputs: hold NaN; leave such samples out")
    if k < 1:
        raise DataError(f"k={k}: out of range; give a whole number from 1")
    own = np.take_along_axis(values, right[:, np.newaxis], axis=1)
    return float(np.mean((values >= own).sum(axis=1) <= k))


def f1(labels: ArrayLike, predicted: ArrayLike, n_classes: int = 2) -> NDArray[np.float64]:
    """Return the F1 score of each class, 2 TP / (2 TP + FP + FN); its mean over classes is the macro F1.

    Parameters
    ----------
    labels, predicted : (samples,)
        Classes 0 .. n_classes - 1: the right ones, and the predicted ones.
    n_classes : int

    Returns
    -------
    numpy.ndarray
        (n_classes,), 0 to 1; NaN for a class that neither occurs nor is predicted (scikit-learn gives 0).

    Raises
    ------
    DataError
        If they are no classes, or their numbers differ.

    References
    ----------
    van Rijsbergen (1979), Information Retrieval, chapter 7: F of beta = 1.

    Examples
    --------
    >>> f1([0, 1, 1, 0], [0, 1, 0, 0])
    array([0.8       , 0.66666667])
    """
    right, guess = _pair(labels, predicted)
    largest = max(right.max(), guess.max())
    if largest >= n_classes:
        raise DataError(f"class {largest}: there are {n_classes}; give the right n_classes")
    hits = np.bincount(right[right == guess], minlength=n_classes)
    claims = np.bincount(right, minlength=n_classes) + np.bincount(guess, minlength=n_classes)
    with np.errstate(invalid="ignore"):
        return 2 * hits / claims


def most_frequent_class(labels: ArrayLike) -> int:
    """Return the class of most samples, the smaller number of equal ones.

    Raises
    ------
    DataError
        If they are no classes.

    Examples
    --------
    >>> most_frequent_class([0, 1, 1])
    1
    """
    return int(np.bincount(class_numbers(labels)).argmax())


def effective_sample_size(series: ArrayLike) -> float:
    """Return how many independent values tell as much about the mean as those of an autocorrelated series.

    n / (1 + 2 sum_k (1 - k/n) r_k), with r_k the autocorrelation at k steps, summed up to the first that is not
    positive. The autocorrelation at one step alone, n (1 - r_1) / (1 + r_1), promises too much for hits and
    misses, whose autocorrelation falls more slowly than that of an AR(1) series.

    Parameters
    ----------
    series : (samples,)
        In time order, at equal steps.

    Returns
    -------
    float
        Above 0, at most n; NaN for a constant series.

    Raises
    ------
    DataError
        If there are fewer than 3 values, or one is NaN or infinite.

    References
    ----------
    von Storch and Zwiers (1999), Statistical Analysis in Climate Research, section 6.6 (equivalent sample size);
    Geyer (1992), doi:10.1214/ss/1177011137, on where to end the sum.

    Examples
    --------
    >>> effective_sample_size([1.0, -1.0, 1.0, -1.0])
    4.0
    """
    values = np.asarray(series, np.float64)
    if values.ndim != 1 or len(values) < 3 or not np.isfinite(values).all():
        raise DataError(f"series {values.shape}: give at least 3 finite numbers in time order")
    if values.min() == values.max():
        return float("nan")
    n = len(values)
    anomaly = values - values.mean()
    covariance = np.correlate(anomaly, anomaly, "full")[n:]  # over n, so that (1 - k/n) is in it
    first = int(np.argmax(np.append(covariance, -1.0) <= 0))
    return float(n / (1 + 2 * covariance[:first].sum() / np.sum(anomaly**2)))


def skill_p_value(labels: ArrayLike, predicted: ArrayLike, baseline: ArrayLike) -> float:
    """Return the probability of such a lead in accuracy over a baseline, were there none.

    One-sided t test of the mean of d(t) = hit(t) - hit of the baseline(t), whose spread counts the effective
    sample size of d instead of the number of samples. With less than about 30 effective samples it calls chance a
    skill somewhat too often (Zwiers and von Storch 1995, Journal of Climate 8, 336-351).

    Parameters
    ----------
    labels, predicted, baseline : (samples,)
        Classes in time order: the right ones, the predicted ones, those that the baseline predicts.

    Returns
    -------
    float
        Small where the prediction beats the baseline; 1 where both are right in the same samples; NaN where fewer
        than `FEWEST_EFFECTIVE` samples are effective, or every sample is won.

    Raises
    ------
    DataError
        If they are no classes, their numbers differ, or there are fewer than 3 samples.

    References
    ----------
    Diebold and Mariano (1995), doi:10.1080/07350015.1995.10524599, with the sample size of `effective_sample_size`.
    """
    lead = _lead(labels, predicted, baseline)
    return _p_value(lead, effective_sample_size(lead))


def _lead(labels: ArrayLike, predicted: ArrayLike, baseline: ArrayLike) -> NDArray[np.float64]:
    """Return hit minus hit of the baseline (samples,): -1, 0 or 1."""
    right, guess = _pair(labels, predicted)
    _, other = _pair(labels, baseline, "baseline")
    return (guess == right).astype(np.float64) - (other == right)


def _p_value(lead: NDArray[np.float64], n_effective: float) -> float:
    """Return the p value of the mean of a lead, see `skill_p_value`."""
    from scipy.stats import t as student

    if not lead.any():
        return 1.0
    if not n_effective >= FEWEST_EFFECTIVE:
        return float("nan")
    return float(student.sf(lead.mean() / np.sqrt(lead.var(ddof=1) / n_effective), n_effective - 1))


def classification_scores(
    labels: ArrayLike,
    predicted: ArrayLike,
    *,
    persistence: ArrayLike | None = None,
    n_classes: int = 2,
) -> dict[str, float]:
    """Return accuracy, F1, and the same accuracy of the baselines with the significance of the lead over them.

    Parameters
    ----------
    labels, predicted : (samples,)
        Classes 0 .. n_classes - 1 in time order: the right ones, and the predicted ones.
    persistence : (samples,), optional
        The class at the date of the input, which persistence predicts for the lagged date.
    n_classes : int

    Returns
    -------
    dict
        ``n``, ``accuracy``, ``f1_class_0`` ..., ``f1_macro``; for each baseline its accuracy
        ``class_frequency``, ``persistence``, the p value of the lead over it, ``p_class_frequency``,
        ``p_persistence`` of `skill_p_value` (NaN of fewer than 3 samples), and the effective sample size of that
        lead, ``n_effective_class_frequency``, ``n_effective_persistence`` of `effective_sample_size`: NaN of fewer
        than 3 samples, and where the lead is the same in all samples. The class frequency is that of the class of
        most of these samples (`most_frequent_class`), which is more than a forecast that only knows the training
        part can count on.

    Raises
    ------
    DataError
        If they are no classes, or their numbers differ.

    Examples
    --------
    >>> scores = classification_scores([0, 0, 1, 1], [0, 0, 1, 0])
    >>> scores["accuracy"], scores["class_frequency"]
    (0.75, 0.5)
    """
    by_class = f1(labels, predicted, n_classes)
    scores = {"n": float(np.size(labels)), "accuracy": accuracy(labels, predicted)}
    scores |= {f"f1_class_{k}": float(value) for k, value in enumerate(by_class)}
    scores["f1_macro"] = float(by_class.mean())
    constant = np.full(np.size(labels), most_frequent_class(labels))
    for name, baseline in zip(BASELINES, (constant, persistence), strict=True):
        if baseline is not None:
            scores[name] = accuracy(labels, baseline)
            lead = _lead(labels, predicted, baseline)
            enough = len(lead) >= 3
            n_effective = effective_sample_size(lead) if enough else float("nan")
            scores[f"p_{name}"] = _p_value(lead, n_effective) if enough else float("nan")
            scores[f"n_effective_{name}"] = n_effective
    return scores


def baselines_not_beaten(scores: Mapping[str, float], level: float = 0.05) -> list[str]:
    """Return the baselines that a prediction is not significantly better than.

    Parameters
    ----------
    scores : mapping
        Of `classification_scores`.
    level : float
        Largest p value of a lead that counts. NaN does not count.

    Returns
    -------
    list of str
        Some of "class_frequency" and "persistence".

    Examples
    --------
    >>> baselines_not_beaten({"p_class_frequency": 0.01, "p_persistence": 0.3})
    ['persistence']
    """
    return [name for name in BASELINES if f"p_{name}" in scores and not scores[f"p_{name}"] <= level]


def _pair(
    labels: ArrayLike, predicted: ArrayLike, name: str = "predicted"
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    right, guess = class_numbers(labels), class_numbers(predicted, name)
    if len(right) != len(guess):
        raise DataError(f"labels ({len(right)},) and {name} ({len(guess)},): numbers of samples differ")
    return right, guess
