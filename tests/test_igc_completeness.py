"""The sum of IGC is the correlation of prediction and truth, for the true function of every experiment."""

from __future__ import annotations

import pytest

from xairt import datasetwise
from xairt.benchmarks.igc.experiments import experiment_of
from xairt.benchmarks.igc.functions import function_model
from xairt.benchmarks.igc.images import images
from xairt.benchmarks.igc.statistics import samples, scaling_of

STEPS = 512
TOLERANCE = 1e-3


@pytest.mark.parametrize("n", [128, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", "ABCD")
def test_igc_of_a_true_function_sums_to_the_correlation(name, n):
    x, y = samples(name, n, seed=3)
    experiment = experiment_of(name)
    scaling = None if experiment.categorical else scaling_of(y)
    found = datasetwise.igc(
        function_model(experiment, scaling),
        x[..., None],
        y if scaling is None else scaling.apply(y),
        outputs=experiment.output,
        baseline=images(1, start=n, seed=3)[..., None][0],
        steps=STEPS,
    )
    assert abs(found.correlation) > 0.7
    assert float(found.igc.sum()) == pytest.approx(float(found.correlation), abs=TOLERANCE)
