"""Where data and weight files lie on this machine. Knows paths; reads and writes nothing. Where data sets and weights come from: a table of addresses, checksums, sizes and licences. One file from one address: resumed or cleanly retried, and checked before it counts. Unpacking archives from the network: nothing is written outside the folder that is named. Fetching sources: resumed or cleanly retried, checked, unpacked safely, placed all at once."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, Literal

import platformdirs
import pooch
import requests

from scalelib.errors import DataError, WeightsError, did_you_mean, track
from scalelib.results import digest_file, write_atomic


def data_root(path: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds data sets and ``weights/``.

    Parameters
    ----------
    path : path-like, optional
        An explicit folder, such as ``--data-root``. Default: the environment variable
        ``SCALELIB_DATA``, else the user's cache folder.

    Returns
    -------
    pathlib.Path
        The folder, which need not exist yet.

    Examples
    --------
    >>> data_root("data").as_posix()
    'data'
    """
    return Path(
        path or os.environ.get("SCALELIB_DATA") or platformdirs.user_cache_dir("scalelib")
    ).expanduser()


def keras_home() -> Path:
    """Keras's own cache: ``KERAS_HOME``, else ``~/.keras``; its weight files lie in ``models/``.

    Examples
    --------
    >>> (keras_home() / "models").name
    'models'
    """
    return Path(os.environ.get("KERAS_HOME") or Path("~") / ".keras").expanduser()


def find_weights(filename: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None) -> Path:
    """Find a weight file by path or by bare name.

    Parameters
    ----------
    filename : path-like
        A path to an existing file, or a bare file name, which is looked for in the data root's
        ``weights/`` and then in Keras's ``models/``.
    root : path-like, optional
        The data root; see :func:`data_root`.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    WeightsError
        If there is no such file; the message lists every place looked at.

    Examples
    --------
    >>> find_weights("no_such.weights.h5", root="data")
    Traceback (most recent call last):
    ...
    scalelib.errors.WeightsError: find_weights: no weight file 'no_such.weights.h5'.
    Looked for: ...
    """
    given = Path(filename).expanduser()
    places = [given]
    if given.name == str(filename):
        places = [data_root(root) / "weights" / given.name, keras_home() / "models" / given.name]
    for place in places:
        if place.is_file():
            return place
    raise WeightsError(
        f"find_weights: no weight file {str(filename)!r}.\n"
        f"Looked for: {', '.join(map(str, places))}.\n"
        "Put it there, give its full path, or run 'scalelib fetch'."
    )


VOC_LICENCE = "Flickr terms of use, research only; cite Everingham et al. 2010"


@dataclass(frozen=True)
class Source:
    """One thing that can be fetched, or that has to be asked for.

    Parameters
    ----------
    name : str
        What it is called on the command line and in profiles.
    title : str
        What it is, for people.
    url : str or None
        Where it comes from; None if nobody but its owners may hand it out.
    checksum : str or None
        ``"md5:…"`` or ``"sha256:…"`` as published; None if nothing is published.
    megabytes : int or None
        Size of the download, about; None if it is not known.
    licence : str
        Terms and the citation that they ask for.
    target : str
        Where it lies, relative to the data root (or to Keras's cache for Keras's weights): the file, or
        the folder into which the archive's entries of that name go.
    unpack : {"tar", "zip", None}
        The archive's kind; None for a plain file.
    into : str
        Folder, relative to the data root, in which the archive is unpacked.
    marker : str
        What is there once everything is, and is placed last; the target itself by default.
    disk_megabytes : int or None
        Room that it takes when unpacked, about. Default: that of the download.
    page : str
        A page for people, where the download does not work.
    store : {"data", "keras"}
        Whether `target` is meant from the data root or from Keras's cache.
    """

    name: str
    title: str
    url: str | None
    checksum: str | None
    megabytes: int | None
    licence: str
    target: str
    unpack: Literal["tar", "zip"] | None = None
    into: str = ""
    marker: str = ""
    disk_megabytes: int | None = None
    page: str = ""
    store: Literal["data", "keras"] = "data"

    def place(self, root: Path) -> Path:
        """The path whose existence says that everything is there.

        Parameters
        ----------
        root : pathlib.Path
            The data root, or Keras's cache if `store` is ``"keras"``.
        """
        return root / (self.marker or self.target)

    def is_present(self, root: Path) -> bool:
        """Whether it lies under `root`, whole: the marker is placed last, a file has its checksum."""
        place = self.place(root)
        if place.is_dir():
            return any(place.iterdir())
        return place.is_file() and (self.unpack is not None or has_digest(place, self.checksum))


def has_digest(path: Path, digest: str | None) -> bool:
    """Whether a file has a digest such as ``"md5:…"``; without a digest, any file does."""
    if digest is None:
        return True
    kind, _, expected = digest.partition(":")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, kind).hexdigest() == expected


