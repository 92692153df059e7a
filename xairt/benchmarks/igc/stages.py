"""The stages that make images and their statistic, and train networks on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xairt.benchmarks.igc.experiments import experiment_of
from xairt.benchmarks.igc.images import BLOCK_IMAGES, images
from xairt.benchmarks.igc.masks import SIDE, pixel_centres
from xairt.benchmarks.igc.settings import FUNCTION
from xairt.benchmarks.igc.statistics import Scaling, sample_blocks, samples, scaling_of
from xairt.data.files import read_dataset, write_dataset
from xairt.progress import track
from xairt.runs import Case, CaseSettings

if TYPE_CHECKING:
    import tensorflow as tf

DATA, MODEL, HISTORY = "data.nc", "model.h5", "history.csv"

ADAM_EPSILON = 1e-8
"""Of the published program's AdamW; Keras's own is 1e-7."""


@dataclass(frozen=True)
class ImageStream:
    """The validation images as an array that makes the rows it is asked for, so that memory never holds all.

    Attributes
    ----------
    n : int
        Number of images.
    seed : int
        Of the stream.

    Examples
    --------
    >>> stream = ImageStream(1000, seed=0)
    >>> stream.shape, stream[10:20].shape
    ((1000, 64, 64, 1), (10, 64, 64, 1))
    """

    n: int
    seed: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the array, images first."""
        return self.n, SIDE, SIDE, 1

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> NDArray[np.float32]:
        """Return images (rows, 64, 64, 1) float32; positions in ascending order."""
        wanted = np.arange(self.n)[rows]
        made = np.empty((len(wanted), SIDE, SIDE, 1), np.float32)
        new_block = np.flatnonzero(np.diff(wanted // BLOCK_IMAGES)) + 1
        for places in np.split(np.arange(len(wanted)), new_block):
            numbers = wanted[places]
            first = int(numbers[0])
            block = images(int(numbers[-1]) + 1 - first, start=first, seed=self.seed)
            made[places, ..., 0] = block[numbers - first]
        return made


def generate(case: Case) -> None:
    """Write the statistic of the validation images, and the mask.

    ``data.nc`` holds ``truth`` (sample) as it is, or one-hot (sample, class), ``mask`` (y, x), the map that an attribution
    should look like, and of a scalar statistic ``mean`` and ``sd``, by which it is standardised. Images are not
    stored: their seed makes them again.

    Parameters
    ----------
    case : Case
    """
    import xarray as xr

    config = case.config
    blocks = sample_blocks(config.experiment, config.n_images, seed=config.seed)
    count = -(-config.n_images // BLOCK_IMAGES)
    y = np.concatenate([values for _, _, values in track(blocks, count, "generating", case.progress)])
    experiment = experiment_of(config.experiment)
    dims = ("sample", "class")[: y.ndim]
    text = {"long_name": f"{experiment.statistic} of each image", "units": "1"}
    mask = {"long_name": f"mask {experiment.mask.name}", "units": "1"}
    data = xr.Dataset(
        {"truth": (dims, y, text), "mask": (("y", "x"), experiment.mask.generating(), mask)},
        image_coordinates(),
    )
    if not experiment.categorical:
        scaling = scaling_of(y)
        data = data.assign(mean=scaling.mean, sd=scaling.sd)
    write_dataset(data, case.write(DATA), title=f"Truth of experiment {experiment.name} of IGC")


def image_coordinates() -> dict[str, Any]:
    """Return the coordinates of maps, centred, in units of the image's side; y falls from row to row."""
    x, y = pixel_centres()
    units = {"units": "1", "long_name": "distance from the centre in units of the side"}
    return {"y": ("y", y, units), "x": ("x", x, units)}


def truth_of(case: Case) -> tuple[NDArray[np.float64], Scaling | None]:
    """Return the truth that a model predicts: one-hot, or standardised, then with its scaling."""
    data = read_dataset(case.read(DATA))
    scaling = Scaling(float(data["mean"]), float(data["sd"])) if "sd" in data else None
    truth = data["truth"].values
    return (truth if scaling is None else scaling.apply(truth)), scaling


def train(case: Case) -> None:
    """Train the network of a case, and write ``model.h5`` and ``history.csv``; nothing for a function.

    Every epoch has images of its own. The weights are those of the epoch of the smallest loss on the validation images.

    Parameters
    ----------
    case : Case

    Raises
    ------
    KeyboardInterrupt
        If the user stopped the training: half a training must not pass for a whole one.
    """
    if case.config.model == FUNCTION:
        return
    from xairt.models.saving import save_model

    model = network_of(case.config)
    _fitted(case, model).to_csv(case.write(HISTORY))
    save_model(model, case.write(MODEL))


def network_of(config: CaseSettings) -> tf.keras.Model:
    """Return the untrained network of a case."""
    from xairt.models import encoders

    make = {"convnext": encoders.convnext, "mlp": encoders.mlp}[config.model]
    return make(config.seed, experiment_of(config.experiment).n_outputs)


def _fitted(case: Case, model: tf.keras.Model) -> Any:
    """Train a network and return its history."""
    import tensorflow as tf

    from xairt import training

    config, (truth, scaling) = case.config, truth_of(case)
    categorical = scaling is None
    schedule, callback = training.plateau_decay(
        config.learning_rate, config.patience, factor=config.rate_factor, minimum=config.minimum_rate
    )
    fresh = fresh_images(config, scaling)
    x, y = fresh(1)
    history = training.fit(
        *(model, x, y),
        epochs=config.epochs,
        batch_size=config.batch_size,
        optimizer=tf.keras.optimizers.AdamW(
            config.learning_rate, weight_decay=config.weight_decay, epsilon=ADAM_EPSILON
        ),
        loss=training.negative_log_likelihood if categorical else "mse",
        validation=(ImageStream(config.n_images, config.seed)[:], truth),
        metrics={"accuracy": tf.keras.metrics.categorical_accuracy} if categorical else None,
        schedule=schedule,
        callback=callback,
        keep_best=True,
        fresh=fresh,
        seed=config.seed,
        progress=case.progress,
    )
    if history.interrupted:
        raise KeyboardInterrupt
    return history


def fresh_images(
    config: CaseSettings, scaling: Scaling | None
) -> Callable[[int], tuple[NDArray[np.float32], NDArray[np.float64]]]:
    """Return the function from an epoch (from 1) to its training images (n, 64, 64, 1) and truths."""

    def fresh(epoch: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        start = (epoch - 1) * config.n_train
        x, y = samples(config.experiment, config.n_train, start=start, part="train", seed=config.seed)
        return x[..., np.newaxis], y if scaling is None else scaling.apply(y)

    return fresh
