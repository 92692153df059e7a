"""Archived data by name and hash.

A file is looked for in the folder named by ``XAIRT_DATA_DIR`` (by its SHA-256, whatever its name), then in
the cache (``XAIRT_CACHE_DIR``, else the platform's cache folder), then downloaded and verified. Nothing is
downloaded or created on import.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from xairt.data.files import atomic_write
from xairt.data.provenance import sha256_of, utc_time
from xairt.errors import DataError, reason_of, suggest

if TYPE_CHECKING:
    from rich.progress import Progress

DATA_VARIABLE = "XAIRT_DATA_DIR"
CACHE_VARIABLE = "XAIRT_CACHE_DIR"
TIMEOUT_SECONDS = 30
_CHUNK_BYTES = 1 << 18
_INDEX = "SHA256SUMS"
_INDEX_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One archived file.

    Parameters
    ----------
    name : str
        Name it is asked for by.
    url : str
        Where it is downloaded from.
    filename : str
        Name of the file in the cache.
    sha256 : str or None
        64 hexadecimal digits; None where the publisher states none: then the hash of the first download is
        recorded beside the cached file and every later use is verified against it.
    size : int or None
        Bytes.
    licence, citation, description : str
        Terms of use, what to cite, and what the file holds.
    """

    name: str
    url: str
    filename: str
    sha256: str | None
    size: int | None
    licence: str
    citation: str
    description: str


_MAMALAKIS = (
    "Mamalakis, Ebert-Uphoff and Barnes (2022), Environmental Data Science 1, e8, doi:10.1017/eds.2022.7"
)
_KRELL = (
    "Krell et al. (2025), https://github.com/ekrell/geoscience-attribution-benchmarks; "
    "COBE-SST2: Hirahara, Ishii and Fukuda (2014), J. Climate 27, 57-75, doi:10.1175/JCLI-D-12-00837.1"
)
_GITHUB_RAW = "https://raw.githubusercontent.com"

_TABLE = (
    Entry(
        name="mamalakis2022-sst",
        url="https://github.com/amamalak/Neural-Network-Attribution-Benchmark-for-Regression/raw/master/my_model.h5",
        filename="mamalakis2022_sst_my_model.h5",
        sha256="7b8747ba1ca5415909ebb02626e17fbc4b421c9c9c030c1de6c9378d2b5303f7",
        size=3_323_360,
        licence="MIT",
        citation=_MAMALAKIS,
        description="Pretrained SST regression network, 458 inputs, Keras 2.2.4",
    ),
    Entry(
        name="mamalakis2022-samples",
        url="https://data.source.coop/csu/synthetic-attribution/synth_exm_data.nc",
        filename="synth_exm_data.nc",
        sha256=None,
        size=None,
        licence="see https://source.coop/csu/synthetic-attribution",
        citation=_MAMALAKIS,
        description="1,000,000 synthetic SST anomaly maps with contributions, outputs and slopes",
    ),
    Entry(
        name="krell2025-cobe-correlation",
        url=f"{_GITHUB_RAW}/ekrell/geoscience-attribution-benchmarks/"
        "d09d86f0737fe59ced7cc3629d6dd41dad33508f/benchmarks/unicov/sstanom_cov.npz",
        filename="krell2025_cobe_sstanom_cov.npz",
        sha256="d9f7b407c95caf68ffd82dc7ec8b3b09db6ce236141aa40d058c00ed4314102b",
        size=1_693_962,
        licence="CC0-1.0",
        citation=_KRELL,
        description="COBE-SST2 anomaly covariance (460, 460) and ocean mask (18, 36) of every 10th cell: "
        "latitudes 89.5 .. -80.5, longitudes 0.5 .. 350.5",
    ),
    Entry(
        name="ams2019-storm-cnn",
        url=f"{_GITHUB_RAW}/djgagne/ams-ml-python-course/"
        "6293b707e8850b547ade4f83364731f32873840b/module_3/conv_model.h5",
        filename="ams2019_storm_conv_model.h5",
        sha256="7439fdb31cfe885f9857f13b904623caef778e23b434b34346076174fd8e6ce1",
        size=252_200,
        licence="MIT",
        citation="Gagne et al. (2019), AMS short course, https://github.com/djgagne/ams-ml-python-course",
        description="Storm rotation classifier, CNN 32 x 32 x 3, Keras 2.2.0",
    ),
)


