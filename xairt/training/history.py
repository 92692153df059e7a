"""What a training records after each epoch, and the weights of its best one."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xairt.data.files import atomic_write
from xairt.errors import DataError

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True, eq=False)
class History:
    """What a training recorded after each epoch.

    Parameters
    ----------
    columns : dict of str to numpy.ndarray
        ``epoch`` (from 1), ``loss`` and metrics (mean over the epoch's samples, while the weights change),
        ``val_loss`` and ``val_`` metrics (at the epoch's end, where validation data were given),
        ``learning_rate`` (where a schedule was given), ``seconds``; (epochs,) each.
    interrupted : bool
        Whether the user stopped the training (Ctrl-C); the model then holds the weights of the last epoch, or
        of the best one if that was to be kept.
    best_epoch : int or None
        Epoch of the smallest validation loss, the first of equal ones, where it was asked for
        (``keep_best`` or ``checkpoint``).
    """

    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    interrupted: bool = False
    best_epoch: int | None = None

    def __len__(self) -> int:
        return len(self.columns["epoch"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write one line per epoch, atomically.

        Parameters
        ----------
        path : file to write or replace

        Returns
        -------
        pathlib.Path

        Raises
        ------
        DataError
            If the file cannot be written.
        """
        target = Path(path)
        with atomic_write(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(self.columns)
            writer.writerows(zip(*(column.tolist() for column in self.columns.values()), strict=True))
        return target


class Best:
    """The epoch of the smallest validation loss and its weights."""

    def __init__(
        self,
        model: tf.keras.Model,
        keep: bool,
        checkpoint: str | os.PathLike[str] | None,
        validated: bool,
    ) -> None:
        self.epoch: int | None = None
        self._model, self._keep, self._checkpoint = model, keep, checkpoint
        self._loss = np.inf
        self._weights: list[NDArray[Any]] | None = None
        asked = "keep_best" if keep else "checkpoint"
        self._wanted = keep or checkpoint is not None
        if self._wanted and not validated:
            raise DataError(f"{asked}: no validation data to judge by; give validation=(x, y)")
        if checkpoint is not None and Path(checkpoint).suffix != ".h5":
            raise DataError(
                f"checkpoint {os.fspath(checkpoint)}: no Keras HDF5 file; let its name end in .h5"
            )

    def see(self, record: dict[str, float]) -> None:
        """Keep the weights if the epoch is better than all before."""
        if not self._wanted or record["val_loss"] >= self._loss:
            return
        self.epoch, self._loss = int(record["epoch"]), record["val_loss"]
        if self._keep:
            self._weights = self._model.get_weights()
        if self._checkpoint is not None:
            from xairt.models.saving import save_model

            save_model(self._model, self._checkpoint)

    def restore(self) -> None:
        """Give the model its best weights, where they were to be kept."""
        if self._weights is not None:
            self._model.set_weights(self._weights)


def history_of(
    records: list[dict[str, float]], names: list[str], interrupted: bool, best_epoch: int | None
) -> History:
    """Return the history of the records of all epochs, with the named columns."""
    columns = {name: np.array([record[name] for record in records], dtype=np.float64) for name in names}
    columns["epoch"] = columns["epoch"].astype(np.int64)
    return History(columns, interrupted, best_epoch)
