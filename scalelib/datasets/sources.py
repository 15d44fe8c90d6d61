"""Where data sets and weight files lie on this machine, where they come from, and how they are brought.

The addresses stand in ``assets/sources.yaml``. Knows files and servers; must not know what the files mean.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import h5py
import platformdirs
import yaml

from scalelib.errors import WeightsError, did_you_mean, refusing, require
from scalelib.results import digest_file, has_digest, is_file, locked, read_bytes, write_atomic

PathLike = str | os.PathLike[str]
DIGESTS = "digests.json"  # of everything that was downloaded
TIMEOUT = (15, 60)  # seconds for a connection, and for the next bytes


def data_root(path: str | os.PathLike[str] | None = None) -> Path:
    """The folder of data sets and ``weights/``: as given, else ``SCALELIB_DATA``, else the user's cache folder."""
    chosen = path or os.environ.get("SCALELIB_DATA") or platformdirs.user_cache_dir("scalelib")
    return Path(chosen).expanduser()


def keras_home() -> Path:
    """Keras's own cache: ``KERAS_HOME``, else ``~/.keras``; its weight files lie in ``models/``."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()


def find_weights(
    filename: PathLike, *, root: PathLike | None = None, checksum: str | None = None, advice: str = ""
) -> Path:
    """A weight file, undamaged, by path, or by bare name in the data root's ``weights/`` and then in Keras's ``models/``."""
    given = Path(filename).expanduser()
    places = [given]
    if given.name == str(filename):
        places = [data_root(root) / "weights" / given.name, keras_home() / "models" / given.name]
    found = [place for place in places if is_file(place)]
    others = (path.name for place in (given, *places) for path in place.parent.glob("*"))
    near = did_you_mean(given.name, others)
    received = f"looked for {', '.join(map(str, places))}"
    advice = advice or f"{near} Put it there, give its full path, or run 'scalelib fetch'".strip()
    require(found, "find_weights", f"there is no file {given.name}", received, advice, error=WeightsError)
    known = checksum or {Path(one.target).name: one.checksum for one in SOURCES.values()}.get(given.name)
    rule, received = f"{given.name} is damaged", f"{found[0]}, whose digest is not {known}"
    require(has_digest(found[0], known), "find_weights", rule, received, "Bring it again", error=WeightsError)
    return found[0]


def is_whole(path: Path, checksum: str | None = None) -> bool:
    """Whether a file has its checksum; an HDF5 file that was cut short does not open."""
    try:
        readable = path.suffix != ".h5" or bool(h5py.File(path))
    except OSError:
        return False
    return readable and has_digest(path, checksum)


@dataclass(frozen=True)
class Source:
    """One thing that can be fetched from `url`, or, where that is None, has to be asked for at `page`.

    It lies at `target` below the data root (`store` ``"keras"``: Keras's cache): a file, or a folder that an
    archive's folder `inside` becomes. A folder is whole if `marker`, which is placed last, is in it.
    """

    name: str
    title: str
    licence: str
    target: str
    page: str
    url: str | None = None
    checksum: str | None = None  # "md5:…" or "sha256:…" as published
    megabytes: int | None = None  # of the download
    inside: str = "."
    marker: str = "."
    store: str = "data"

    def home(self, root: str | os.PathLike[str] | None = None) -> Path:
        """The folder that `target` is meant from."""
        return keras_home() if self.store == "keras" else data_root(root)

    @property
    def is_archive(self) -> bool:
        """Whether what is downloaded has to be unpacked."""
        return (self.url or "").endswith((".tar", ".tgz", ".zip"))

    def is_present(self, root: str | os.PathLike[str] | None = None) -> bool:
        """Whether it is there and whole; a single file must have its checksum."""
        place = self.home(root) / self.target / self.marker
        if place.is_dir():
            return any(place.iterdir())
        return place.is_file() and (self.is_archive or is_whole(place, self.checksum))

    def how(self, root: str | os.PathLike[str] | None = None) -> str:
        """What to do to get it."""
        by_hand = f"get it from {self.page} and put it at {self.home(root) / self.target}"
        return f"scalelib fetch {self.name}" if self.url else by_hand

    def bring(self, root: str | os.PathLike[str] | None = None) -> Path:
        """Bring it to its place, if it is not there yet, whole and checked, or raise :class:`DataError`.

        A broken download starts anew. Every digest is recorded; a source whose makers publish none is compared
        with that record from the second download on.
        """
        place = self.home(root) / self.target
        if self.is_present(root):
            return place
        advice = f"Get it from {self.page} and put it at {place}"
        require(self.url, "fetch", f"{self.name} must be asked for by hand", self.licence, advice)
        read_records(self.home(root))  # refused before anything is downloaded
        rule = f"{self.name} did not arrive, whole and as it should be"
        with refusing("fetch", rule, self.url, f"Nothing was placed. Try again later. {advice}"):
            _download(self, str(self.url), self.home(root))
        return place


_TABLE = resources.files("scalelib").joinpath("assets", "sources.yaml").read_text("utf-8")
SOURCES = {name: Source(name=name, **entry) for name, entry in yaml.safe_load(_TABLE).items()}


def find_source(name: str) -> Source:
    """A source by its name."""
    advice = f"{did_you_mean(name, SOURCES)} Sources are {', '.join(SOURCES)}".strip()
    require(name.lower() in SOURCES, "fetch", f"no source {name!r}", repr(name), advice)
    return SOURCES[name.lower()]


def read_records(store: Path) -> dict[str, dict[str, str]]:
    """What was downloaded to a folder: digest, address and date by name of the source."""
    file = store / DIGESTS
    with refusing(
        "fetch", f"{DIGESTS} is damaged", file, "Delete it: it is written again by the next download"
    ):
        records = json.loads(read_bytes(file)) if is_file(file) else {}
        return {name: dict(entry) for name, entry in records.items()}


def _download(source: Source, url: str, store: Path) -> None:
    import pooch  # where it is needed: with it comes tqdm.auto, which warns in a notebook without widgets

    store.mkdir(parents=True, exist_ok=True)
    name = url.rsplit("/", 1)[-1]
    known = source.checksum or read_records(store).get(source.name, {}).get("sha256")
    pooch.get_logger().setLevel("ERROR")
    with tempfile.TemporaryDirectory(dir=store, prefix=".fetch.") as folder:
        manager = pooch.Pooch(Path(folder), "", {name: known}, {name: url}, retry_if_failed=3)
        how = {"progressbar": sys.stderr.isatty(), "headers": {"Accept-Encoding": "identity"}}
        content = marker = Path(manager.fetch(name, downloader=pooch.HTTPDownloader(timeout=TIMEOUT, **how)))
        entry = {"sha256": digest_file(content), "url": url, "date": datetime.now(UTC).strftime("%Y-%m-%d")}
        if source.is_archive:  # a name that leads outside is refused in a tar, and passed over in a zip
            safely: dict[str, Any] = {} if name.endswith(".zip") else {"filter": "data"}
            shutil.unpack_archive(content, Path(folder) / "content", **safely)
            content = Path(folder) / "content" / source.inside
            marker = content / source.marker
            layout = f"the archive holds no {source.inside}/{source.marker}: it has another layout"
            require(marker.exists() and any(content.iterdir()), "fetch", layout)
        with locked(store):  # others may bring the same, or something else, at the same time
            _place(content, store / source.target, last=marker)
            records = read_records(store) | {source.name: entry}
            write_atomic(store / DIGESTS, json.dumps(records, indent=1, sort_keys=True).encode() + b"\n")


def _place(content: Path, target: Path, *, last: Path) -> None:
    """Move a file or folder to where it belongs: at once, or file by file into what is there, the marker last."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if content.is_file() or not target.exists() or not any(target.iterdir()):
        content.replace(target)
        return
    for path in sorted(content.rglob("*"), key=lambda path: path == last):
        if path.is_file():
            (target / path.relative_to(content)).parent.mkdir(parents=True, exist_ok=True)
            path.replace(target / path.relative_to(content))
