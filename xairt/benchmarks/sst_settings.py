"""Settings that all benchmarks on SST-like fields and known functions have."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from xairt.fields.anomaly import MISSING_ABOVE
from xairt.runs import RunConfig, setting


class SSTSettings(RunConfig):
    """Source, known function, and the network of Mamalakis et al. (2022) with its training."""

    source: Literal["analytic", "correlation", "netcdf"] = setting(
        "generate",
        "analytic",
        description="where the SST correlation comes from: an analytic function, a matrix file (.npz), or the "
        "anomalies of a field (netCDF)",
    )
    source_file: str | None = setting(
        "generate",
        None,
        description="path, URL or registered name of the source's file; by default the registered one, if any",
    )
    variable: str | None = setting(
        "generate", None, description="field of a netCDF source, where it holds several"
    )
    step: int | None = setting(
        "generate",
        None,
        description="every n-th row and column of a netCDF source is taken; by default as many as make 10 degrees",
        ge=1,
    )
    missing_above: float | None = setting(
        "generate",
        MISSING_ABOVE,
        description="larger magnitudes of a netCDF source are missing, in its units; null: none is",
        gt=0,
    )
    seed: int = setting(
        "generate",
        0,
        description="seed of samples, known function, initial weights, order and noise",
        ge=0,
    )
    n_breakpoints: int = setting(
        "generate", 5, description="breakpoints of each cell's function, 0 among them; 0: linear", ge=0, le=50
    )
    test_share: float = setting(
        "train", 0.1, description="share of the samples, the last ones, kept for testing", gt=0, le=0.5
    )
    hidden_units: tuple[Annotated[int, Field(ge=1)], ...] = setting(
        "train",
        (512, 256, 128, 64, 32, 16),
        description="neurons of the network's hidden dense layers, from the input",
        min_length=1,
    )
    epochs: int = setting("train", 50, description="passes over the training samples", ge=1)
    batch_size: int = setting("train", 32, description="samples per training step", ge=1)
    dpi: int = setting("figures", 150, description="resolution of the figures, dots per inch", ge=30, le=1200)

    @model_validator(mode="after")
    def _fitting_file(self) -> Self:
        if self.source == "netcdf" and self.source_file is None:
            raise ValueError("source 'netcdf' needs a file; set source_file")
        if self.source == "analytic" and self.source_file is not None:
            raise ValueError("source 'analytic' reads no file; set source to what source_file is")
        return self
