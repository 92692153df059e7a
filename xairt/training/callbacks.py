"""What steers a training from epoch to epoch: schedules of the learning rate, early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable

from xairt.errors import DataError


def step_decay(rate: float, every: int = 50, factor: float = 0.5) -> Callable[[int], float]:
    """Return the schedule that multiplies a learning rate by a factor every so many epochs.

    Parameters
    ----------
    rate : float
        Learning rate of epochs 1 to `every`, positive.
    every : int
        Epochs of each rate, >= 1.
    factor : float
        Positive.

    Returns
    -------
    callable
        From the epoch (from 1) to its learning rate, as ``schedule`` of `xairt.training.fit`.

    Raises
    ------
    DataError
        If a number is out of range.

    References
    ----------
    Gaikwad et al. (XAIRT): 0.01, halved every 50 epochs.

    Examples
    --------
    >>> schedule = step_decay(0.01, every=50)
    >>> schedule(1), schedule(50), schedule(51), schedule(101)
    (0.01, 0.01, 0.005, 0.0025)
    """
    if not (0 < rate < math.inf and 0 < factor < math.inf) or every < 1:
        raise DataError(
            f"step_decay({rate}, every={every}, factor={factor}): out of range; give positive numbers"
        )
    return lambda epoch: rate * factor ** ((epoch - 1) // every)


def cosine_restarts(rate: float, period: int, minimum: float = 0.0) -> Callable[[int], float]:
    """Return the schedule that lowers a learning rate along half a cosine, and begins anew every so many epochs.

    minimum + (rate - minimum) (1 + cos(pi t / period)) / 2, with t = 0 .. period - 1 the epochs since the last start.

    Parameters
    ----------
    rate : float
        Learning rate of the first epoch of each period, positive.
    period : int
        Epochs, >= 1; all periods are equally long.
    minimum : float
        What the rate approaches at the end of a period, from 0 to `rate`.

    Returns
    -------
    callable
        From the epoch (from 1) to its learning rate, as ``schedule`` of `xairt.training.fit`.

    Raises
    ------
    DataError
        If a number is out of range.

    References
    ----------
    Loshchilov and Hutter (2017), arXiv:1608.03983, equation 5, with T_cur counted in epochs and T_mult = 1.

    Examples
    --------
    >>> schedule = cosine_restarts(0.01, 2)
    >>> [round(schedule(epoch), 6) for epoch in (1, 2, 3, 4)]
    [0.01, 0.005, 0.01, 0.005]
    """
    if not (0 < rate < math.inf and 0 <= minimum <= rate) or period < 1:
        raise DataError(
            f"cosine_restarts({rate}, {period}, minimum={minimum}): out of range; give a positive rate, "
            "period >= 1 and a minimum from 0 to the rate"
        )
    half = (rate - minimum) / 2
    return lambda epoch: minimum + half * (1 + math.cos(math.pi * ((epoch - 1) % period) / period))


def plateau_decay(
    rate: float,
    patience: int = 4,
    *,
    factor: float = 0.9,
    minimum: float = 1e-6,
    monitor: str = "val_loss",
) -> tuple[Callable[[int], float], Callable[[int, dict[str, float]], bool]]:
    """Return schedule and callback that lower a learning rate once a column of the history no longer improves.

    Parameters
    ----------
    rate : float
        Learning rate of the first epochs, positive.
    patience : int
        Epochs without a new smallest value after which the rate is lowered, and lowered again, >= 1.
    factor : float
        Of the rate, above 0 and below 1.
    minimum : float
        Smallest rate, from 0 to `rate`.
    monitor : str
        Column of the history whose small values are good.

    Returns
    -------
    schedule, callback : callable
        For one training at a time by `xairt.training.fit`, both of them: epoch 1 begins anew. The callback never
        ends the training.

    Raises
    ------
    DataError
        If a number is out of range, or, in training, there is no such column.

    References
    ----------
    Lelièvre and Chen (2024), arXiv:2404.13910: 5e-5 times 0.9 after 4 epochs, not below 1e-6.

    Examples
    --------
    >>> schedule, callback = plateau_decay(1.0, patience=2, factor=0.5)
    >>> losses, rates = [3.0, 2.0, 2.5, 2.0, 1.0], []
    >>> for epoch, loss in enumerate(losses, start=1):
    ...     rates.append(schedule(epoch))
    ...     ended = callback(epoch, {"val_loss": loss})
    >>> rates
    [1.0, 1.0, 1.0, 1.0, 0.5]
    """
    if not (0 < rate < math.inf and 0 <= minimum <= rate and 0 < factor < 1) or patience < 1:
        raise DataError(
            f"plateau_decay({rate}, {patience}, factor={factor}, minimum={minimum}): out of range; give a positive "
            "rate, patience >= 1, a factor from 0 to 1 and a minimum up to the rate"
        )
    now = {"rate": rate, "best": math.inf, "waited": 0}

    def schedule(epoch: int) -> float:
        if epoch == 1:
            now.update(rate=rate, best=math.inf, waited=0)
        return now["rate"]

    def callback(epoch: int, record: dict[str, float]) -> bool:
        value = _monitored(record, monitor, "plateau_decay")
        now["waited"] = 0 if value < now["best"] else now["waited"] + 1
        now["best"] = min(value, now["best"])
        if now["waited"] == patience:
            now.update(rate=max(now["rate"] * factor, minimum), waited=0)
        return False

    return schedule, callback


def early_stopping(
    patience: int, *, monitor: str = "val_loss", mode: str = "min"
) -> Callable[[int, dict[str, float]], bool]:
    """Return the callback that ends a training once a column of the history no longer improves.

    Parameters
    ----------
    patience : int
        Epochs without a new best value after which the training ends, >= 1.
    monitor : str
        Column of the history, such as ``val_loss`` (with regularisation) or ``val_accuracy``.
    mode : {"min", "max"}
        Whether small or large values are good.

    Returns
    -------
    callable
        As ``callback`` of `xairt.training.fit`, for any number of trainings: epoch 1 begins anew.

    Raises
    ------
    DataError
        If an argument is out of range, or, in training, there is no such column.

    Examples
    --------
    >>> stop = early_stopping(2)
    >>> [stop(epoch, {"val_loss": loss}) for epoch, loss in enumerate([3.0, 1.0, 2.0, 1.5], start=1)]
    [False, False, False, True]
    """
    if patience < 1 or mode not in ("min", "max"):
        raise DataError(
            f"early_stopping({patience}, mode={mode!r}): out of range; give patience >= 1 and mode 'min' or 'max'"
        )
    sign = 1.0 if mode == "min" else -1.0
    best = {"epoch": 0, "value": math.inf}

    def callback(epoch: int, record: dict[str, float]) -> bool:
        value = sign * _monitored(record, monitor, "early_stopping")
        if epoch == 1 or value < best["value"]:
            best.update(epoch=epoch, value=value)
        return epoch - best["epoch"] >= patience

    return callback


def stop_at_loss(loss: float, *, monitor: str = "loss") -> Callable[[int, dict[str, float]], bool]:
    """Return the callback that ends a training once a column of the history is small enough.

    Parameters
    ----------
    loss : float
        The training ends after the first epoch whose value is below, positive.
    monitor : str
        Column of the history, such as ``loss`` (mean over the epoch, while the weights change) or ``val_loss``.

    Returns
    -------
    callable
        As ``callback`` of `xairt.training.fit`, for any number of trainings.

    Raises
    ------
    DataError
        If the loss is out of range, or, in training, there is no such column.

    References
    ----------
    Kim, Plumb and Talwalkar (2022), arXiv:2105.06506: a training loss of 0.005.

    Examples
    --------
    >>> stop = stop_at_loss(0.005)
    >>> [stop(epoch, {"loss": loss}) for epoch, loss in enumerate([0.6, 0.005, 0.004], start=1)]
    [False, False, True]
    """
    if not 0 < loss < math.inf:
        raise DataError(f"stop_at_loss({loss}): out of range; give a positive number")

    def callback(epoch: int, record: dict[str, float]) -> bool:
        return _monitored(record, monitor, "stop_at_loss") < loss

    return callback


def _monitored(record: dict[str, float], monitor: str, asking: str) -> float:
    if monitor not in record:
        raise DataError(f"{asking}: no column '{monitor}' in {', '.join(record)}; monitor one of them")
    return record[monitor]