def _voc(year: int, split: str, *, day: str, archive: str, md5: str, megabytes: int, images: str) -> Source:
    base = f"http://host.robots.ox.ac.uk/pascal/VOC/voc{year}"
    return Source(
        name=f"voc{year}-{split}",
        title=f"PASCAL VOC{year} {split}, {images} images with boxes",
        url=f"{base}/{archive}_{day}.tar",
        checksum=f"md5:{md5}",
        megabytes=megabytes,
        licence=VOC_LICENCE,
        target=f"VOCdevkit/VOC{year}",
        unpack="tar",
        marker=f"VOCdevkit/VOC{year}/ImageSets/Main/{split}.txt",
        page=f"{base}/index.html",
    )


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        _voc(2007, "trainval", day="06-Nov-2007", archive="VOCtrainval", images="5,011",
             md5="c52e279531787c972589f7e41ab4ae64", megabytes=460),
        _voc(2007, "test", day="06-Nov-2007", archive="VOCtest", images="4,952",
             md5="b6e924de25625d8de591ea690078ad9f", megabytes=451),
        _voc(2012, "trainval", day="11-May-2012", archive="VOCtrainval", images="11,540",
             md5="6cd6e144f989b92b3379bac3b3de84fd", megabytes=2000),
        Source(
            name="bca-nuclei",
            title="ER+ breast cancer, 143 images of 2000×2000 px at 40X with nuclei partly annotated",
            url="https://andrewjanowczyk.com/wp-static/nuclei.tgz",
            checksum=None,
            megabytes=None,
            disk_megabytes=1800,
            licence="none stated, offered for research; cite Janowczyk & Madabhushi 2016",
            target="nuclei",
            unpack="tar",
            into="nuclei",
            page="https://andrewjanowczyk.com/use-case-1-nuclei-segmentation/",
        ),
        Source(
            name="tnbc-nuclei",
            title="Triple-negative breast cancer, 50 images of 512×512 px at 40X with all nuclei annotated",
            url="https://zenodo.org/records/1175282/files/TNBC_NucleiSegmentation.zip",
            checksum=None,
            megabytes=25,
            disk_megabytes=60,
            licence="CC BY 4.0; cite Naylor et al. 2018",
            target="TNBC_nuclei",
            unpack="zip",
            into="TNBC_nuclei",
            page="https://zenodo.org/records/1175282",
        ),
        Source(
            name="squeezenet",
            title="SqueezeNet v1.0 with ImageNet weights, Deep Compression format",
            url="https://raw.githubusercontent.com/songhan/SqueezeNet-Deep-Compression/master/"
            "compressed_SqueezeNet.net",
            checksum="md5:9e65b2784de743985f605095d7412130",
            megabytes=1,
            licence="BSD 2-clause; cite Iandola et al. 2016, Han et al. 2016",
            target="weights/compressed_SqueezeNet.net",
            page="https://github.com/songhan/SqueezeNet-Deep-Compression",
        ),
        Source(
            name="cmu-1-small-region",
            title="One Aperio slide region at 20X, OpenSlide's test data",
            url="https://openslide.cs.cmu.edu/download/openslide-testdata/Aperio/CMU-1-Small-Region.svs",
            checksum="sha256:ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7",
            megabytes=2,
            licence="CC0",
            target="slides/CMU-1-Small-Region.svs",
            page="https://openslide.cs.cmu.edu/download/openslide-testdata/",
        ),
        Source(
            name="tcga-cr-7395",
            title="One TCGA slide that states neither power nor microns per pixel, TCGA-CR-7395-01A-01-TS1.svs",
            url=None,
            checksum=None,
            megabytes=None,
            licence="TCGA publication guidelines",
            target="slides/TCGA-CR-7395-01A-01-TS1.svs",
            page="https://portal.gdc.cancer.gov/",
        ),
        Source(
            name="imagenet-classes",
            title="Names of the 1,000 ImageNet classes, as keras.applications reads them",
            url="https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json",
            checksum="md5:c2c37ea517e94d9795004a39431a14cb",
            megabytes=1,
            licence="Apache 2.0",
            target="models/imagenet_class_index.json",
            page="https://keras.io/api/applications/",
            store="keras",
        ),
        Source(
            name="monuseg",
            title="MoNuSeg 2018, H&E of several organs at 40X with all nuclei annotated",
            url=None,
            checksum=None,
            megabytes=None,
            licence="CC BY-NC-SA 4.0; cite Kumar et al. 2017, 2020",
            target="MoNuSeg",
            page="https://monuseg.grand-challenge.org/Data/",
        ),
    )
}  # fmt: skip


