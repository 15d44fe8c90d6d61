"""Fetching sources: resumed or cleanly retried, checked, unpacked safely, placed all at once.

Knows sources and folders; asks nobody anything (the command line does) and knows no network.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scalelib.datasets.archives import unpack
from scalelib.datasets.sources import Source
from scalelib.datasets.transport import NotReachable, WrongDigest, download
from scalelib.errors import DataError
from scalelib.locations import data_root, keras_home
from scalelib.provenance import digest_file, write_atomic

DIGESTS = "digests.json"
DOWNLOADS = "downloads"
MAX_EXPANSION = 20  # images and masks are compressed already; text annotations shrink to a tenth


@dataclass(frozen=True)
class Fetched:
    """What came of one source.

    Parameters
    ----------
    source : Source
        What was wanted.
    path : pathlib.Path
        Where it lies.
    was_present : bool
        Whether it was there already, so that nothing was downloaded.
    sha256 : str
        Digest of the downloaded file, also recorded in the data root's ``digests.json``; empty if
        nothing was downloaded.
    """

    source: Source
    path: Path
    was_present: bool
    sha256: str = ""


def store_of(source: Source, *, root: str | os.PathLike[str] | None = None) -> Path:
    """The folder that a source's target is meant from: the data root, or Keras's cache."""
    return keras_home() if source.store == "keras" else data_root(root)


def fetch(
    source: Source,
    *,
    root: str | os.PathLike[str] | None = None,
    attempts: int = 4,
    timeout: tuple[float, float] = (15.0, 60.0),
    pause: float = 2.0,
) -> Fetched:
    """Bring a source to its place, if it is not there yet.

    An interrupted download goes on where it stopped, if the source has a checksum; without one it
    starts anew. The digest of everything downloaded is recorded in ``digests.json``; a source whose
    makers publish none is compared with that record from the second download on.

    Parameters
    ----------
    source : Source
        What to fetch; see :func:`scalelib.datasets.sources.find_source`.
    root : path-like, optional
        The data root; see :func:`scalelib.locations.data_root`.
    attempts : int, default=4
        How often a failing connection, a server's error or a wrong checksum is tried, in all.
    timeout : tuple of float, default=(15, 60)
        Seconds to wait for a connection, and for the next bytes.
    pause : float, default=2
        Seconds before the second attempt; doubles with every further one.

    Returns
    -------
    Fetched

    Raises
    ------
    DataError
        If the source must be asked for by hand, cannot be reached, differs from its checksum or its
        recorded digest, breaks a rule of :func:`scalelib.datasets.archives.unpack`, or does not fit
        on the disk. Nothing half-placed is ever taken for the whole.

    Examples
    --------
    >>> from scalelib.datasets.sources import find_source
    >>> fetch(find_source("monuseg"), root="nowhere")
    Traceback (most recent call last):
    ...
    scalelib.errors.DataError: fetch: monuseg must be asked for by hand...
    """
    store = store_of(source, root=root)
    place = store / source.target
    if source.is_present(store):
        return Fetched(source, place, was_present=True)
    if source.url is None:
        raise DataError(
            f"fetch: {source.name} must be asked for by hand.\nReceived: {source.title}; {source.licence}.\n"
            f"Get it from {source.page} and put it at {place}."
        )
    folder = store / DOWNLOADS if source.unpack else place.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(store):
            _check_room(source, folder)
            file = folder / _file_name(source)
            _download(source, store, file, attempts=attempts, timeout=timeout, pause=pause)
            digest = digest_file(file)
            if source.unpack:
                _unpack_into_place(source, file, store)
            _record(store, source, digest)
    except OSError as error:
        raise DataError(
            f"fetch: cannot write {source.name} below {store}.\nReceived: {error.strerror or error}.\n"
            f"{_what_helps(error)} What is there already is kept; the next try goes on from it."
        ) from error
    return Fetched(source, place, was_present=False, sha256=digest)


def _file_name(source: Source) -> str:
    return Path(source.target).name if source.unpack is None else str(source.url).rsplit("/", 1)[-1]


def _what_helps(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space or set SCALELIB_DATA to a larger disk."
    return "Set SCALELIB_DATA (for Keras's weights KERAS_HOME) to a folder that you may write to."


def _check_room(source: Source, folder: Path) -> None:
    needed = (source.megabytes or 0) + (
        (source.disk_megabytes or source.megabytes or 0) if source.unpack else 0
    )
    free = shutil.disk_usage(folder).free / 1e6
    if needed > free:
        raise DataError(
            f"fetch: {source.name} needs about {needed} MB on the disk.\n"
            f"Received: {free:.0f} MB free in {folder}.\n"
            "Free some space or set SCALELIB_DATA to a larger disk."
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second fetch away from the same unfinished files, where the system has file locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (folder / ".fetch.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                f"fetch: another fetch is at work in {folder}.\nReceived: a lock that it holds.\n"
                "Wait until it has finished; what it fetches is then there for both."
            ) from error
        except OSError:  # a network file system without locks: better alone than not at all
            pass
        yield


def _download(source: Source, store: Path, file: Path, **how: Any) -> None:
    recorded = _recorded(store).get(source.name)
    digest = source.checksum or (f"sha256:{recorded['sha256']}" if recorded else None)
    try:
        download(str(source.url), file, digest=digest, label=source.name, **how)
    except NotReachable as error:
        raise _unreachable(source, store, error) from error
    except WrongDigest as error:
        raise _mismatch(source, store, error, recorded) from error


def _unreachable(source: Source, store: Path, error: Exception) -> DataError:
    return DataError(
        f"fetch: cannot download {source.name} from {source.url}.\nReceived: {error}.\n"
        f"Try again later, or get it by way of {source.page} and put it at {store / source.target}."
    )


def _mismatch(source: Source, store: Path, error: Exception, recorded: dict[str, Any] | None) -> DataError:
    if source.checksum is None and recorded:
        return DataError(
            f"fetch: {source.name} is not what it was when first downloaded ({recorded.get('date')}).\n"
            f"Received: {error}.\n"
            f"If its makers announce a new version, remove its entry from {store / DIGESTS} and fetch again."
        )
    return DataError(
        f"fetch: {source.name} does not have its published checksum.\n"
        f"Received: {error}, from {source.url}.\n"
        f"Nothing was kept. Try another network, or look at {source.page} for news."
    )


def _recorded(store: Path) -> dict[str, dict[str, Any]]:
    try:
        return json.loads((store / DIGESTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DataError(
            f"fetch: {store / DIGESTS} is no valid JSON.\nReceived: {error}.\n"
            "Mend it, or delete it if you trust what will be downloaded next."
        ) from error


def _record(store: Path, source: Source, digest: str) -> None:
    entry = {"sha256": digest, "url": source.url, "date": datetime.now(UTC).strftime("%Y-%m-%d")}
    content = json.dumps({**_recorded(store), source.name: entry}, indent=1, sort_keys=True) + "\n"
    write_atomic(store / DIGESTS, lambda stream: stream.write(content.encode()))


def _unpack_into_place(source: Source, archive: Path, store: Path) -> None:
    limit = MAX_EXPANSION * archive.stat().st_size + 2**20
    staging = archive.parent / f".{source.name}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)  # of an earlier try that was killed
    staging.mkdir()
    try:
        unpack(archive, staging, kind=source.unpack or "tar", limit=limit)
        content = staging / Path(source.target).relative_to(source.into)
        wanted = content / Path(source.marker or source.target).relative_to(source.target)
        if not wanted.exists() or (wanted.is_dir() and not any(wanted.iterdir())):
            raise DataError(
                f"fetch: the archive of {source.name} does not hold {wanted.relative_to(staging)}.\n"
                f"Received: {', '.join(sorted(p.name for p in staging.iterdir())) or 'nothing'}.\n"
                f"Look at {source.page} for a changed layout; nothing was placed."
            )
        _merge(content, store / source.target, last=wanted)
        archive.unlink()
    except DataError:
        archive.unlink()  # it would fail again; without a published digest it would even seem right
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _merge(content: Path, target: Path, *, last: Path) -> None:
    """Move a folder into place: at once if there is none yet, else file by file, the marker last."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not any(target.iterdir()):
        target.rmdir()
    if not target.exists():
        content.rename(target)
        return
    files = sorted(path for path in content.rglob("*") if path.is_file())
    for path in sorted(files, key=lambda path: path == last):
        destination = target / path.relative_to(content)
        destination.parent.mkdir(parents=True, exist_ok=True)
        path.replace(destination)
