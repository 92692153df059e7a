"""Settings, cases and presets of the benchmark of regional SST from global SST."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from xairt.benchmarks.xairt_sst.planted import PLANTED_LAG, SOURCE_BOX
from xairt.runs import MethodNames, RunConfig, Sweep, setting

BLOCKED, SHUFFLED = "blocked", "shuffled"
PARTS = ("train", "validation", "test")

PAPER_METHOD = "lrp.alpha_1_beta_0_IB(input_layer_rule=Bounded)"
METHODS = (
    PAPER_METHOD,
    "lrp.alpha_1_beta_0_IB(input_layer_rule=WSquare)",
    "lrp.alpha_2_beta_1_IB",
    "lrp.epsilon(bias=ignore)",
    "input_t_gradient",
    "random",
)

Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=360)]
Box = tuple[Latitude, Latitude, Longitude, Longitude]


def _date_text(value: Any) -> Any:
    """Return dates as text: YAML reads 1992-01-01 as a date."""
    return value.isoformat() if isinstance(value, date) else value


class XairtSSTSettings(RunConfig):
    """Settings; the defaults of network and training are the publication's."""

    source: Literal["planted", "netcdf", "llc"] = setting(
        "generate",
        "planted",
        description="where SST comes from: a synthetic field with a known source of the target's anomalies, a "
        "regular latitude-longitude grid (netCDF), or LLC tiles (netCDF, or MDS files by mds_name)",
    )
    source_file: str | None = setting(
        "generate",
        None,
        description="file of a netcdf source; file, folder or pattern of an llc source",
    )
    variable: str | None = setting(
        "generate", None, description="field of a netCDF source, where it holds several"
    )
    grid_folder: str | None = setting(
        "generate",
        None,
        description="folder with XC, YC, Depth, RAC of an LLC grid: for sources that do not tell theirs, and for a "
        "planted field on that grid instead of one of 5 degrees",
    )
    mds_name: str | None = setting(
        "generate",
        None,
        description="of an llc source of MDS files: what their names begin with, NAME.0000000732.data; they need "
        "grid_folder, mds_time_step and mds_start",
    )
    mds_time_step: float | None = setting(
        "generate", None, description="seconds of a step of the model that wrote the MDS files", gt=0
    )
    mds_start: Annotated[str, BeforeValidator(_date_text)] | None = setting(
        "generate", None, description="date of step 0 of the MDS files, such as 1992-01-01"
    )
    step: int = setting(
        "generate", 1, description="every n-th row and column of a netcdf source is taken", ge=1
    )
    land: str = setting(
        "generate",
        "missing",
        description="cells of a netcdf source that are land: 'missing' values, 'natural_earth' (where a map of 110 m "
        "has land; for files that fill it), or a netCDF file whose missing values are land",
    )
    latitudes: tuple[Latitude, Latitude] = setting(
        "generate",
        (-20.0, 90.0),
        description="southern and northern limit of the network's inputs, degrees north",
    )
    target_place: tuple[Latitude, Longitude] | None = setting(
        "generate",
        None,
        description="latitude and longitude: predict the nearest ocean cell instead of the box",
    )
    target_box: Box = setting(
        "generate",
        (45.0, 55.0, 220.0, 235.0),
        description="south, north, west, east: predict the mean of its ocean cells, weighted by area",
    )
    anomalies: Literal["per_calendar_day", "classic"] = setting(
        "generate",
        "per_calendar_day",
        description="mean and trend of each calendar day or month are removed, or the climatology and one trend",
    )
    fitted_on: Literal["all", "training"] = setting(
        "generate",
        "all",
        description="dates that climatology and trends are fitted on; 'training' leaves out those tested",
    )
    running_mean: int = setting(
        "generate", 3, description="dates that the target's anomalies are averaged over, an odd number", ge=1
    )
    lag: Sweep[int] = setting(
        "generate",
        (-2, -1, 0, 1, 2, 3, 4, 5, 6),
        description="months (days for daily fields) from the map to the target; positive predicts; one case each",
    )
    test_share: float = setting(
        "generate", 0.2, description="share of the dates, the last ones, kept for testing", gt=0, le=0.5
    )
    n_months: int = setting("generate", 1440, description="months of a planted field", ge=120)
    planted_lag: int = setting(
        "generate", PLANTED_LAG, description="months from the source region to the target", ge=1, le=24
    )
    planted_share: float = setting(
        "generate",
        0.9,
        description="correlation between the source region and the target in a planted field",
        gt=0,
        lt=1,
    )
    source_box: Box = setting(
        "generate", SOURCE_BOX, description="south, north, west, east of the source region of a planted field"
    )
    seed: int = setting(
        "generate", 0, description="seed of planted field, initial weights, shuffling and noise", ge=0
    )
    split: Sweep[Literal["blocked", "shuffled"]] = setting(
        "train",
        (BLOCKED, SHUFFLED),
        description="what validates: the last dates before the tested ones, with a gap (recommended), or dates "
        "drawn by chance (the publication's); one case each",
    )
    validation_share: float = setting(
        "train", 0.2, description="share of the dates not tested that validates", gt=0, le=0.5
    )
    hidden_units: tuple[Annotated[int, Field(ge=1)], ...] = setting(
        "train", (8, 8), description="neurons of the hidden layers, from the input", min_length=1
    )
    l2_first: float = setting(
        "train", 10.0, description="L2 penalty on weights and biases of the first layer", ge=0
    )
    l2: float = setting("train", 0.01, description="L2 penalty on weights and biases of further layers", ge=0)
    epochs: int = setting("train", 500, description="passes over the training samples", ge=1)
    batch_size: int = setting("train", 128, description="samples per training step", ge=1)
    learning_rate: float = setting("train", 0.01, description="first step of gradient descent", gt=0, le=1)
    halved_every: int = setting("train", 50, description="epochs after which the step is halved", ge=1)
    methods: MethodNames = setting(
        "explain",
        METHODS,
        description="methods, with parameters where not the defaults, as of xairt.explainer",
    )
    input_bounds: tuple[float, float] | None = setting(
        "explain",
        None,
        description="range of the inputs, K, for an input rule Bounded without numbers; null: the range of the data",
    )
    composite_of: Literal["test", "train", "all"] = setting(
        "score", "all", description="samples, correctly classified, whose relevance is averaged"
    )
    percentile: float = setting(
        "score",
        90.0,
        description="of relevance over the cells, above which a cell counts as relevant",
        gt=0,
        lt=100,
    )
    sensitivity_file: str | None = setting(
        "score", None, description="netCDF file with the sensitivity of an adjoint model on the same grid"
    )
    sensitivity_variable: str | None = setting(
        "score", None, description="field of that file, where it holds several"
    )
    optimal_iterations: int = setting(
        "score", 10_000, description="steps of the descent to the optimal input; 0: none is made", ge=0
    )
    minimum_gain: float | None = setting(
        "score",
        0.0,
        description="accuracy above class frequency and persistence below which a case is reported as without skill",
        le=1,
    )
    shown_methods: MethodNames = setting(
        "figures", (PAPER_METHOD,), description="methods whose relevance by lag is drawn; each in a figure"
    )
    dpi: int = setting("figures", 150, description="resolution of the figures, dots per inch", ge=30, le=1200)

    @model_validator(mode="after")
    def _files(self) -> Self:
        if self.source == "netcdf" and self.source_file is None:
            raise ValueError("source 'netcdf' reads a file; set source_file")
        needed = (self.grid_folder, self.mds_time_step, self.mds_start)
        if self.mds_name is not None and (self.source != "llc" or None in needed):
            raise ValueError(
                "mds_name: MDS files need source=llc, grid_folder, mds_time_step and mds_start; set them"
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("target_box", "source_box"):
            south, north, *_ = getattr(self, name)
            if south > north:
                raise ValueError(f"{name}: south ({south:g}) lies north of north ({north:g})")
        if self.latitudes[0] >= self.latitudes[1]:
            raise ValueError("latitudes: the southern limit must lie south of the northern one")
        if self.running_mean % 2 == 0:
            raise ValueError(f"running_mean {self.running_mean} must be odd, to be centred on a date")
        if self.input_bounds is not None and self.input_bounds[0] >= self.input_bounds[1]:
            raise ValueError("input_bounds: the first must lie below the second")
        if not set(self.shown_methods) <= set(self.methods):
            raise ValueError(
                "shown_methods names one that is not among methods; name those to draw as methods does"
            )
        return self


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "lag": (0, 3),
        "epochs": 100,
        "halved_every": 20,
        "methods": (PAPER_METHOD, "lrp.epsilon(bias=ignore)", "random"),
        "optimal_iterations": 2000,
        "dpi": 100,
    },
    "standard": {},
    "paper": {
        "source": "llc",
        "target_place": (50.0, 234.0),
        "running_mean": 61,
        "lag": (-60, -30, 0, 30, 60, 90, 120, 150, 180),
        "test_share": 0.192,
        "split": (SHUFFLED,),
    },
}


def cases(settings: XairtSSTSettings) -> dict[str, dict[str, Any]]:
    """Return one case for each lag and split, by rising lag.

    Examples
    --------
    >>> list(cases(XairtSSTSettings(lag=(3, -2), split="blocked")))
    ['lag-2.blocked', 'lag3.blocked']
    """
    return {
        f"lag{lag}.{split}": {"lag": lag, "split": split}
        for lag in sorted(settings.lag)
        for split in settings.split
    }