def entries() -> tuple[Entry, ...]:
    """Return every registered file, in the order of the table.

    Returns
    -------
    tuple of Entry

    Examples
    --------
    >>> entries()[0].name
    'mamalakis2022-sst'
    """
    return _TABLE


def cache_dir() -> Path:
    """Return the cache folder (``XAIRT_CACHE_DIR``, else the platform's); it is not made here.

    Returns
    -------
    pathlib.Path
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("xairt"))


def path(name: str, *, download: bool = True, progress: bool = False) -> Path:
    """Return the verified local file of a registered name.

    Parameters
    ----------
    name : str
        A name of `entries`.
    download : bool
        Fetch the file when it is neither in ``XAIRT_DATA_DIR`` nor in the cache.
    progress : bool
        Show a progress bar while downloading, if the output is a terminal.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    DataError
        If the name is unknown, the file is not here and ``download`` is False, or the download fails or
        does not have the registered hash.
    """
    entry = _entry(name)
    local = _in_data_dir(entry)
    if local is not None:
        return local
    return _cached_or_downloaded(entry, download=download, progress=progress)


def fetch(name: str, *, progress: bool = False) -> Path:
    """Make sure that a registered file is here, downloading it if needed: `path` with ``download=True``.

    Parameters
    ----------
    name : str
        A name of `entries`.
    progress : bool
        Show a progress bar while downloading, if the output is a terminal.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    DataError
        As `path`.
    """
    return path(name, download=True, progress=progress)


def resolve(source: str | os.PathLike[str], *, progress: bool = False) -> Path:
    """Turn a path, a registered name or an http(s) URL into a local file.

    Parameters
    ----------
    source : str or path
        An existing path is returned as it is, also a folder. A URL is downloaded once into the cache; its
        hash is recorded then and verified at every later use.
    progress : bool
        Show a progress bar while downloading, if the output is a terminal.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    DataError
        If it is none of the three, or the download fails.
    """
    if Path(source).exists():
        return Path(source)
    text = os.fspath(source)
    if urlparse(text).scheme in ("http", "https"):
        return _cached_or_downloaded(_url_entry(text), download=True, progress=progress)
    names = [entry.name for entry in entries()]
    if text in names:
        return path(text, progress=progress)
    hint = suggest(text, names).rstrip("?")
    raise DataError(f"{text}: neither a file nor a known name{hint}; see `xairt data list`")


def _entry(name: str) -> Entry:
    for entry in entries():
        if entry.name == name:
            return entry
    hint = suggest(name, [entry.name for entry in entries()]).rstrip("?")
    raise DataError(f"{name}: not a registered name{hint}; see `xairt data list`")


def _url_entry(url: str) -> Entry:
    """Describe a file that is known by its URL alone; the suffix stays, since readers go by it."""
    basename = PurePosixPath(unquote(urlparse(url).path)).name or "file"
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", basename)
    key = hashlib.sha256(url.encode()).hexdigest()[:12]
    return Entry(url, url, f"{key}-{safe}", None, None, "unknown", url, "given by URL")


def _in_data_dir(entry: Entry) -> Path | None:
    """Find the file in ``XAIRT_DATA_DIR`` by hash; by name only where no hash is known."""
    chosen = os.environ.get(DATA_VARIABLE)
    if not chosen:
        return None
    folder = Path(chosen).expanduser()
    if not folder.is_dir():
        raise DataError(f"{DATA_VARIABLE}={chosen}: no such folder; correct or unset it")
    sha256 = _known_hash(entry)
    if sha256 is None:
        return next((found for found in sorted(folder.rglob(entry.filename)) if found.is_file()), None)
    for candidate in _candidates(folder, sha256, entry.size):
        if _has_hash(candidate, sha256):
            return candidate
    return None


def _candidates(folder: Path, sha256: str, size: int | None) -> Iterator[Path]:
    """Yield what the index lists under this hash, then every file of the right size."""
    index = folder / _INDEX
    if index.is_file():
        for line in index.read_text(encoding="utf-8", errors="replace").splitlines():
            match = _INDEX_LINE.fullmatch(line.strip())
            if match and match[1].lower() == sha256 and (folder / match[2]).is_file():
                yield folder / match[2]
    for parent, _, names in os.walk(folder):
        for name in sorted(names):
            candidate = Path(parent, name)
            if candidate.is_file() and size in (None, candidate.stat().st_size):
                yield candidate


def _has_hash(file: Path, sha256: str) -> bool:
    return _current_hash(file) == sha256


def _current_hash(file: Path) -> str:
    status = file.stat()
    return _hash_of_state(str(file), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _hash_of_state(file: str, size: int, modified: int) -> str:
    """Hash a file once per process and state: the archive of samples has gigabytes."""
    return sha256_of(file)


def _record_path(cached: Path) -> Path:
    return cached.with_name(f"{cached.name}.sha256.json")


def _known_hash(entry: Entry) -> str | None:
    """Return the registered hash, else the one recorded at the first download."""
    if entry.sha256 is not None:
        return entry.sha256
    record = _record_path(cache_dir() / entry.filename)
    try:
        return str(json.loads(record.read_text(encoding="utf-8"))["sha256"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{record}: not a hash record; delete it and fetch {entry.name} again") from error


def _record_hash(entry: Entry, cached: Path) -> None:
    record = {
        "url": entry.url,
        "sha256": _current_hash(cached),
        "size": cached.stat().st_size,
        "recorded": utc_time(),
    }
    with atomic_write(_record_path(cached)) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _cached_or_downloaded(entry: Entry, *, download: bool, progress: bool) -> Path:
    cached = cache_dir() / entry.filename
    sha256 = _known_hash(entry)
    if cached.is_file():
        if sha256 is None:
            _record_hash(entry, cached)
            return cached
        if _has_hash(cached, sha256):
            return cached
        _log.warning("%s: the cached file %s is damaged", entry.name, cached)
    if not download:
        raise DataError(f"{entry.name}: not on this machine; fetch it with `xairt data fetch {entry.name}`")
    _download(entry, cached, sha256, progress)
    if sha256 is None:
        _record_hash(entry, cached)
    return cached


def _download(entry: Entry, cached: Path, sha256: str | None, progress: bool) -> None:
    """Fetch to a temporary file, verify, rename; a failure leaves the cache as it was."""
    import pooch

    _log.info("downloading %s to %s", entry.url, cached)
    with atomic_write(cached) as temporary, _download_bar(entry, progress) as bar:
        downloader = pooch.HTTPDownloader(progressbar=bar, chunk_size=_CHUNK_BYTES, timeout=TIMEOUT_SECONDS)
        try:
            downloader(entry.url, str(temporary), None)
        except Exception as error:  # requests, urllib3 and the socket each raise their own kinds
            raise _failed(entry, _reason(error)) from error
        size = temporary.stat().st_size
        if entry.size is not None and size != entry.size:
            raise _failed(entry, f"got {size} bytes instead of {entry.size}")
        if sha256 is not None and (found := sha256_of(temporary)) != sha256:
            raise _failed(entry, f"got SHA-256 {found} instead of {sha256}")


def _failed(entry: Entry, reason: str) -> DataError:
    remedy = f"download it by hand, put it into a folder and set {DATA_VARIABLE} to that folder"
    if entry.name == entry.url:
        return DataError(f"{entry.url}: download failed: {reason}; download it by hand and give its path")
    return DataError(f"{entry.name}: download of {entry.url} failed: {reason}; {remedy}")


def _reason(error: Exception) -> str:
    """Say in a few words why a download failed."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return f"no answer within {TIMEOUT_SECONDS} s"
    if "IncompleteRead" in str(error):
        return "the connection broke off before the end"
    if isinstance(error, requests.ConnectionError):
        return "no connection to the server"
    return reason_of(error, 160)


@contextmanager
def _download_bar(entry: Entry, progress: bool) -> Iterator[_RichBar | bool]:
    """Give a progress bar on standard error, or False where nothing shall be or can be shown."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not (progress and console.is_terminal):
        yield False
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as shown:
        yield _RichBar(shown, entry.filename)


class _RichBar:
    """A rich progress bar that speaks pooch's protocol (``total``, ``update``, ``reset``, ``close``)."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._task = progress.add_task(label, total=None)
        self.total = 0

    def update(self, n_bytes: int) -> None:
        self._progress.update(self._task, advance=n_bytes, total=self.total or None)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        self._progress.refresh()
