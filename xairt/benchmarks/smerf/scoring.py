"""The stage that scores: how much of each attribution lies on the objects that decide, and on those that do not.

Beside it two further questions: do explanations of one image differ between settings (identity test), and how
do they change as objects are added (object added test)?
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from xairt import metrics
from xairt.benchmarks.smerf.images import Images, objects_added
from xairt.benchmarks.smerf.placing import SIDE
from xairt.benchmarks.smerf.rules import OBJECTS, Setting, setting_of
from xairt.benchmarks.smerf.stages import DATA, MODEL, NETWORKS, explain, look_of
from xairt.data.files import atomic_write, read_array, read_dataset, write_dataset
from xairt.errors import DataError
from xairt.metrics.localisation import BLUR, ROLES, Reduction, blurred, saliency_plane
from xairt.runs import Case
from xairt.runs.scores import NETWORK, identity_of, statistic_rows

if TYPE_CHECKING:
    import tensorflow as tf
    import xarray as xr

SAMPLE_SCORES, BUCKET_SCORES, ADDED = "sample_scores.nc", "bucket_scores.csv", "objects_added.nc"
METRICS = ("iou", "iou_single", "afl", "mafl")

_MAGNITUDES = (
    "gradient",
    "saliency",
    "smoothgrad",
    "deconvnet",
    "guided_backprop",
    "grad_cam",
    "random",
    "edge",
    "input",
)
"""Methods whose maps the published program draws as magnitudes; SHAP it scales, the others it draws as heat maps."""

_SCALED = ("shap.deep", "shap.gradient", "shap.kernel")

log = logging.getLogger(__name__)


def score(case: Case) -> pd.DataFrame:
    """Score the network and every attribution of a case.

    Writes ``sample_scores.nc`` (scores of every image by label and role), ``bucket_scores.csv`` (label, metric,
    role, bucket, the mean over its images and their number) and, where the setting `added_images` is not 0,
    ``objects_added.nc``, see `added_scores`.

    Parameters
    ----------
    case : Case

    Returns
    -------
    pandas.DataFrame
        For each attribution ``iou``, ``iou_single``, ``afl`` and ``mafl``, each ``.primary`` and ``.secondary``:
        ``mean`` over the buckets that have a score, ``minimum`` over them, ``n_buckets``, and over images ``sd,
        median, p05, p95`` and ``missing``, the images without such an object or with an attribution that is not
        finite. For the network the accuracies on its parts, and ``accuracy.test_minimum``, that of the worst bucket.
    """

    scores = _sample_scores(case)
    write_dataset(scores, case.write(SAMPLE_SCORES), title="Scores of every image by label and role")
    explanations = {explanation.name: explanation for explanation in explain(case)}
    rows, by_bucket = _network_rows(case), []
    for label, explanation in explanations.items():
        identity = identity_of(explanation)
        for metric in METRICS:
            for role in ROLES:
                values = scores[metric].sel(label=label, role=role, drop=True)
                found = metrics.bucket_scores(values.values, scores["bucket"].values)
                of_buckets = {"mean": "average", "minimum": "minimum", "n_buckets": "n_buckets"}
                further = {name: float(found[known]) for name, known in of_buckets.items()}
                rows += [identity | row for row in statistic_rows(f"{metric}.{role}", values, further)]
                by_bucket.append(_bucket_table(found).assign(label=label, metric=metric, role=role))
    with atomic_write(case.write(BUCKET_SCORES)) as path:
        pd.concat(by_bucket).to_csv(path, index=False, lineterminator="\n")
    if case.config.added_images:
        write_dataset(_added(case), case.write(ADDED), title="Attributions as objects are added one by one")
    return pd.DataFrame(rows)


def reduction_of(reduction: str, method: str) -> Reduction:
    """Return how the channels of a method's attributions become one plane.

    Parameters
    ----------
    reduction : str
        A reduction of `xairt.metrics.saliency_plane`, or "published".
    method : str
        Method with its parameters, as of `xairt.explainer`.

    Examples
    --------
    >>> reduction_of("published", "lrp.z"), reduction_of("published", "gradient"), reduction_of("maximum", "lrp.z")
    ('heat_map', 'maximum', 'maximum')
    """
    from xairt.attribution.registry import resolve

    if reduction != "published":
        return reduction
    name = resolve(method).method.name
    return "maximum" if name in _MAGNITUDES else "min_max" if name in _SCALED else "heat_map"


def image_scores(
    attribution: ArrayLike,
    boxes: ArrayLike,
    primary: ArrayLike,
    secondary: ArrayLike,
    *,
    reduction: Reduction = "absolute_sum",
    size: int = BLUR,
) -> xr.Dataset:
    """Score attributions as `xairt.metrics.localisation_scores` does; those that are not finite have no score.

    Parameters
    ----------
    attribution, boxes, primary, secondary, reduction, size
        As of `xairt.metrics.localisation_scores`.

    Returns
    -------
    xarray.Dataset
        `METRICS` along ``role`` and ``sample``; NaN where an image has no such object, or its attribution is not
        finite.
    """
    import xarray as xr

    values = np.asarray(attribution)
    finite = np.isfinite(values).all(axis=(1, 2, 3))
    if not finite.all():
        log.warning("%d of %d attributions are not finite and have no score", (~finite).sum(), len(finite))
    found = {name: np.full((len(ROLES), len(values)), np.nan) for name in METRICS}
    scored = finite & (np.asarray(primary) | np.asarray(secondary)).astype(bool).any(axis=1)
    if scored.any():
        parts = (np.asarray(part)[scored] for part in (values, boxes, primary, secondary))
        scores = metrics.localisation_scores(*parts, reduction=reduction, size=size)
        for name, kept in found.items():
            kept[:, scored] = scores[name].transpose("role", "sample").values
    return xr.Dataset({n: (("role", "sample"), v) for n, v in found.items()}, {"role": list(ROLES)})


def identity_scores(
    attributions: Mapping[str, ArrayLike],
    made: Images,
    *,
    reduction: Reduction = "absolute_sum",
    size: int = BLUR,
) -> xr.Dataset:
    """Compare attributions of the same images by networks of several settings (identity test).

    The images are the same; what decides is not. Faithful explanations then show other objects in each setting,
    while explanations that follow the image alone are alike.

    Parameters
    ----------
    attributions : mapping
        Name of the setting -> attributions (n, 64, 64, 3) of the network that was trained under it.
    made : Images
        The n images, all of buckets that every setting has.
    reduction, size
        As of `image_scores`.

    Returns
    -------
    xarray.Dataset
        `METRICS` (setting, role, sample), by the primary and secondary objects of each setting, and ``similarity``
        (setting, other): Pearson correlation of the blurred maps, mean over images, NaN where a map is constant.

    Raises
    ------
    DataError
        If a setting has no such bucket, is unknown, or shapes do not fit.

    References
    ----------
    Kim, Plumb and Talwalkar (2022), arXiv:2105.06506, section 5.
    """
    import xarray as xr

    found, planes = [], []
    for name, attribution in attributions.items():
        judged = made.under(name)
        if (judged.bucket < 0).any():
            raise DataError(f"setting '{name}': has no bucket of some image; give images of shared buckets")
        parts = (attribution, judged.boxes, judged.primary, judged.secondary)
        found.append(image_scores(*parts, reduction=reduction, size=size))
        planes.append(blurred(saliency_plane(attribution, reduction), size).reshape(len(made), -1))
    alike = [[np.nanmean(metrics.pearson(a, b)) for b in planes] for a in planes]
    names = list(attributions)
    scores = xr.concat(found, "setting").assign_coords(setting=names)
    return scores.assign(similarity=(("setting", "other"), np.array(alike))).assign_coords(other=names)


def added_scores(
    model: tf.keras.Model,
    method: str,
    setting: str | Setting,
    bucket: str,
    n: int,
    *,
    reduction: Reduction = "absolute_sum",
    size: int = BLUR,
    **look: Any,
) -> xr.Dataset:
    """Explain images whose objects are added one by one (object added test).

    Parameters
    ----------
    model : tensorflow.keras.Model
        Classifier of images.
    method : str
        As of `xairt.explainer`; baselines are 0, the class is that predicted at each step.
    setting, bucket, n
        As of `xairt.benchmarks.smerf.images.objects_added`.
    reduction, size
        As of `image_scores`.
    **look
        order, seed, background, natural, tight_boxes as of `objects_added`.

    Returns
    -------
    xarray.Dataset
        ``share`` (step, object, sample): attribution focus level of each object's box, also before the object is
        drawn (what lies there without it), NaN where the bucket does not have the object; ``predicted`` (step,
        sample), the class; coordinate ``step``: the object that is added, "background" for the first.

    References
    ----------
    Kim, Plumb and Talwalkar (2022), arXiv:2105.06506, section 5.
    """
    import xarray as xr

    import xairt

    steps = objects_added(setting, bucket, n, **look)
    pictures = np.concatenate([step.images for step in steps])
    attribution = xairt.attribute(model, pictures, method, seed=look.get("seed", 0))["attribution"].values
    planes = blurred(saliency_plane(attribution, reduction), size).reshape(len(steps), n, SIDE, SIDE)
    boxes, one = steps[-1].boxes, np.eye(len(OBJECTS), dtype=bool)
    share = [[metrics.focus_level(plane, boxes, np.tile(flags, (n, 1))) for flags in one] for plane in planes]
    predicted = np.asarray(model.predict(pictures, verbose=0)).argmax(axis=1).reshape(len(steps), n)
    there = setting_of(setting).bucket(bucket).features.objects
    names = ["background", *(name for name in look.get("order", OBJECTS) if name in there)]
    variables = {
        "share": (("step", "object", "sample"), np.array(share)),
        "predicted": (("step", "sample"), predicted),
    }
    return xr.Dataset(variables, {"step": names, "object": list(OBJECTS)})


def bucket_table(case: Case) -> pd.DataFrame:
    """Return the scores of a case's buckets: label, metric, role, bucket, mean, n."""
    return pd.read_csv(case.read(BUCKET_SCORES), float_precision="round_trip", keep_default_na=True)


