"""Results on disk: tidy tables, and the card that says what they were made from, by which code, on which machine. Knows tables; knows no network, and of a machine neither paths nor names."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import yaml
from jinja2 import Template

from scalelib.errors import ResultsError, refusing, require

PACKAGES = (
    "scalelib", "keras", "tensorflow", "tensorflow-cpu", "torch", "jax", "numpy", "scipy", "pandas",
    "scikit-learn", "pillow", "h5py", "matplotlib", "openslide-python", "papermill",
)  # fmt: skip
CODE = ("scalelib", "scalebook", "notebooks/studies", "profiles", "paper", "workflow", "constraints.txt")
CARD = "card.json"
NEXT = ".next"  # results that are complete and on their way to their places
FORMAT = 1
# Bytes up to which a text file is read, and an archive of arrays unpacked.
MOST_TEXT, MOST_ARRAYS = 2**26, 2**31
ENDING = re.compile(r"(\.part\d+)*(\.csv)?(\.gz)?$")  # of a table's name
# A table with more bytes than this is compressed, whatever its name says, and cut in parts where that is not enough.
LARGE = 1_500_000


def describe_code() -> dict[str, Any]:
    """Commit of the working tree (None outside version control), and whether code that makes numbers differs from it."""
    here = Path(__file__).parent.parent
    commit = _said(here, "git", "rev-parse", "HEAD")
    if commit is None or not (here / "constraints.txt").is_file():
        return {"commit": None, "dirty": False}
    changed = _said(here, "git", "status", "--porcelain", "--untracked-files=no", "--", *CODE)
    return {"commit": commit, "dirty": bool(changed)}


def _said(folder: Path, *command: str) -> str | None:
    """What a command prints; None where it is not there, or fails."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def describe_environment() -> dict[str, Any]:
    """Versions, backend and hardware of this process."""
    versions = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    # a process that never loaded Keras used no GPU, and loading it takes time
    graph = sys.modules.get("scalelib.graph")
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": versions,
        "backend": graph.keras.backend.backend() if graph else "not loaded",
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_gib": _memory_gib(),
        "gpus": graph.gpus() if graph else [],
        "precision": "float32" if os.environ.get("NVIDIA_TF32_OVERRIDE") == "0" else "float32 or TF32",
    }


def _cpu() -> str:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    with suppress(ValueError, OSError, AttributeError):  # no POSIX
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return None


def digest_bytes(parts: Iterable[bytes]) -> str:
    """SHA-256 over byte strings, each preceded by its length."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(len(part).to_bytes(8, "little"))
        sha.update(part)
    return sha.hexdigest()


def digest_file(path: str | os.PathLike[str], algorithm: str = "sha256") -> str:
    """Digest of a file's bytes, read in pieces."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def has_digest(path: str | os.PathLike[str], checksum: str | None) -> bool:
    """Whether a file has a digest, written as ``md5:…`` or bare for SHA-256; None, where none is known, suits all."""
    algorithm, _, digest = (checksum or "").rpartition(":")
    return not checksum or digest_file(path, algorithm or "sha256") == digest


def digest_notebook(path: str | os.PathLike[str]) -> str:
    """SHA-256 over a notebook's code cells without its parameters; outputs and prose do not change it."""
    return digest_bytes(source.encode() for source in code_cells(path))


def code_cells(path: str | os.PathLike[str]) -> list[str]:
    """Sources of a notebook's code cells, without its parameters: they differ between profiles."""
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    left_out = {"parameters", "injected-parameters"}
    return [
        "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code" and not left_out & set(cell["metadata"].get("tags", []))
    ]


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is there; a name that none can have, such as one of a thousand characters, is no file's."""
    return os.path.isfile(path)  # noqa: PTH113


def read_bytes(path: str | os.PathLike[str], *, most: int = MOST_TEXT) -> bytes:
    """The bytes of a file that others may have written, unless there are too many to be what is wanted."""
    with Path(path).open("rb") as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content