def find_source(name: str) -> Source:
    """A source by its name.

    Parameters
    ----------
    name : str
        One of :data:`SOURCES`.

    Returns
    -------
    Source

    Raises
    ------
    DataError
        If there is none of that name; near matches are named.

    Examples
    --------
    >>> find_source("voc2007-test").marker
    'VOCdevkit/VOC2007/ImageSets/Main/test.txt'
    """
    try:
        return SOURCES[name.lower()]
    except KeyError:
        hint = did_you_mean(name, SOURCES)
        raise DataError(
            f"fetch: no source {name!r}.\nReceived: {name!r}.\n"
            + " ".join(part for part in (hint, f"Sources are {', '.join(SOURCES)}.") if part)
        ) from None


CHUNK = 2**20
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


class NotReachable(Exception):
    """The file did not arrive; the message is the plain reason."""


class WrongDigest(Exception):
    """The file arrived, and is another one; the message counts the attempts."""


def download(
    url: str,
    path: Path,
    *,
    digest: str | None,
    label: str,
    attempts: int,
    timeout: tuple[float, float],
    pause: float,
) -> Path:
    """Download a file, unless it is there with the right digest.

    Parameters
    ----------
    url : str
        Address, http or https.
    path : pathlib.Path
        Where the file is to be; its folder must exist.
    digest : str or None
        ``"md5:…"`` or ``"sha256:…"``. With None, whatever arrives whole is taken, and an interrupted
        download starts anew, because nothing could tell two versions' halves apart.
    label : str
        Words in front of the progress bar, and the unfinished file's name.
    attempts : int
        How often a failing connection, a server's error or a wrong digest is tried, in all.
    timeout : tuple of float
        Seconds to wait for a connection, and for the next bytes.
    pause : float
        Seconds before the second attempt; doubles with every further one.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    NotReachable, WrongDigest
        After the last attempt, or at once where another attempt cannot help (404 and the like).
    """
    pooch.get_logger().setLevel("ERROR")
    downloader = _Downloader(label=label, timeout=timeout, resume=digest is not None)
    attempt = 1
    while True:
        try:
            return Path(pooch.retrieve(url, digest, path.name, path.parent, downloader=downloader))
        except requests.RequestException as error:
            status = error.response.status_code if error.response is not None else None
            if attempt == attempts or (status is not None and status not in TRANSIENT):
                raise NotReachable(f"{_reason(error)} after {_times(attempt)}") from error
        except ValueError as error:  # pooch's word for a digest that does not match
            if attempt == attempts:
                raise WrongDigest(f"another digest than {digest} in {_times(attempt)}") from error
        time.sleep(pause * 2 ** (attempt - 1))
        attempt += 1


def _times(attempt: int) -> str:
    return "1 attempt" if attempt == 1 else f"{attempt} attempts"


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"the server's answer {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    return f"{type(error).__name__}: {_innermost(error)}"


def _innermost(error: BaseException) -> BaseException:
    """The plain reason inside the several layers that an HTTP library wraps around it."""
    inner = getattr(error, "reason", None) or next((a for a in error.args if isinstance(a, Exception)), None)
    return _innermost(inner) if isinstance(inner, BaseException) else error


@dataclass
class _Downloader:
    """What pooch calls to fill its temporary file; keeps unfinished bytes beside it for the next try."""

    label: str
    timeout: tuple[float, float]
    resume: bool

    def __call__(self, url: str, output_file: str, _pooch: object, check_only: bool = False) -> None:
        unfinished = Path(output_file).parent / f".{self.label}.part"
        start = unfinished.stat().st_size if self.resume and unfinished.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with requests.get(url, headers=headers, stream=True, timeout=self.timeout) as response:
            if response.status_code == 416:  # the bytes kept are not the beginning of this file
                unfinished.unlink()
                raise requests.ConnectionError("the server has no such range")
            response.raise_for_status()
            goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
            if response.status_code != 206 or not goes_on:
                start = 0
            length = int(response.headers.get("Content-Length", 0))
            with unfinished.open("ab" if start else "wb") as out:
                _copy(response, out, length, self.label)
            if length and unfinished.stat().st_size != start + length:
                raise requests.ConnectionError(
                    f"{unfinished.stat().st_size} of {start + length} bytes arrived"
                )
        unfinished.replace(output_file)


def _copy(response: requests.Response, out: IO[bytes], length: int, label: str) -> None:
    chunks = response.iter_content(CHUNK)
    for chunk in track(chunks, label=label, total=-(-length // CHUNK) or None, unit="MiB"):
        out.write(chunk)


def remote_megabytes(url: str, *, timeout: float = 5.0) -> int | None:
    """The size that a server states for a file, rounded up to MB; None if it does not, or is not there."""
    try:
        response = requests.head(
            url, timeout=timeout, allow_redirects=True, headers={"Accept-Encoding": "identity"}
        )
        response.raise_for_status()
        return -(-int(response.headers["Content-Length"]) // 10**6)
    except (requests.RequestException, KeyError, ValueError):
        return None


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
        The data root; see :func:`scalelib.datasets.sources.data_root`.
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
        recorded digest, breaks a rule of :func:`scalelib.datasets.sources.unpack`, or does not fit
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