def fullest_bucket(setting: str | Setting) -> str:
    """Return the name of the first bucket with the most objects.

    Examples
    --------
    >>> fullest_bucket("complex-cr1")
    'patch-A-switch'
    """
    return max(setting_of(setting).buckets, key=lambda bucket: len(bucket.features.objects)).name


def _sample_scores(case: Case) -> xr.Dataset:
    """Return the scores of every image along label, role and sample."""
    import xarray as xr

    config, data = case.config, case.read(DATA)
    boxes, primary, secondary, bucket = (
        read_array(data, name).values for name in ("box", "primary", "secondary", "bucket")
    )
    found = {}
    for explanation in explain(case):
        attribution = read_array(case.read(explanation.file), "attribution").values
        reduction = reduction_of(config.reduction, explanation.method)
        parts = (attribution, boxes, primary, secondary)
        found[explanation.name] = image_scores(*parts, reduction=reduction, size=config.blur)
    names = np.array([known.name for known in setting_of(config.setting).buckets])
    scores = xr.concat(found.values(), "label").assign_coords(label=list(found))
    for name in METRICS:
        scores[name].attrs.update(units="1", long_name=f"{name} of the boxes of a role's objects")
    return scores.assign(bucket=("sample", names[bucket]))


def _bucket_table(found: xr.Dataset) -> pd.DataFrame:
    columns = {"bucket": found["bucket"], "mean": found["mean"], "n": found["count"]}
    return pd.DataFrame({name: values.values for name, values in columns.items()})