class _StrictLoader(yaml.SafeLoader):
    """YAML without references, which grow without bound, and without the silent last-one-wins of a repeated key."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("references such as *this are not read")
        node = super().compose_node(parent, index)
        keys = Counter(str(key.value) for key, _ in node.value) if isinstance(node, yaml.MappingNode) else {}
        if repeated := [key for key, times in keys.items() if times > 1]:
            raise yaml.YAMLError(f"the key {repeated[0]!r} stands twice")
        return node


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """What a small YAML file says, plain values alone."""
    return yaml.load(read_bytes(path, most=2**17).decode("utf-8"), _StrictLoader)


def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file, without pickles, and of none that unpacks to more than is sensible."""
    with zipfile.ZipFile(path) as packed:
        size = sum(entry.file_size for entry in packed.infolist())
    if size > MOST_ARRAYS:
        raise ValueError(f"it unpacks to {size:,} bytes")
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored.items())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep others who do the same out of a folder; where a system or a disk knows no such locks, nothing happens."""
    with ExitStack() as stack:
        with suppress(ImportError, OSError):
            import fcntl

            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def write_atomic(
    path: str | os.PathLike[str], content: bytes | Callable[[io.BufferedIOBase], object]
) -> None:
    """Write bytes, or let a function write, in a folder made if need be: a whole file, or none and the old one stays."""
    path = Path(path)
    partial = path.with_name(f".{path.name[:50]}.{uuid4().hex[:12]}.partial")
    advice = "Free some space or choose a folder that you may write to; what stood there is unchanged"
    how: dict[str, Any] = {"error": ResultsError, "causes": OSError}
    try:
        with refusing("write", f"cannot write {path.name}", path.parent, advice, **how):
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("xb") as stream:
                stream.write(content) if isinstance(content, bytes) else content(stream)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink()


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, packed where the name ends in ``.gz``, atomically."""
    compression: Any = {"method": "gzip", "mtime": 0} if path.suffix == ".gz" else None
    write_atomic(path, lambda stream: table.to_csv(stream, index=False, compression=compression))


@dataclass(frozen=True)
class Card:
    """What a result was made from, and by what. Shows itself as a small table in a notebook.

    Parameters
    ----------
    data : mapping
        The content of ``card.json``.
    """

    data: Mapping[str, Any]

    def _repr_html_(self) -> str:
        template = Path(__file__).parent / "assets" / "card.html.jinja"
        page = Template(template.read_text(encoding="utf-8"), autoescape=True, trim_blocks=True)
        return page.render(self.data)

    def __repr__(self) -> str:
        return f"Card({self.data['name']}, {self.data['profile']}, {self.data['date']})"


