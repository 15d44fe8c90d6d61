"""Facts about the code, the packages and the machine, for a provenance card. No paths, no names of people. Results on disk: tidy CSVs and the card that says where they come from."""

from __future__ import annotations

import gzip
import hashlib
import html
import io
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalelib.errors import ResultsError

PACKAGES = (
    "scalelib", "keras", "tensorflow", "tensorflow-cpu", "torch", "jax", "numpy", "scipy", "pandas",
    "scikit-learn", "pillow", "h5py", "matplotlib", "openslide-python", "papermill",
)  # fmt: skip
CODE = ("scalelib", "scalebook", "notebooks/studies", "profiles", "paper", "workflow", "constraints.txt")


def describe_code() -> dict[str, Any]:
    """Commit of the working tree, and whether code differs from it.

    Returns
    -------
    dict
        ``commit`` (str, or None outside version control) and ``dirty`` (bool): whether a file that
        can change a number (library, profiles, paper, workflow, pins) differs from the commit. A
        notebook's code cells have a digest of their own in the card.

    Examples
    --------
    >>> sorted(describe_code())
    ['commit', 'dirty']
    """
    here = Path(__file__).parent.parent
    commit = _git(here, "rev-parse", "HEAD")
    if commit is None or not (here / "constraints.txt").is_file():
        return {"commit": None, "dirty": False}
    changed = _git(here, "status", "--porcelain", "--untracked-files=no", "--", *CODE)
    return {"commit": commit, "dirty": bool(changed)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def describe_environment() -> dict[str, Any]:
    """Versions, backend and hardware of this process.

    Returns
    -------
    dict
        ``python``, ``platform``, ``packages``, ``backend``, ``cpu``, ``cores``, ``memory_gib``, ``gpus``.

    Examples
    --------
    >>> describe_environment()["python"] == platform.python_version()
    True
    """
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "backend": _backend(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_gib": _memory_gib(),
        "gpus": _gpus(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _backend() -> str:
    keras = sys.modules.get("keras")
    return keras.backend.backend() if keras else "not loaded"


def _gpus() -> list[str]:
    # A process that never loaded Keras used no GPU; loading it here would only cost time.
    keras = sys.modules.get("keras")
    return [str(device) for device in keras.distribution.list_devices("gpu")] if keras else []


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


CARD = "card.json"
FORMAT = 1
LARGE = 1_500_000
"""A table with more bytes than this is compressed, whatever its name says."""


def digest_bytes(parts: Iterable[bytes]) -> str:
    """SHA-256 over byte strings, each preceded by its length.

    Examples
    --------
    >>> digest_bytes([b"ab", b"c"]) == digest_bytes([b"a", b"bc"])
    False
    """
    sha = hashlib.sha256()
    for part in parts:
        sha.update(len(part).to_bytes(8, "little"))
        sha.update(part)
    return sha.hexdigest()


def digest_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_notebook(path: str | os.PathLike[str]) -> str:
    """SHA-256 over the sources of a notebook's code cells, without the parameters.

    Parameters
    ----------
    path : path-like
        An ``.ipynb`` file. Cells tagged ``parameters`` or ``injected-parameters`` do not count:
        they differ between profiles and stand in the card.

    Returns
    -------
    str
        The digest; outputs and prose do not change it.
    """
    return digest_bytes(source.encode() for source in code_cells(path))


def code_cells(path: str | os.PathLike[str]) -> list[str]:
    """Sources of a notebook's code cells, without its parameters."""
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    left_out = {"parameters", "injected-parameters"}
    return [
        "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code" and not left_out & set(cell["metadata"].get("tags", []))
    ]


def write_atomic(path: str | os.PathLike[str], write: Callable[[io.BufferedIOBase], object]) -> None:
    """Write a file so that it is either whole or not there.

    Parameters
    ----------
    path : path-like
        Where the file is to be; its folder must exist.
    write : callable
        Gets a binary stream and writes everything to it.

    Raises
    ------
    ResultsError
        If the file cannot be written (no permission, no space); what stood there before is untouched.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        raise ResultsError(
            f"write: cannot write {path.name}.\nReceived: {error.strerror or error} ({path.parent}).\n"
            "Free some space or choose a folder that you may write to; what stood there is unchanged."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _write_bytes(path: Path, content: bytes) -> None:
    write_atomic(path, lambda stream: stream.write(content))


@dataclass(frozen=True)
class Card:
    """What a result was made from, and by what. Shows itself as a small table in a notebook."""

    data: Mapping[str, Any]

    def _repr_html_(self) -> str:
        shown = {
            "Notebook": f"{self.data['name']} (profile {self.data['profile']})",
            "Date": self.data["date"],
            "Commit": _commit(self.data["code"]),
            "Wall time": f"{self.data['wall_time_s']:.0f} s",
            "Hardware": _hardware(self.data["environment"]),
            "Backend": self.data["environment"]["backend"],
            "Data": "; ".join(map(_dataset, self.data["datasets"])) or "none",
            "Networks": "; ".join(map(_network, self.data["networks"])) or "none",
            "Files": ", ".join(
                f"{name} ({about['rows']} rows)" for name, about in self.data["tables"].items()
            ),
        }
        rows = "".join(
            f'<tr><th scope="row">{key}</th><td>{html.escape(value)}</td></tr>'
            for key, value in shown.items()
        )
        return f'<table class="provenance-card"><caption>Provenance</caption><tbody>{rows}</tbody></table>'

    def __repr__(self) -> str:
        return f"Card({self.data['name']}, {self.data['profile']}, {self.data['date']})"


def _commit(code: Mapping[str, Any]) -> str:
    if code["commit"] is None:
        return "not under version control"
    return code["commit"][:12] + (" with local changes" if code["dirty"] else "")


def _hardware(environment: Mapping[str, Any]) -> str:
    gpus = ", ".join(environment["gpus"]) or "no GPU"
    return f"{environment['cpu']}, {environment['cores']} cores, {gpus}"


def _dataset(entry: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{name} {count}" for name, count in entry["counts"].items())
    return f"{entry['name']}: {entry['images']} images ({counts}), sha256 {entry['digest'][:12]}"


def _network(entry: Mapping[str, Any]) -> str:
    return f"{entry['name']} ({entry['weights']}, sha256 {entry['weights_digest'][:12]})"


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
            larger than 1.5 MB, is compressed.
        datasets : iterable of Dataset
            What was measured: name, digest, counts per class and exclusions go into the card.
        networks : iterable of Network
            What was read: name, weights and their digest go into the card.

        Returns
        -------
        Card

        Raises
        ------
        ResultsError
            If something cannot be written. Earlier results in the folder then stay as they are.
        """
        folder = self.path
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResultsError(
                f"write: cannot create the results folder.\nReceived: {error.strerror} ({folder}).\n"
                "Choose a folder that you may write to."
            ) from error
        contents = {name: _file(name, table) for name, table in tables.items()}
        files = dict(contents.values())
        staged = {name: folder / f"{name}.new" for name in files}
        try:
            for name, content in files.items():
                _write_bytes(staged[name], content)
            rows = {file: len(tables[name]) for name, (file, _) in contents.items()}
            card = self._card(rows, files, datasets, networks)
            earlier = folder / CARD
            stale = _tables_of(earlier) - set(files)
            earlier.unlink(missing_ok=True)
            for name, path in staged.items():
                path.replace(folder / name)
        finally:
            for path in staged.values():
                path.unlink(missing_ok=True)
        for name in stale:
            (folder / name).unlink(missing_ok=True)
        _write_bytes(
            earlier, json.dumps(card.data, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"
        )
        return card

    def _card(
        self,
        rows: Mapping[str, int],
        files: Mapping[str, bytes],
        datasets: Iterable[Any],
        networks: Iterable[Any],
    ) -> Card:
        notebook = Path(f"{self.name}.ipynb")
        unique = {(net.name, net.weights, net.weights_seed, net.weights_digest): net for net in networks}
        data = {
            "format": FORMAT,
            "name": self.name,
            "profile": self.profile,
            "parameters": dict(self.parameters),
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "wall_time_s": round(time.monotonic() - self.started, 1),
            "notebook_digest": digest_notebook(notebook) if notebook.is_file() else None,
            "code": describe_code(),
            "environment": describe_environment(),
            "datasets": [
                {
                    "name": dataset.name,
                    "images": len(dataset.table),
                    "counts": {str(k): int(v) for k, v in _class_counts(dataset.table).items()},
                    "excluded": {str(k): int(v) for k, v in dataset.excluded.items()},
                    "digest": dataset.digest,
                    "source": dataset.source,
                }
                for dataset in datasets
            ],
            "networks": [
                {"name": name, "weights": weights, "weights_seed": seed, "weights_digest": digest}
                for name, weights, seed, digest in unique
            ],
            "tables": {
                name: {"rows": rows[name], "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in files.items()
            },
        }
        try:
            return Card(json.loads(json.dumps(data, allow_nan=False, default=_plain)))
        except (TypeError, ValueError) as error:
            raise ResultsError(
                f"write: the card must be plain JSON.\nReceived: {error} in the parameters of {self.name}.\n"
                "Pass numbers, strings, booleans, lists and dictionaries."
            ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__}")


def _class_counts(table: pd.DataFrame) -> Mapping[Any, int]:
    if "object_class" not in table:
        return {}
    return table["object_class"].value_counts().sort_index().to_dict()


def _file(name: str, table: pd.DataFrame) -> tuple[str, bytes]:
    """A table's file name and bytes."""
    # Six significant digits: more than any number in the book carries, and half the size.
    content = table.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()
    name = name if name.endswith((".csv", ".csv.gz")) else f"{name}.csv"
    if name.endswith(".csv") and len(content) > LARGE:
        name += ".gz"
    return name, gzip.compress(content, mtime=0) if name.endswith(".gz") else content


def _tables_of(card: Path) -> set[str]:
    try:
        return set(json.loads(card.read_text(encoding="utf-8"))["tables"])
    except (OSError, ValueError, KeyError):
        return set()


@dataclass(frozen=True)
class Results:
    """A folder of results whose files match its card."""

    folder: Path
    card: Card

    def table(self, name: str) -> pd.DataFrame:
        """One table, by its name with or without ending."""
        return _read_csv(self.folder / self.file(name))

    def file(self, name: str) -> str:
        """The file of a table, by its name with or without ending."""
        known = self.card.data["tables"]
        for candidate in (name, f"{name}.csv", f"{name}.csv.gz", f"{name}.gz"):
            if candidate in known:
                return candidate
        raise ResultsError(
            f"Results: no table {name!r} in {self.folder.name}.\n"
            f"Received: {name!r}; the card lists {', '.join(known)}."
        )


def _read_csv(path: Path) -> pd.DataFrame:
    """Words stay words: only empty cells are missing, and the condition ``true`` is no boolean."""
    words = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    return words.apply(_typed)


def _typed(column: pd.Series) -> pd.Series:
    if set(column.dropna()) <= {"True", "False"} and column.notna().all():
        return column == "True"
    try:
        return pd.to_numeric(column)
    except ValueError:
        return column


def read_results(folder: str | os.PathLike[str]) -> Results:
    """Read a results folder and check every file against its card.

    Parameters
    ----------
    folder : path-like
        A folder that :meth:`Run.write` wrote.

    Returns
    -------
    Results

    Raises
    ------
    ResultsError
        If there is no card, a file is missing, or a file's digest is not the card's.
    """
    folder = Path(folder)
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ResultsError(
            f"read_results: a folder without {CARD} is not a result.\nReceived: {folder}.\n"
            "Run the notebook that writes it, for instance with 'make reproduce'."
        ) from error
    except ValueError as error:
        raise ResultsError(
            f"read_results: {CARD} is no valid JSON.\nReceived: {error} in {folder}.\nRun the notebook again."
        ) from error
    if card.get("format") != FORMAT:
        raise ResultsError(
            f"read_results: cards have format {FORMAT}.\nReceived: {card.get('format')!r} in {folder}.\n"
            "Run the notebook again with this version of scalelib."
        )
    for name, about in card["tables"].items():
        path = folder / name
        received = digest_file(path) if path.is_file() else "no such file"
        if received != about["sha256"]:
            raise ResultsError(
                f"read_results: {folder.name}/{name} is not the file that the run wrote.\n"
                f"Received: sha256 {received[:16]}; its card says {about['sha256'][:16]}.\n"
                "Restore the file from version control or run the notebook again."
            )
    return Results(folder, Card(card))


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, packed where the name ends in ``.gz``, atomically.

    Parameters
    ----------
    path : pathlib.Path
    table : pandas.DataFrame
    """
    compression: Any = {"method": "gzip", "mtime": 0} if path.suffix == ".gz" else None
    write_atomic(path, lambda stream: table.to_csv(stream, index=False, compression=compression))