def _network_rows(case: Case) -> list[dict[str, Any]]:
    """Return the accuracies of the network; tell of an inaccurate one, whose explanations say little."""
    table = pd.read_csv(case.read(NETWORKS), keep_default_na=False)
    whole = table[table["bucket"] == ""].drop(columns="bucket")
    for part in ("train", "validation"):
        accuracy = whole.loc[whole["metric"] == f"accuracy.{part}", "value"].item()
        if not accuracy >= case.config.minimum_accuracy:
            log.warning(
                "case %s: accuracy %.3f on the %s part, below minimum_accuracy=%g: attributions tell little of the "
                "reasoning that the setting asks for",
                *(case.name, accuracy, part, case.config.minimum_accuracy),
            )
    worst = table.loc[table["bucket"] != ""].sort_values("value").head(1).drop(columns="bucket")
    rows = pd.concat([whole, worst.assign(metric="accuracy.test_minimum")])
    return rows.assign(method=NETWORK, statistic="value").to_dict("records")


def _added(case: Case) -> xr.Dataset:
    """Return what `added_scores` gives of each of the methods, along label."""
    import xarray as xr

    import xairt

    config = case.config
    model = xairt.load_model(case.read(MODEL))
    bucket = fullest_bucket(config.setting)
    found = [
        added_scores(
            model,
            method,
            config.setting,
            bucket,
            config.added_images,
            reduction=reduction_of(config.reduction, method),
            size=config.blur,
            **look_of(config),
        )
        for method in config.added_methods
    ]
    joined = xr.concat(found, "label").assign_coords(label=list(config.added_methods))
    return joined.assign_attrs(bucket=bucket)


def added_shares(case: Case) -> xr.Dataset:
    """Return what `score` wrote of the images whose objects were added."""
    return read_dataset(case.read(ADDED))