@dataclass
class Run:
    """One run of one notebook or command, from its start to its card.

    Parameters
    ----------
    name : str
        The notebook or command, such as ``"04_layerwise_r2"``.
    profile : str
        The profile whose parameters it runs with.
    parameters : mapping
        Everything that was chosen; goes into the card.
    folder : path-like, optional
        Where the results go. Default: ``../results/<profile>/<name>``, seen from ``notebooks/``.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> run = Run("demo", profile="control", parameters={"repeats": 2}, folder=folder)
    >>> card = run.write({"answer": pd.DataFrame({"r2": [0.5]})})
    >>> read_results(folder).table("answer").r2.item()
    0.5
    """

    name: str
    profile: str
    parameters: Mapping[str, Any]
    folder: str | os.PathLike[str] | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> Path:
        """The folder of this run's results."""
        return Path(self.folder) if self.folder else Path("..") / "results" / self.profile / self.name

    def write(
        self,
        tables: Mapping[str, pd.DataFrame],
        *,
        datasets: Iterable[Any] = (),
        networks: Iterable[Any] = (),
    ) -> Card:
        """Write the tables, then the card.

        Parameters
        ----------
        tables : mapping of str to pandas.DataFrame
            By file name; a name without ending becomes ``name.csv``; ``name.csv.gz``, and whatever is
            larger than 1.5 MB, is compressed. What then still is becomes ``name.part01.csv.gz``, ….
        datasets, networks : iterable of Dataset and of Network
            What was measured and read; names, digests, counts and exclusions go into the card.

        Returns
        -------
        Card

        Raises
        ------
        ResultsError
            If something cannot be written. Earlier results in the folder then stay as they are.
        """
        own, rule = {ENDING.sub("", name) for name in tables}, "tables differ in more than their endings"
        require(len(own) == len(tables), "write", rule, ", ".join(tables), error=ResultsError)
        packed = [file for name, table in tables.items() for file in _pack(name, table)]
        about = {name: {"rows": n, "sha256": hashlib.sha256(file).hexdigest()} for name, n, file in packed}
        data = self._card(datasets, networks) | {"tables": about}
        rule = f"the card of {self.name} must be plain JSON, its tables plain file names"
        advice = "Pass numbers, strings, booleans, lists and dictionaries"
        with refusing("write", rule, ", ".join(map(str, tables)), advice, error=ResultsError):
            # what is not plain may be a scalar of NumPy
            text = json.dumps(data, indent=1, sort_keys=True, allow_nan=False, default=lambda x: x.item())
            card = _checked(json.loads(text))
        with suppress(OSError):  # write_atomic says better what is wrong with a folder
            self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path):
            _settle(self.path)
            staged = self.path / f".new.{uuid4().hex[:12]}"
            try:
                for name, _, content in [*packed, (CARD, 1, text.encode() + b"\n")]:
                    write_atomic(staged / name, content)
                staged.replace(self.path / NEXT)
            finally:
                for left in self.path.glob(".new.*"):  # of killed runs too
                    shutil.rmtree(left, ignore_errors=True)
            _settle(self.path)
        return Card(card)

    def _card(self, datasets: Iterable[Any], networks: Iterable[Any]) -> dict[str, Any]:
        notebook = Path(f"{self.name}.ipynb")
        keys = ("name", "weights", "weights_seed", "weights_digest")
        unique = dict.fromkeys(tuple(getattr(net, key) for key in keys) for net in networks)
        return {
            "format": FORMAT,
            "name": self.name,
            "profile": self.profile,
            "parameters": dict(self.parameters),
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "wall_time_s": round(time.monotonic() - self.started, 1),
            "notebook_digest": digest_notebook(notebook) if notebook.is_file() else None,
            "code": describe_code(),
            "environment": describe_environment(),
            "datasets": [_describe_dataset(dataset) for dataset in datasets],
            "networks": [dict(zip(keys, network, strict=True)) for network in unique],
        }


def _describe_dataset(dataset: Any) -> dict[str, Any]:
    counts = Counter(sorted(map(str, dataset.table.get("object_class", []))))
    named = {name: getattr(dataset, name) for name in ("name", "digest", "source")}
    return {**named, "images": len(dataset.table), "counts": counts, "excluded": dict(dataset.excluded)}


