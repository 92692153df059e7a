"""The command line: files in, files out, and one line for every mistake."""

from __future__ import annotations

import errno
import json
import re
import shlex
import subprocess
import sys
import typing
from pathlib import Path

import matplotlib.image
import networks
import numpy as np
import pytest
import xarray as xr

import xairt
from xairt import Grid, attribute, cli
from xairt.attribution.explainer import ENGINES
from xairt.attribution.registry import METHODS
from xairt.cli_arguments import parse_selection, with_parameters
from xairt.conventions import CONVENTIONS
from xairt.data.registry import entries
from xairt.errors import DataError, MethodError

pytestmark = pytest.mark.usefixtures("run_eagerly")

MASK = np.array([[0, 1, 1, 0], [1, 1, 0, 1], [0, 1, 0, 1]], bool)
GRID = Grid(MASK, [30.0, 0.0, -30.0], [0.0, 90.0, 180.0, 270.0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a model, samples as maps and as vectors, a grid, baselines and broken files."""
    place = tmp_path_factory.mktemp("files")
    model = networks.mlp()
    model.save(place / "model.keras")
    x = networks.samples(model, 6)
    coords = {"time": np.arange(6.0), "lat": GRID.lat, "lon": GRID.lon}
    maps = xr.DataArray(GRID.to_map(x), coords, ("time", "lat", "lon"), name="sst")
    maps.to_netcdf(place / "maps.nc")
    xr.Dataset({"sst": maps, "other": 2 * maps}).to_netcdf(place / "two.nc")
    maps.where(maps < 1).to_netcdf(place / "holes.nc")
    GRID.to_dataset().to_netcdf(place / "grid.nc")
    Grid(MASK[:2], GRID.lat[:2], GRID.lon).to_dataset().to_netcdf(place / "small_grid.nc")
    np.save(place / "vectors.npy", x)
    np.save(place / "baseline.npy", x[:2] / 2)
    np.save(place / "narrow.npy", x[:, :3])
    (place / "broken.nc").write_bytes(b"CDF no more")
    (place / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n and nothing")
    return place


def attributed(run, options: str, data: str = "vectors.npy") -> xr.Dataset:
    code, out, err = run(f"attribute {{}}/model.keras {{}}/{data} -o out.nc {options}")
    assert (code, err) == (0, "")
    assert out.startswith("out.nc: ")
    with xr.open_dataset("out.nc") as dataset:
        return dataset.load()


def direct(folder, method, x=None, **options) -> xr.Dataset:
    x = np.load(folder / "vectors.npy") if x is None else x
    return attribute(xairt.load_model(folder / "model.keras"), x, method, **options)


# --------------------------------------------------------------------------- attribute and map


def test_attribute_then_map(run, folder, tmp_path):
    out = attributed(run, "-m lrp.alpha_1_beta_0 -m gradient --select time=0:3", "maps.nc")
    with xr.open_dataarray(folder / "maps.nc") as field:
        want = direct(folder, ["lrp.alpha_1_beta_0", "gradient"], field[:3].load())
    np.testing.assert_array_equal(out.attribution, want.attribution)
    np.testing.assert_array_equal(out.completeness_gap, want.completeness_gap)
    assert out.attribution.dims == ("method", "time", "lat", "lon")
    assert list(out.method.values) == ["lrp.alpha_1_beta_0", "gradient"]
    code, text, err = run("map out.nc -o maps.png --sample 0 --sample 2 --method gradient")
    assert (code, text, err) == (0, "maps.png\n", "")
    picture = matplotlib.image.imread("maps.png")
    assert min(picture.shape[:2]) > 300
    assert len(np.unique(picture[..., :3].reshape(-1, 3), axis=0)) > 100
    assert sorted(p.name for p in tmp_path.iterdir()) == ["maps.png", "out.nc"]


def test_output_file_is_described(run):
    line = "attribute {}/model.keras {}/maps.nc -o 'my out.nc' -m 'lrp.epsilon(epsilon=0.5)' --target 1"
    assert run(line)[0] == 0
    with xr.open_dataset("my out.nc") as out:
        assert out.Conventions.startswith("CF-1.")
        assert out.title.startswith("Attribution of ")
        assert out.source == f"xairt {xairt.__version__}"
        assert out.lat.standard_name == "latitude"
        assert out.lon.units == "degrees_east"
        assert out.attribution.long_name
        written = out.history.split(": ", 1)[1]
        assert shlex.split(written)[0] == "xairt"
        assert shlex.split(written)[4:] == shlex.split(line)[3:]
        identity = json.loads(out.identities)["lrp.epsilon(epsilon=0.5)"]
        assert (identity["target"], identity["parameters"]["epsilon"]) == ("1", 0.5)
        assert np.isnan(out.attribution.values[:, :, ~MASK]).all()


def test_parameters_target_baseline_and_seed(run, folder):
    options = (
        "-m integrated_gradients -m smoothgrad -m gradient --param integrated_gradients.steps=7 --param smoothgrad.augment_by_n=3"
        " --param smoothgrad.noise_scale=0.5 --target 2 --seed 4 --batch-size 2 --dtype float64"
    )
    methods = ["integrated_gradients(steps=7)", "smoothgrad(augment_by_n=3, noise_scale=0.5)", "gradient"]
    shared = {"target": 2, "seed": 4, "batch_size": 2, "dtype": "float64"}
    for given, baseline in (("0.25", 0.25), ("{}/baseline.npy", np.load(folder / "baseline.npy"))):
        out = attributed(run, f"{options} --baseline {given}")
        want = direct(folder, methods, baseline=baseline, **shared)
        np.testing.assert_array_equal(out.attribution, want.attribution)
        assert list(out.method.values) == methods
        assert out.attribution.dtype == np.float64


def test_parameters_join_those_in_the_name(run):
    out = attributed(run, "-m 'lrp.epsilon(epsilon=0.5)' --param lrp.epsilon.bias=ignore")
    identity = json.loads(out.identities)['lrp.epsilon(epsilon=0.5, bias="ignore")']
    assert identity["form"] == 'lrp.epsilon(input_layer_rule=None, bias="ignore", epsilon=0.5)'


@pytest.mark.parametrize("place", ["rules.yaml", "my-rules/0 1.yaml", "{tmp}/rules.yaml"])
def test_composite_rules_come_from_a_file(run, folder, tmp_path, place):
    file = Path(place.replace("{tmp}", str(tmp_path)))
    file.parent.mkdir(exist_ok=True)
    file.write_text("- {layer: last, rule: epsilon(epsilon=0.5)}\n- {index: 0, rule: flat}", encoding="utf-8")
    out = attributed(
        run, f"-m lrp.composite '--param=lrp.composite.rules={file}' --param lrp.composite.default=z_plus"
    )
    given = [{"layer": "last", "rule": "epsilon(epsilon=0.5)"}, {"index": 0, "rule": "flat"}]
    want = direct(folder, "lrp.composite", rules=given, default="z_plus")
    np.testing.assert_array_equal(out.attribution[0], want.attribution)
    assert json.loads(out.identities) == json.loads(want.identities)


def test_rules_are_shown_before_the_work(run):
    code, out, err = run(
        "attribute {}/model.keras {}/vectors.npy -o out.nc --show-rules -m gradient -m lrp.alpha_2_beta_1 "
        "-m 'lrp.z(input_layer_rule=Flat)' --convention innvestigate"
    )
    assert (code, err) == (0, "")
    titles = [
        out.index(text) for text in ("lrp.alpha_2_beta_1", "lrp.z(input_layer_rule", "out.nc: 3 method(s)")
    ]
    assert titles == sorted(titles)
    first, second = out[: titles[1]], out[titles[1] :]
    assert first.count("alpha_beta(alpha=2, beta=1, bias=innvestigate)") == 3
    assert second.count("z(bias=canonical)") == 2
    assert second.count("flat") == 1
    assert [first.count(shape) for shape in ("(11,)", "(6,)", "(3,)")] == [1, 1, 1]


def test_rules_of_a_method_without_any_are_refused(run, tmp_path):
    code, out, err = run("attribute {}/model.keras {}/vectors.npy -o out.nc --show-rules -m gradient")
    assert (code, out) == (2, "")
    assert err == "xairt: gradient puts no rules on layers: only the native lrp methods and deep_taylor do\n"
    assert not list(tmp_path.iterdir())


def test_inspect_shows_the_rules_of_a_method(run):
    code, out, err = run("inspect {}/model.keras --rules lrp.sequential_preset_a --convention innvestigate")
    assert (code, err) == (0, "")
    assert out.count("epsilon(epsilon=0.1, bias=innvestigate)") == 3
    assert run("inspect {}/model.keras --rules lrp.nothing")[0] == 2


def test_convention_goes_to_the_methods_that_have_it(run):
    out = attributed(run, "-m lrp.alpha_2_beta_1 -m gradient --convention innvestigate")
    identities = json.loads(out.identities)
    assert [identities[m]["convention"] for m in out.method.values] == ["innvestigate", None]


def test_grid_variable_and_selection(run, folder):
    out = attributed(run, "-m gradient --grid {}/grid.nc")
    np.testing.assert_array_equal(
        out.attribution.values[0], GRID.to_map(direct(folder, "gradient").attribution.values)
    )
    part = attributed(run, "-m gradient --variable other --select time=4: --grid {}/grid.nc", "two.nc")
    want = direct(folder, "gradient", 2 * np.load(folder / "vectors.npy")[4:])
    np.testing.assert_allclose(part.attribution.values[0], GRID.to_map(want.attribution.values), rtol=1e-6)
    np.testing.assert_array_equal(part.time, [4.0, 5.0])


def test_existing_output_is_replaced_whole(run):
    first = attributed(run, "-m gradient")
    second = attributed(run, "-m saliency")
    np.testing.assert_array_equal(second.attribution, abs(first.attribution))
    before = Path("out.nc").read_bytes()
    assert run("attribute {}/model.keras {}/narrow.npy -o out.nc -m gradient")[0] == 2
    assert Path("out.nc").read_bytes() == before


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
def test_full_disk_leaves_nothing_behind(run, monkeypatch, error):
    def full(self, path, **options):
        Path(path).write_bytes(b"half a file")
        raise OSError(error, "No room")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", full)
    code, out, err = run("attribute {}/model.keras {}/vectors.npy -o out.nc -m gradient")
    assert (code, out) == (2, "")
    assert err == "xairt: out.nc: cannot be written (No room); check the place and its free space\n"
    assert list(Path().iterdir()) == []


# --------------------------------------------------------------------------- the other commands


def test_inspect(run):
    code, out, err = run("inspect {}/model.keras")
    assert (code, err) == (0, "")
    assert "Sequential" in out
    assert "lrp" in out


def test_methods_and_conventions(run):
    out = run("methods")[1]
    assert all(name in out for name in METHODS)
    full = run("methods --full")[1]
    assert "epsilon" in full
    assert "doi:10.1371" in "".join(full.split())
    out = run("methods --conventions")[1]
    assert all(name in out for name in CONVENTIONS)


def test_data_list_and_path(run, monkeypatch, tmp_path):
    out = run("data list")[1]
    assert all(entry.name in out for entry in entries())
    monkeypatch.delenv("XAIRT_DATA_DIR", raising=False)
    monkeypatch.setenv("XAIRT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("xairt.data.registry.path", lambda name, download: f"/somewhere/{name}")
    assert run("data path mamalakis2022-sst") == (0, "/somewhere/mamalakis2022-sst\n", "")


def test_path_of_archived_data(run, data_dir):
    code, out, err = run("data path mamalakis2022-sst")
    assert (code, err) == (0, "")
    assert Path(out.strip()).is_file()


def test_version_and_help(run):
    assert run("--version") == (0, f"xairt {xairt.__version__}\n", "")
    out = run("--help")[1]
    assert all(command in out for command in ("attribute", "map", "inspect", "methods", "data"))


# --------------------------------------------------------------------------- mistakes

GOOD = "attribute {}/model.keras {}/vectors.npy -o out.nc "
MISTAKES = {
    GOOD + "-m gradeint": "unknown method 'gradeint'; did you mean 'gradient'",
    GOOD + "-m 'lrp.z('": "method 'lrp.z(' cannot be read",
    GOOD + "-m gradient -m lrp.zz": "unknown method 'lrp.zz'",
    GOOD
    + "-m gradient --param steps=3": "--param steps=3: write METHOD.key=value, with a method given by -m (gradient)",
    GOOD + "-m gradient --param lrp.z.bias=ignore": "--param lrp.z.bias=ignore: write METHOD.key=value",
    GOOD + "-m gradient --param gradient.steps=3": "gradient has no parameter 'steps'",
    GOOD + "-m lrp.z --param lrp.z.bias=a --param lrp.z.bias=b": "gives parameter 'bias' twice",
    GOOD + "-m lrp.epsilon --param lrp.epsilon.epsilon=-1": "parameter 'epsilon' = -1",
    GOOD + "-m gradient --target 3": "target 3 is out of range: the model has 3 output(s)",
    GOOD + "-m gradient --baseline 1": "gradient: no method here uses a baseline",
    GOOD + "-m integrated_gradients --baseline {}/narrow.npy": "baseline has shape (6, 3)",
    GOOD + "-m integrated_gradients --baseline nowhere.npy": "nowhere.npy: no such file",
    GOOD + "-m gradient --engine nativ": "unknown engine 'nativ'",
    GOOD + "-m gradient --dtype float16": "unknown dtype 'float16'",
    GOOD + "-m lrp.z --convention krell": "no method here has the convention 'krell'",
    GOOD + "-m gradient --select sample": "--select sample: write dimension=index or dimension=start:stop",
    GOOD + "-m gradient --select sample=a:b": "--select sample=a:b: write dimension=index",
    GOOD + "-m gradient --select time=0:2": "has no dimension 'time' to select from; it has sample",
    GOOD + "-m gradient --select sample=0:0": "none of the 6 entries of sample",
    GOOD + "-m gradient --select sample=9": "sample has 6 entries, not one at 9",
    GOOD + "-m gradient --grid nowhere.nc": "nowhere.nc: no such file",
    GOOD + "-m gradient --grid {}/small_grid.nc": "the grid has 5 valid cells, but the model takes 7 inputs",
    "attribute {}/model.keras {}/vectors.npy -o out.png -m gradient": "out.png: unknown kind of output file: name it *.nc",
    "attribute {}/model.keras {}/vectors.npy -o out -m gradient": "out: unknown kind of output file",
    "attribute {}/model.keras nowhere.nc -o out.nc -m gradient": "nowhere.nc: no such file",
    "attribute {}/model.keras {}/two.nc -o out.nc -m gradient": "holds 2 variables (sst, other)",
    "attribute {}/model.keras {}/two.nc -o out.nc -m gradient --variable ssst": "did you mean 'sst'",
    "attribute {}/model.keras {}/broken.nc -o out.nc -m gradient": "broken.nc: damaged or not a netCDF file",
    "attribute {}/model.keras {}/holes.nc -o out.nc -m gradient": "NaN in some maps only",
    "attribute {}/model.keras {}/narrow.npy -o out.nc -m gradient": "x has shape (6, 3), but the model takes (samples, 7)",
    "attribute {}/model.keras {}/model.keras -o out.nc -m gradient": "unknown kind of file '.keras'; use .nc, .npz or .npy",
    "attribute nowhere.h5 {}/vectors.npy -o out.nc -m gradient": "nowhere.h5",
    "attribute {}/broken.h5 {}/vectors.npy -o out.nc -m gradient": "broken.h5",
    "inspect nowhere.h5": "nowhere.h5",
    "inspect {}/broken.h5": "broken.h5",
    "map nowhere.nc -o maps.png": "nowhere.nc: no such file",
    "map {}/maps.nc -o maps.nc": "maps.nc: unknown kind of output file: name it *.png or *.pdf",
    "map {}/broken.nc -o maps.png": "broken.nc: damaged or not a netCDF file",
    "map {}/maps.nc -o maps.png": "attribution",
    "data path mamalakis2022": "mamalakis2022",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_are_one_line_and_leave_nothing(run, line):
    code, out, err = run(line)
    assert (code, out) == (2, "")
    assert err.startswith("xairt: ")
    assert MISTAKES[line] in err
    assert err.count("\n") == 1
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("options", ["--sample 9", "--method gradeint", "--projection Flat", "--share cell"])
def test_mistakes_of_map(run, options):
    attributed(run, "-m gradient --grid {}/grid.nc --select sample=0:2")
    code, out, err = run(f"map out.nc -o maps.png {options}")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert [p.name for p in Path().iterdir()] == ["out.nc"]


@pytest.mark.parametrize(
    "line",
    [
        "attribute",
        "attribute {}/model.keras {}/vectors.npy -m gradient",
        GOOD,
        GOOD + "-m gradient --batch-size 0",
        GOOD + "-m gradient --seed -1",
        GOOD + "-m gradient --target a",
        GOOD + "-m gradient --no-such-option",
        "explain",
        "data",
    ],
)
def test_usage_errors_leave_with_2(run, line):
    code, out, err = run(line)
    assert code == 2
    assert "Usage" in out or "--help`" in err
    assert err.count("\n") <= 1
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("line", ["--debug inspect nowhere.h5", "inspect nowhere.h5 --debug"])
def test_debug_shows_the_traceback(run, line):
    code, _, err = run(line)
    assert code == 2
    assert err.startswith("Traceback (most recent call last):")
    assert err.splitlines()[-1].startswith("xairt: ")
    assert "Traceback" not in run(line.replace("--debug", ""))[2]


def test_interruption_leaves_with_130(run, monkeypatch):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("xairt.models.card.inspect_model", interrupt)
    assert run("inspect {}/model.keras") == (130, "", "")


def test_a_process_of_its_own(folder, tmp_path):
    program = [sys.executable, "-c", "from xairt.cli import main; main()"]
    files = [str(folder / "model.keras"), str(folder / "narrow.npy")]
    done = subprocess.run(
        [*program, "attribute", *files, "-o", "out.nc", "-m", "gradient"],
        cwd=tmp_path,
        env={"PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("xairt: x has shape (6, 3), but the model takes (samples, 7)")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.nc"))


# --------------------------------------------------------------------------- reading of options


def test_parameters_and_selections_are_read():
    assert with_parameters(["gradient", "lrp.z(bias=a)"], ["lrp.z.x=1", "lrp.z.y=(1, 2)"]) == [
        "gradient",
        "lrp.z(bias=a, x=1, y=(1, 2))",
    ]
    assert with_parameters(["lrp.z()"], ["lrp.z.x=1"]) == ["lrp.z(x=1)"]
    assert parse_selection(["a=:5", "b = 2", "c=1:9:2", "d=-3:"]) == {
        "a": slice(None, 5),
        "b": 2,
        "c": slice(1, 9, 2),
        "d": slice(-3, None),
    }
    with pytest.raises(DataError, match="--select =3: write dimension=index"):
        parse_selection(["=3"])
    with pytest.raises(MethodError, match=r"--param lrp.z.x: write METHOD.key=value"):
        with_parameters(["lrp.z"], ["lrp.z.x"])


def test_help_of_the_engine_names_all():
    assert all(re.search(rf"\b{engine}\b", typing.get_args(cli.Engine)[1].help) for engine in ENGINES)


# --------------------------------------------------------------------------- what users run into


@pytest.mark.parametrize("option", ["", "-m integrated_gradients --baseline mine.nc", "--grid mine.nc"])
def test_output_never_replaces_an_input(run, folder, option):
    mine = Path("mine.nc")
    mine.write_bytes((folder / "maps.nc").read_bytes())
    data = "{}/maps.nc" if option else "mine.nc"
    code, _, err = run(f"attribute {{}}/model.keras {data} -m lrp.z -o ./mine.nc {option}")
    assert (code, err) == (2, "xairt: mine.nc: is an input of this command: name another output file\n")
    assert mine.read_bytes() == (folder / "maps.nc").read_bytes()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("frobnicate", "No such command 'frobnicate': see `xairt --help`"),
        ("attribute --bogus", "No such option: --bogus: see `xairt attribute --help`"),
        ("attribute a b -o c.nc", "Missing option '--method' / '-m': see `xairt attribute --help`"),
        ("attribute a b -m gradient -o c.nc --batch-size 0", "--batch-size"),
    ],
)
def test_wrong_calls_are_one_line(run, line, message):
    code, out, err = run(line)
    assert (code, out) == (2, "")
    assert err.startswith("xairt: ")
    assert err.count("\n") == 1
    assert message in err


def test_no_arguments_give_the_help(run):
    code, out, err = run("")
    assert (code, err) == (2, "")
    assert "Usage: xairt" in out


def test_samples_may_stand_last(run, folder):
    straight = attributed(run, "-m smoothgrad --grid {}/grid.nc", "maps.nc")
    with xr.open_dataset(folder / "maps.nc") as maps:
        maps.transpose("lat", "lon", "time").to_netcdf("last.nc")
    code, _, err = run("attribute {}/model.keras last.nc -m smoothgrad --grid {}/grid.nc -o out2.nc")
    assert (code, err) == (0, "")
    with xr.open_dataset("out2.nc") as out:
        np.testing.assert_array_equal(
            out.attribution.transpose(*straight.attribution.dims), straight.attribution
        )


def test_numpy_maps_with_a_grid(run, folder):
    with xr.open_dataset(folder / "maps.nc") as maps:
        np.save("maps.npy", maps.sst.values)
    labelled = attributed(run, "-m lrp.z --grid {}/grid.nc", "maps.nc")
    code, _, err = run("attribute {}/model.keras maps.npy -m lrp.z --grid {}/grid.nc -o out2.nc")
    assert (code, err) == (0, "")
    with xr.open_dataset("out2.nc") as out:
        np.testing.assert_array_equal(out.attribution.values, labelled.attribution.values)


def test_selected_samples_keep_their_noise(run):
    whole = attributed(run, "-m smoothgrad")
    part = attributed(run, "-m smoothgrad --select sample=2:5")
    np.testing.assert_array_equal(part.attribution.values, whole.attribution.isel(sample=slice(2, 5)).values)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "attribute {}/model.keras {}/vectors.npy -m gradient -o o.nc --select sample=0:4:0",
            "write dimension=index",
        ),
        (
            "attribute {}/model.keras {}/vectors.npy -m gradient -o o.nc --select sample=9:12",
            "none of the 6 entries of sample",
        ),
        ("attribute {}/model.keras {}/maps.nc -m gradient -o o.nc --select time=3", "--select sample=3:4"),
        (
            "attribute {}/model.keras {}/maps.nc -m gradient -o o.nc --grid {}/vectors.npy",
            "a numpy file, where a netCDF",
        ),
        ("attribute {}/model.keras {}/maps.nc -m LRP.Z -o o.nc", "did you mean 'lrp.z'?"),
        (
            "map {}/maps.nc -o o.png",
            "maps.nc: has no variable 'attribution': give a file written by `xairt attribute`",
        ),
        ("inspect {}/maps.nc", "holds no Keras model"),
    ],
)
def test_remedies_fit_the_command_line(run, line, message):
    code, _, err = run(line)
    assert code == 2
    assert err.count("\n") == 1
    assert message in err
    assert not list(Path().iterdir())
