"""Unpacking archives from the network: nothing is written outside the folder that is named.

Data sets consist of files and folders, so links and devices are refused along with absolute
names and ``..``; what is refused is refused before the first byte is written.
"""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

from scalelib.errors import DataError
from scalelib.progress import track


def unpack(archive: Path, folder: Path, *, kind: Literal["tar", "zip"], limit: int) -> None:
    """Unpack an archive into a folder.

    Parameters
    ----------
    archive : pathlib.Path
        A tar archive (plain, gzip, bzip2, xz) or a zip archive.
    folder : pathlib.Path
        An existing, empty folder.
    kind : {"tar", "zip"}
        What `archive` is.
    limit : int
        Bytes that the contents may take; a small archive can hold very much.

    Raises
    ------
    DataError
        If the archive is damaged, encrypted, larger than `limit` when unpacked, or holds an absolute
        name, a ``..``, a link or a device.

    Examples
    --------
    >>> import io, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with tarfile.open(folder / "a.tar", "w") as tar:
    ...     tar.addfile(tarfile.TarInfo("../outside"), io.BytesIO())
    >>> unpack(folder / "a.tar", folder, kind="tar", limit=100)
    Traceback (most recent call last):
    ...
    scalelib.errors.DataError: unpack: an entry would lie outside the folder...
    """
    reader = _unpack_tar if kind == "tar" else _unpack_zip
    try:
        reader(archive, folder, limit)
    # zipfile raises NotImplementedError for a compression or a version of the format that it does not read
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError) as error:
        raise DataError(
            f"unpack: {archive.name} is damaged or no {kind} archive.\n"
            f"Received: {type(error).__name__}: {error}.\nDelete it and fetch it again."
        ) from error


def _unpack_tar(archive: Path, folder: Path, limit: int) -> None:
    with tarfile.open(archive, "r:*") as tar:
        members = tar.getmembers()
        for member in members:
            _check_name(member.name, archive)
            if not (member.isfile() or member.isdir()):
                raise _refused(f"the link or device {member.name!r}", archive)
        _check_size((member.size for member in members), archive, limit)
        for member in track(members, label=f"unpacking {archive.name}", unit="file"):
            tar.extract(member, folder, filter="data")


def _unpack_zip(archive: Path, folder: Path, limit: int) -> None:
    with zipfile.ZipFile(archive) as zipped:
        members = zipped.infolist()
        for member in members:
            _check_name(member.filename, archive)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(f"the link or device {member.filename!r}", archive)
            if member.flag_bits & 1:
                raise _refused(f"the encrypted {member.filename!r}", archive)
        _check_size((member.file_size for member in members), archive, limit)
        for member in track(members, label=f"unpacking {archive.name}", unit="file"):
            target = folder / PurePosixPath(member.filename)
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with zipped.open(member) as stream, target.open("wb") as out:
                shutil.copyfileobj(stream, out)


def _check_name(name: str, archive: Path) -> None:
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    outside = posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts
    if outside or "\0" in name or not windows.parts:
        if name.rstrip("/") == ".":  # the archive's own top folder
            return
        raise _refused(f"the entry {name!r}", archive)


def _refused(what: str, archive: Path) -> DataError:
    return DataError(
        f"unpack: an entry would lie outside the folder, or is no file.\nReceived: {what} in {archive.name}.\n"
        "Nothing was unpacked; this is not the archive that its makers published."
    )


def _check_size(sizes: Iterable[int], archive: Path, limit: int) -> None:
    total = sum(sizes)
    if total > limit:
        raise DataError(
            f"unpack: {archive.name} may take {limit / 1e6:.0f} MB when unpacked.\n"
            f"Received: {total / 1e6:.0f} MB.\nThis is not the archive that its makers published."
        )