def _pack(name: str, table: pd.DataFrame) -> list[tuple[str, int, bytes]]:
    """A table's files: name, rows and bytes of each."""
    # Six significant digits: more than any number in the book carries, and half the size.
    content = table.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()
    name = name if name.endswith((".csv", ".csv.gz")) else f"{name}.csv"
    if name.endswith(".csv") and len(content) > LARGE:
        name += ".gz"
    content = gzip.compress(content, mtime=0) if name.endswith(".gz") else content
    if (parts := min(len(table), -(-len(content) // LARGE))) < 2:  # one row is one part, however long
        return [(name, len(table), content)]
    rows = np.array_split(np.arange(len(table)), parts)
    named = [name.replace(".csv", f".part{number:02d}.csv") for number in range(1, parts + 1)]
    return [file for one, part in zip(named, rows, strict=True) for file in _pack(one, table.iloc[part])]


@dataclass(frozen=True)
class Results:
    """A folder of results whose files match its card.

    Parameters
    ----------
    folder : pathlib.Path
    card : Card
    """

    folder: Path
    card: Card

    def table(self, name: str) -> pd.DataFrame:
        """One table, by its name with or without ending.

        Words stay words: only empty cells are missing, and the condition ``true`` is no boolean.
        """
        as_words: Any = {"dtype": str, "keep_default_na": False, "na_values": [""]}
        parts = [pd.read_csv(self.folder / file, **as_words) for file in self.files(name)]
        return pd.concat(parts, ignore_index=True).apply(_typed)

    def files(self, name: str) -> list[str]:
        """The file of a table, or its parts in order, by its name with or without ending."""
        known = self.card.data["tables"]
        found = [file for file in known if ENDING.sub("", file) == ENDING.sub("", name)]
        received = f"{name!r}; the card lists {', '.join(known)}"
        require(found, "Results", f"no table {name!r} in {self.folder.name}", received, error=ResultsError)
        return found


def _typed(column: pd.Series) -> pd.Series:
    flags = column.map({"True": True, "False": False})
    if flags.count() == column.count() > 0:
        return flags
    try:  # 000012 is a word, such as the name of an image
        return column if column.astype("string").str.fullmatch(r"0\d+").any() else pd.to_numeric(column)
    except ValueError:
        return column


def read_results(folder: str | os.PathLike[str]) -> Results:
    """Read a results folder and check every file against its card.

    Parameters
    ----------
    folder : path-like
        A folder that :meth:`scalelib.Run.write` wrote.

    Returns
    -------
    Results

    Raises
    ------
    ResultsError
        If there is no card, a file is missing, or a file's digest is not the card's.
    """
    place = Path(folder)
    with locked(place):
        _settle(place)
        card = _read_card(place)
        for name, about in card["tables"].items():
            file = place / name
            digest = digest_file(file) if is_file(file) else "no such file"
            rule = f"{place.name}/{name} is not the file that the run wrote"
            received = f"sha256 {digest[:16]}; its card says {about['sha256'][:16]}"
            advice = "Restore the file from version control or make the results again"
            require(digest == about["sha256"], "read_results", rule, received, advice, error=ResultsError)
    return Results(place, Card(card))


def _settle(folder: Path) -> None:
    """Bring results that are complete to their places, in the stead of earlier ones; of a killed run, what it had begun."""
    staged = folder / NEXT
    if (staged / CARD).is_file():
        names = set(_read_card(staged)["tables"])
        stale: set[str] = set()
        with suppress(ResultsError):  # no card, or a foreign one: what it names is not ours
            stale = set(_read_card(folder)["tables"]) - names
        advice = f"What is new lies complete in {NEXT}: make room for it, and read or write the results again"
        how: dict[str, Any] = {"error": ResultsError, "causes": OSError}
        with refusing("write", f"results stay on their way to {folder}", NEXT, advice, **how):
            for name in names:
                with suppress(FileNotFoundError):  # it is in its place already
                    (staged / name).replace(folder / name)
            for name in stale:
                (folder / name).unlink(missing_ok=True)
            (staged / CARD).replace(folder / CARD)
    with suppress(OSError):
        staged.rmdir()


def _read_card(folder: Path) -> dict[str, Any]:
    rule, advice = f"a folder without a whole {CARD} is not a result", "Make the results again"
    with refusing("read_results", rule, folder, advice, error=ResultsError):
        return _checked(json.loads(read_bytes(folder / CARD)))


def _checked(card: dict[str, Any]) -> dict[str, Any]:
    """A card of our making, or an exception that says what is wrong with it."""
    if card.get("format") != FORMAT:
        raise ValueError(f"cards have format {FORMAT}, not {card.get('format')!r}")
    blocks = all(isinstance(card[key], dict) for key in ("parameters", "code", "environment", "tables"))
    if not (blocks and all(isinstance(card[key], str) for key in ("name", "profile", "date"))):
        raise TypeError("an entry is of another kind than it should be")
    for name, about in card["tables"].items():
        plain = re.fullmatch(r"[^/\\:\x00-\x1f]{1,200}\.csv(\.gz)?", name)
        if not (plain and isinstance(about["rows"], int) and isinstance(about["sha256"], str)):
            raise ValueError(f"{name!r} is no plain table of the folder")
    return card
