"""Images prepared in threads and handed on in order, a bounded number ahead of their reader. One Keras model that reads all wanted taps in one forward pass, pooling inside the graph. Activations kept on disk, so that a forward pass that was finished is never run again. Unpooled maps streamed into ``.npy`` files whose length is not known beforehand. The loop behind ``extract``: images in, batches through the network, activations gathered in order. Activations of many images at many taps: one forward pass, streamed, and cached if wished."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import threading
import warnings
import zipfile
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import PIL

from scalelib.errors import DataError, NetworkError, ResultsError, did_you_mean, track
from scalelib.graph import keras, weights_digest
from scalelib.images import check_resizing, read_image, resize_image
from scalelib.networks import Network, resolve_tap
from scalelib.results import digest_bytes, write_atomic

T = TypeVar("T")


def as_images(
    images: Any, *, operation: str, allow_duplicates: bool = False
) -> tuple[Iterable[Any], int | None]:
    """Images as something to iterate over, and their number where it can be known.

    Parameters
    ----------
    images : ndarray of shape (n, height, width, 3), sequence or iterable of paths and arrays
        Sequences are checked for paths that occur twice; a one-shot iterator cannot be.
    operation : str
        Who asks; the first word of every message.
    allow_duplicates : bool, default=False
        Whether a path may occur twice.

    Returns
    -------
    images : iterable
    number : int or None

    Raises
    ------
    DataError
        If this is one image, empty, not iterable, or lists a file twice.

    Examples
    --------
    >>> as_images(np.zeros((2, 8, 8, 3), np.uint8), operation="extract")[1]
    2
    """
    what = (
        f"{operation}: images are an array (n, height, width, 3), a list of paths or arrays, or an iterator."
    )
    if isinstance(images, (str, os.PathLike)):
        raise DataError(
            f"{what}\nReceived: one path, {os.fspath(images)!r}.\n"
            "Write [path] for one image, or sorted(Path(folder).glob('*.jpg')) for a folder."
        )
    if isinstance(images, np.ndarray) and images.dtype.kind not in "OUS" and images.ndim != 4:
        raise DataError(
            f"{what}\nReceived: an array of shape {images.shape}.\n"
            "Write image[None] for one RGB image and stack[..., None] for a stack of grey ones."
        )
    if isinstance(images, dict) or not isinstance(images, Iterable):
        raise DataError(
            f"{what}\nReceived: {type(images).__name__}.\nOf a dataset, give its .images; of a dict, its values."
        )
    if not isinstance(images, Sized):
        return images, None
    number = len(images)
    if number == 0:
        raise DataError(f"{what}\nReceived: no image at all.\nCheck the pattern or the class filter.")
    if not allow_duplicates and not (isinstance(images, np.ndarray) and images.ndim == 4):
        paths = [os.path.realpath(one) for one in images if isinstance(one, (str, os.PathLike))]
        twice = [path for path, times in Counter(paths).items() if times > 1]
        if twice:
            names = ", ".join(Path(path).name for path in twice[:5])
            raise DataError(
                f"{operation}: an image listed twice would stand on both sides of a train/test split.\n"
                f"Received: {len(twice)} of {number} paths more than once: {names}{', …' * (len(twice) > 5)}.\n"
                "List each once, or give allow_duplicates=True and keep them together with groups=."
            )
    return images, number


def digest_image(image: Any) -> bytes:
    """SHA-256 of an image file's bytes, or of an array's dtype, shape and bytes.

    Examples
    --------
    >>> digest_image(np.zeros((4, 4))) == digest_image(np.zeros((2, 8)))
    False
    """
    if isinstance(image, np.ndarray):
        head = f"{image.dtype.str}{image.shape}".encode()
        return bytes.fromhex(digest_bytes([head, np.ascontiguousarray(image).tobytes()]))
    return hashlib.sha256(Path(image).read_bytes()).digest()


def describe_image(image: Any) -> str:
    """A path as it was given, or what kind of array it is; for messages."""
    if isinstance(image, (str, os.PathLike)):
        return os.fspath(image)
    return f"array of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__


def stream(
    images: Iterable[Any], load: Callable[[int, Any], T], *, workers: int, ahead: int
) -> Generator[T, None, None]:
    """``load(row, image)`` of every image, in order, computed in threads.

    Parameters
    ----------
    images : iterable
        Drawn from in this thread, at most `ahead` images before the one handed on.
    load : callable
        Run in the threads; its exceptions come out here, at their image's turn.
    workers : int
        Number of threads.
    ahead : int
        Bound on what is loaded or being loaded and not handed on yet.

    Yields
    ------
    object
        What `load` returned.

    Examples
    --------
    >>> list(stream("abc", lambda row, letter: letter * row, workers=2, ahead=2))
    ['', 'b', 'cc']
    """
    pending: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(max_workers=workers)
    try:
        for row, image in enumerate(images):
            pending.append(pool.submit(load, row, image))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


POOLINGS = ("avg", "max", "none")

_READERS: WeakKeyDictionary[Any, dict[Any, Any]] = WeakKeyDictionary()


def wanted_taps(
    net: Network, taps: str | Iterable[str] | None, pooling: str | Mapping[str, str], *, operation: str
) -> dict[str, str]:
    """Which taps to read, under the names they were asked by, and how each is pooled.

    Parameters
    ----------
    net : Network
    taps : str, iterable of str, or None
        Names as :func:`scalelib.networks.resolve_tap` knows them. None: all of the network's.
    pooling : {"avg", "max", "none"} or mapping of tap to one of these
        Taps that a mapping does not name are pooled by ``"avg"``.
    operation : str
        Who asks; the first word of every message.

    Returns
    -------
    dict of str to str
        Tap → pooling, in the order asked for; vectors (taps without positions) have ``"none"``.

    Raises
    ------
    NetworkError
        If a tap or a pooling is unknown, or none is asked for.
    """
    names = list(net.taps) if taps is None else [taps] if isinstance(taps, str) else list(taps)
    if not names:
        raise NetworkError(
            f"{operation}: at least one tap is read.\nReceived: taps={names}.\n"
            f"Taps of {net.name} are {', '.join(net.taps)}."
        )
    asked = {name: resolve_tap(net, name, operation=operation) for name in names}
    if isinstance(pooling, str):
        chosen = dict.fromkeys(asked.values(), pooling)
    else:
        chosen = {resolve_tap(net, name, operation=operation): how for name, how in pooling.items()}
        unread = sorted(set(chosen) - set(asked.values()))
        if unread:
            raise NetworkError(
                f"{operation}: pooling names a tap that is not read.\n"
                f"Received: pooling for {unread}, taps={names}.\nAdd it to taps."
            )
    for how in chosen.values():
        if how not in POOLINGS:
            hint = did_you_mean(str(how), POOLINGS)
            raise NetworkError(
                f"{operation}: no pooling {how!r}.\nReceived: pooling={pooling!r}.\n"
                f"{hint + ' ' if hint else ''}Known: {', '.join(POOLINGS)}."
            )
    vectors = {tap for tap in asked.values() if len(net.tensor(tap).shape) == 2}
    return {name: "none" if tap in vectors else chosen.get(tap, "avg") for name, tap in asked.items()}


def tap_reader(net: Network, wanted: Mapping[str, str]) -> Any:
    """A model from the network's input to a dict of pooled taps, built once per network and choice.

    Parameters
    ----------
    net : Network
    wanted : mapping of str to str
        As :func:`wanted_taps` gives it.

    Returns
    -------
    keras.Model
        Shares the network's layers. Outputs have shape (n, channels), or the tap's own for
        ``"none"``.
    """
    tensors = {name: net.tensor(resolve_tap(net, name)) for name in wanted}
    key = tuple((name, how, id(tensors[name])) for name, how in wanted.items())
    built = _READERS.setdefault(net.model, {})
    if key not in built:
        # names of their own: Keras's automatic ones may be those of layers in a saved model
        outputs = {
            name: _pooled(tensors[name], how, layer=f"tap_reader_{number}")
            for number, (name, how) in enumerate(wanted.items())
        }
        built[key] = keras.Model(net.model.inputs[0], outputs, name="tap_reader")
    return built[key]


def _pooled(tensor: Any, how: str, *, layer: str) -> Any:
    if how == "none":
        return tensor
    kind = keras.layers.GlobalAveragePooling2D if how == "avg" else keras.layers.GlobalMaxPooling2D
    return kind(name=layer)(tensor)


def read_taps(reader: Any, net: Network, images: np.ndarray) -> dict[str, np.ndarray]:
    """One forward pass over one batch.

    Parameters
    ----------
    reader : keras.Model
        From :func:`tap_reader`.
    net : Network
        For its preprocessing.
    images : ndarray of uint8, shape (n, height, width, 3)

    Returns
    -------
    dict of str to ndarray of float32
        First axis n.
    """
    outputs = reader.predict_on_batch(net.preprocess(images.astype(np.float32)))
    return {tap: np.asarray(values, np.float32) for tap, values in outputs.items()}


FORMAT = 1
CHUNK = 256
OPEN_CHUNKS = 4


def identify(net: Network, **options: Any) -> dict[str, str]:
    """Everything but image and tap that an activation depends on, as text.

    Parameters
    ----------
    net : Network
        Its weights are hashed as they are now, not as they were loaded.
    **options
        How images are brought to the input size.

    Returns
    -------
    dict of str to str

    Raises
    ------
    NetworkError
        If Keras cannot serialise the model, so that two of them could not be told apart.

    Examples
    --------
    >>> from scalelib.networks import load_network
    >>> net = load_network("MobileNet", weights="random", alpha=0.25, input_size=32)
    >>> sorted(identify(net, resize="stretch"))[:3]
    ['backend', 'format', 'graph']
    """
    try:
        graph = json.dumps(net.model.get_config(), sort_keys=True, default=str)
    except Exception as error:  # custom layers raise what they like
        raise NetworkError(
            f"extract: a cache needs a model that Keras can serialise.\nReceived: {net.name}: {error}.\n"
            "Give its layers a get_config method, or cache=None."
        ) from error
    shape = (2, *(net.input_size or (64, 64)), 3)
    probe = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) % 256
    preprocess = getattr(net.preprocess, "__qualname__", type(net.preprocess).__qualname__)
    return {
        "format": str(FORMAT),
        "backend": keras.backend.backend(),
        "pillow": PIL.__version__,
        "graph": digest_bytes([graph.encode()]),
        "weights": weights_digest(net.steps),
        "preprocess": f"{preprocess} {digest_bytes([np.asarray(net.preprocess(probe)).tobytes()])}",
        "input_size": str(net.input_size),
        **{name: str(value) for name, value in options.items()},
    }


class ActivationCache:
    """The finished activations of one network under fixed options.

    Parameters
    ----------
    folder : path-like
        Made if need be; shared by all networks, options and processes.
    net : Network
    wanted : mapping of str to str
        Tap → pooling. Each tap is looked up on its own, so a later run with other taps finds those
        it shares.
    identity : mapping of str to str
        From :func:`identify`.

    Raises
    ------
    ResultsError
        If the folder cannot be written to: better now than after an hour.

    Warns
    -----
    RuntimeWarning
        If chunks were damaged (they are removed and computed again), or if the disk fills up: the
        run then goes on without the cache.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        net: Network,
        wanted: Mapping[str, str],
        identity: Mapping[str, str],
    ) -> None:
        text = json.dumps(dict(identity), indent=1, sort_keys=True).encode()
        self.identity = hashlib.sha256(text).hexdigest()
        self.folder = Path(folder) / f"v{FORMAT}" / self.identity[:32]
        self.columns = {tap: _column(net, tap, how) for tap, how in wanted.items()}
        self.writable = True
        self._where: dict[bytes, list[tuple[Path, int]]] = {}
        self._waiting: list[tuple[bytes, dict[str, np.ndarray]]] = []
        self._open: OrderedDict[Path, dict[str, np.ndarray]] = OrderedDict()
        self._lock = threading.Lock()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self.folder / "identity.json", lambda stream: stream.write(text))
        except (OSError, ResultsError) as error:
            raise ResultsError(
                "extract: the cache folder cannot be written to.\n"
                f"Received: cache={os.fspath(folder)!r}: {error}.\n"
                "Choose another folder, free some space, or give cache=None."
            ) from error
        self._index()

    def find(self, digest: bytes) -> dict[str, np.ndarray] | None:
        """All wanted taps of one image, or None if one of them is missing. Threads may call this."""
        found: dict[str, np.ndarray] = {}
        for path, row in self._where.get(digest, ()):
            chunk = self._chunk(path)
            for tap, column in self.columns.items():
                if chunk is not None and tap not in found and column in chunk:
                    found[tap] = chunk[column][row].copy()  # a view would keep the chunk
        return found if len(found) == len(self.columns) else None

    def add(self, digests: Sequence[bytes], values: Mapping[str, np.ndarray]) -> None:
        """Keep a batch, less what is there already; it reaches the disk when a chunk is full, or by :meth:`flush`."""
        for row, digest in enumerate(digests):
            if digest and self.find(digest) is None:
                self._waiting.append((digest, {tap: values[tap][row] for tap in self.columns}))
        if len(self._waiting) >= CHUNK:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting as one chunk."""
        waiting, self._waiting = self._waiting, []
        if not waiting or not self.writable:
            return
        digests = np.frombuffer(b"".join(digest for digest, _ in waiting), np.uint8).reshape(-1, 32)
        columns = dict(zip(self.columns.values(), self.columns, strict=True))
        meta = json.dumps({"identity": self.identity, "columns": list(columns)}).encode()
        arrays: dict[str, Any] = {"digests": digests, "meta": np.frombuffer(meta, np.uint8)}
        for k, tap in enumerate(columns.values()):
            arrays[f"column_{k}"] = np.stack([values[tap] for _, values in waiting])
        stream = io.BytesIO()
        np.savez(stream, **arrays)
        content = stream.getvalue()
        path = self.folder / f"{hashlib.sha256(content).hexdigest()}.npz"
        try:
            write_atomic(path, lambda file: file.write(content))
        except (OSError, ResultsError) as error:
            self.writable = False
            warnings.warn(
                f"extract: the run goes on, but its activations are no longer cached. {error}",
                RuntimeWarning,
                stacklevel=2,
            )

    def _index(self) -> None:
        """Which chunk holds which image; every chunk is checked against its name."""
        damaged = []
        for path in sorted(self.folder.glob("*.npz")):
            chunk = self._chunk(path)
            if chunk is None:
                damaged.append(path)
                continue
            for row, digest in enumerate(chunk["digests"]):
                self._where.setdefault(digest.tobytes(), []).append((path, row))
        for path in damaged:
            path.unlink(missing_ok=True)
        if damaged:
            warnings.warn(
                f"extract: {len(damaged)} damaged or foreign chunks of the cache {self.folder} were removed "
                "and will be computed again.",
                RuntimeWarning,
                stacklevel=3,
            )

    def _chunk(self, path: Path) -> dict[str, np.ndarray] | None:
        with self._lock:
            if path in self._open:
                self._open.move_to_end(path)
            else:
                chunk = _read_chunk(path, self.identity)
                if chunk is None:
                    return None
                self._open[path] = chunk
                if len(self._open) > OPEN_CHUNKS:
                    self._open.popitem(last=False)
            return self._open[path]


def _column(net: Network, tap: str, how: str) -> str:
    """A tap by what it is, whatever it is called: its layer, that layer's settings, the pooling."""
    step = net.step(resolve_tap(net, tap))
    try:
        config = json.dumps(step.operation.get_config(), sort_keys=True, default=str)
    except Exception:  # a bare operation, which the graph's digest covers
        config = ""
    return f"{step.name} {how} {digest_bytes([type(step.operation).__name__.encode(), config.encode()])}"


def _read_chunk(path: Path, identity: str) -> dict[str, np.ndarray] | None:
    """Digests and columns of a chunk, or None if it is not what its name says."""
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != path.stem:
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            meta = json.loads(arrays["meta"].tobytes())
            if meta["identity"] != identity:
                return None
            chunk = {column: arrays[f"column_{k}"] for k, column in enumerate(meta["columns"])}
            return {"digests": arrays["digests"], **chunk}
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


class MapFiles:
    """One growing ``.npy`` file per tap; each gets its own name only when it is complete.

    Parameters
    ----------
    folder : path-like
        Made if need be. Files of the same names are replaced at the end, not before.
    taps : iterable of str
        What is written; characters that no file name should have become ``_``.

    Raises
    ------
    ResultsError
        If the folder cannot be written to, the disk fills up, or two taps would share a file.
    """

    def __init__(self, folder: str | os.PathLike[str], taps: Iterable[str]) -> None:
        self.folder = Path(folder)
        self.paths = {tap: self.folder / (re.sub(r"[^\w.-]", "_", tap) + ".npy") for tap in taps}
        if len(set(self.paths.values())) < len(self.paths):
            raise ResultsError(
                "feature maps: every tap has a file of its own.\n"
                f"Received: taps {list(self.paths)}.\nExtract them one after another into two folders."
            )
        self._streams: dict[str, BinaryIO] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for tap, path in self.paths.items():
                self._streams[tap] = self._partial(path).open("wb")
        except OSError as error:
            self.discard()
            raise self._failure(error) from error

    def append(self, tap: str, maps: np.ndarray) -> None:
        """Add maps of shape (n, …) to a tap's file; every call has the same shape but for n."""
        stream = self._streams[tap]
        try:
            if tap not in self._shapes:
                self._shapes[tap] = (0, *maps.shape[1:])
                self._write_header(tap)
            stream.write(np.ascontiguousarray(maps, "<f4").tobytes())
        except OSError as error:
            raise self._failure(error) from error
        self._shapes[tap] = (self._shapes[tap][0] + len(maps), *maps.shape[1:])

    def finish(self) -> dict[str, np.ndarray]:
        """Close the files, give them their names, and open them as read-only memory maps."""
        try:
            for tap, stream in self._streams.items():
                stream.seek(0)
                self._write_header(tap)  # NumPy leaves room in it for the first axis to grow
                stream.close()
                self._partial(self.paths[tap]).replace(self.paths[tap])
        except OSError as error:
            raise self._failure(error) from error
        return {tap: np.load(path, mmap_mode="r", allow_pickle=False) for tap, path in self.paths.items()}

    def discard(self) -> None:
        """Close and remove what is not complete; harmless after :meth:`finish`."""
        for tap, stream in self._streams.items():
            with suppress(OSError):  # what a full disk could not take, it cannot take on closing either
                stream.close()
            self._partial(self.paths[tap]).unlink(missing_ok=True)

    def _write_header(self, tap: str) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": self._shapes[tap]}
        np.lib.format.write_array_header_1_0(self._streams[tap], header)

    def _partial(self, path: Path) -> Path:
        return path.with_name(f".{path.name}.{os.getpid()}.partial")

    def _failure(self, error: OSError) -> ResultsError:
        return ResultsError(
            f"feature maps: cannot write to {self.folder}.\n"
            f"Received: {error.strerror or error}.\n"
            "Free some space, pool the tap, or give a folder that you may write to."
        )


@dataclass(frozen=True)
class Options:
    """The options of :func:`scalelib.activations.extract`, where each is described."""

    taps: str | Iterable[str] | None = None
    pooling: str | Mapping[str, str] = "avg"
    batch_size: int = 32
    resize: str = "stretch"
    interpolation: str = "bilinear"
    antialias: bool = True
    workers: int = 2
    cache: str | os.PathLike[str] | None = None
    maps_folder: str | os.PathLike[str] | None = None
    allow_duplicates: bool = False


@dataclass(frozen=True)
class _Loaded:
    """One image on its way: its pixels, or its activations from the cache, or what is wrong with it."""

    row: int
    name: str
    digest: bytes = b""
    pixels: np.ndarray | None = None
    found: dict[str, np.ndarray] | None = None
    problem: str = ""


@dataclass
class _Gathered:
    """Activations as they come, in whatever order, until all are there."""

    rows: list[int] = field(default_factory=list)
    pieces: dict[str, list[np.ndarray]] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)

    def keep(self, rows: Sequence[int], values: Mapping[str, np.ndarray]) -> None:
        self.rows.extend(rows)
        for tap, array in values.items():
            self.pieces.setdefault(tap, []).append(array)

    def in_order(self) -> dict[str, np.ndarray]:
        order = np.argsort(self.rows)
        return {tap: np.concatenate(self.pieces.pop(tap))[order] for tap in list(self.pieces)}


def run(
    net: Network, images: Any, options: Options, *, skip_bad: bool = False
) -> tuple[dict[str, np.ndarray], np.ndarray, dict[int, str]]:
    """Activations by tap, the rows they belong to, and what was wrong with the other rows."""
    wanted = wanted_taps(net, options.taps, options.pooling, operation="extract")
    maps = [tap for tap, how in wanted.items() if how == "none" and len(net.tensor(tap).shape) > 2]
    _check(net, options, maps)
    images, number = as_images(images, operation="extract", allow_duplicates=options.allow_duplicates)
    pooled = {tap: how for tap, how in wanted.items() if tap not in maps}
    cache = None
    if options.cache is not None and pooled:
        how = {name: getattr(options, name) for name in ("resize", "interpolation", "antialias")}
        cache = ActivationCache(options.cache, net, pooled, identify(net, **how))
    files = MapFiles(options.maps_folder, maps) if maps and options.maps_folder is not None else None
    reader = tap_reader(net, wanted)
    batch_size = min(options.batch_size, number or options.batch_size)
    gathered = _Gathered()

    def load(row: int, image: Any) -> _Loaded:
        name, digest = describe_image(image), b""
        try:
            if cache is not None and isinstance(image, (str, os.PathLike, np.ndarray)):
                with suppress(OSError):  # read_image says better what is wrong with a file
                    digest = digest_image(image)
                found = None if maps else cache.find(digest)
                if found is not None:
                    return _Loaded(row, name, digest, found=found)
            pixels = read_image(image)
            if net.input_size is not None:
                pixels = resize_image(
                    pixels,
                    net.input_size,
                    policy=options.resize,
                    interpolation=options.interpolation,
                    antialias=options.antialias,
                )
            return _Loaded(row, name, digest, pixels)
        except DataError as error:
            return _Loaded(row, name, problem=f"{name}: {str(error).splitlines()[0]}")

    loaded = stream(images, load, workers=options.workers, ahead=2 * batch_size)
    try:
        for batch in _batches(
            track(loaded, label=net.name, total=number, unit="image"), batch_size, gathered
        ):
            values = _read(reader, net, batch, batch_size)
            if files is not None:
                for tap in maps:
                    files.append(tap, values.pop(tap))
            if cache is not None:
                cache.add([one.digest for one in batch], values)
            gathered.keep([one.row for one in batch], values)
        if not gathered.rows:
            seen = "; ".join(list(gathered.problems.values())[:3]) or "an iterator that gave nothing"
            raise DataError(
                f"extract: not one image to read.\nReceived: {seen}.\nCheck the pattern or the filter."
            )
        if gathered.problems and not skip_bad:
            raise _bad_images(gathered, cached=cache is not None)
        acts = gathered.in_order() | (files.finish() if files is not None else {})
    finally:
        loaded.close()
        if cache is not None:
            cache.flush()
        if files is not None:
            files.discard()
    return {tap: acts[tap] for tap in wanted}, np.sort(gathered.rows), gathered.problems


def _bad_images(gathered: _Gathered, *, cached: bool) -> DataError:
    bad = gathered.problems
    named = "\n  ".join(f"row {row}: {reason}" for row, reason in list(bad.items())[:20])
    more = f"\n  and {len(bad) - 20} more" if len(bad) > 20 else ""
    return DataError(
        f"extract: {len(bad)} of {len(gathered.rows) + len(bad)} images cannot be used.\n"
        f"Received:\n  {named}{more}\n"
        f"{'The activations of the others are in the cache. ' if cached else ''}"
        "Leave these out, or use extract_readable, which says which rows it kept."
    )


def _check(net: Network, options: Options, maps: Sequence[str]) -> None:
    check_resizing(options.resize, options.interpolation, options.antialias)
    for name in ("batch_size", "workers"):
        value = getattr(options, name)
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise DataError(
                f"extract: {name} is a whole number from 1.\nReceived: {name}={value!r}.\nLeave it out."
            )
    if maps and (options.maps_folder is None or net.input_size is None):
        raise DataError(
            "extract: maps that are not pooled go to files, and all have one size.\n"
            f"Received: pooling 'none' for {maps}, maps_folder={options.maps_folder!r}, "
            f"input_size={net.input_size}.\n"
            "Give maps_folder=, and a network with an input size; or pool them."
        )


def _batches(loaded: Iterable[_Loaded], batch_size: int, gathered: _Gathered) -> Iterator[list[_Loaded]]:
    """Images of one size, a batch at a time; what needs no forward pass goes straight to `gathered`."""
    waiting: dict[tuple[int, ...], list[_Loaded]] = {}
    for one in loaded:
        if one.problem:
            gathered.problems[one.row] = one.problem
        elif one.found is not None:
            gathered.keep([one.row], {tap: values[None] for tap, values in one.found.items()})
        elif one.pixels is not None:
            same = waiting.setdefault(one.pixels.shape, [])
            same.append(one)
            if len(same) == batch_size or sum(map(len, waiting.values())) == 4 * batch_size:
                yield waiting.pop(max(waiting, key=lambda shape: len(waiting[shape])))
    yield from waiting.values()


def _read(reader: Any, net: Network, batch: list[_Loaded], batch_size: int) -> dict[str, np.ndarray]:
    pixels = np.stack([one.pixels for one in batch if one.pixels is not None])
    if net.input_size is not None and len(batch) < batch_size:
        pixels = np.concatenate([pixels, pixels[-1:].repeat(batch_size - len(batch), axis=0)])
    values = {tap: array[: len(batch)] for tap, array in read_taps(reader, net, pixels).items()}
    for tap, array in values.items():
        bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if bad.any():
            names = ", ".join(f"row {batch[i].row} ({batch[i].name})" for i in np.flatnonzero(bad)[:5])
            raise NetworkError(
                f"extract: the activations of tap {tap!r} of {net.name} are NaN or infinite.\n"
                f"Received: {int(bad.sum())} of {len(batch)} images of a batch: {names}.\n"
                "Check the weights and the preprocessing."
            )
    return values


Images = np.ndarray | Sequence[Any] | Iterable[Any]


def extract(
    net: Network,
    images: Images,
    *,
    taps: str | Iterable[str] | None = None,
    pooling: str | Mapping[str, str] = "avg",
    batch_size: int = 32,
    resize: str = "stretch",
    interpolation: str = "bilinear",
    antialias: bool = True,
    workers: int = 2,
    cache: str | os.PathLike[str] | None = None,
    maps_folder: str | os.PathLike[str] | None = None,
    allow_duplicates: bool = False,
) -> dict[str, np.ndarray]:
    """Read all taps of a network on all images in one forward pass.

    Parameters
    ----------
    net : Network
        Its own preprocessing is applied, and images are brought to its ``input_size``; with
        ``input_size=None`` every image is read at its own size, batched with others of that size.
    images : ndarray of shape (n, height, width, 3), sequence or iterable
        Pixels or paths, anything that :func:`scalelib.images.read_image` takes. Decoded in threads a
        bounded number ahead: beside the result, memory does not grow with their number.
    taps : str or iterable of str, optional
        Which taps, by any name that the network knows. Default: all.
    pooling : {"avg", "max", "none"} or mapping of tap to one of these, default="avg"
        Over positions, inside the graph. Taps that a mapping leaves out are averaged; vectors pass
        as they are. ``"none"`` streams whole maps into ``<maps_folder>/<tap>.npy``.
    batch_size : int, default=32
        The last batch is filled up, so that every batch has one shape and the graph is built once.
    resize, interpolation, antialias
        Policy and kernel; see :func:`scalelib.images.resize_image`.
    workers : int, default=2
        Threads that decode and resize.
    cache : path-like, optional
        Folder where finished activations stay, keyed by the network's weights, graph and
        preprocessing, these options, the tap and the image's bytes. What is found there is not
        computed again; a killed run loses at most its last 256 images. Maps are not cached. If the
        disk fills up, a warning is given and the run goes on without.
    maps_folder : path-like, optional
        Wanted with ``"none"``.
    allow_duplicates : bool, default=False
        Whether a sequence may list a path twice. Each row is then computed on its own.

    Returns
    -------
    dict of str to ndarray of float32, shape (n_images, channels)
        By tap as named in `taps`, in that order; rows in the order of the images. Maps are read-only
        memory maps of shape (n_images, height, width, channels).

    Raises
    ------
    DataError
        If there is no image, a path twice, or an image that cannot be used: all bad ones are named,
        after the good ones were finished (and cached). See :func:`extract_readable`.
    NetworkError
        If a tap or pooling is unknown, or activations are NaN or infinite.
    ResultsError
        If the cache's or the maps' folder cannot be written to.

    Notes
    -----
    Spatial average pooling of a layer's feature maps is the paper's choice (§3.4).

    Examples
    --------
    >>> from scalelib.networks import load_network
    >>> net = load_network("MobileNet", weights="random", alpha=0.25, input_size=32)
    >>> acts = extract(net, np.zeros((3, 40, 50, 3), np.uint8), taps=["conv_pw_1", "softmax"])
    >>> {tap: values.shape for tap, values in acts.items()}
    {'conv_pw_1': (3, 16), 'softmax': (3, 1000)}
    """
    options = Options(
        taps=taps,
        pooling=pooling,
        batch_size=batch_size,
        resize=resize,
        interpolation=interpolation,
        antialias=antialias,
        workers=workers,
        cache=cache,
        maps_folder=maps_folder,
        allow_duplicates=allow_duplicates,
    )
    return run(net, images, options)[0]


def extract_readable(
    net: Network, images: Images, **options: Any
) -> tuple[dict[str, np.ndarray], np.ndarray, dict[int, str]]:
    """As :func:`extract`, but leave out images that cannot be used, and say which.

    Parameters
    ----------
    net : Network
    images : ndarray, sequence or iterable
    **options
        Those of :func:`extract`.

    Returns
    -------
    acts : dict of str to ndarray
        Of the usable images alone.
    rows : ndarray of int, shape (n_usable,)
        Their positions among `images`: measures must be indexed with it.
    problems : dict of int to str
        Position → reason, for each image left out.

    Raises
    ------
    DataError
        If no image can be used; and see :func:`extract`.

    Examples
    --------
    >>> from scalelib.networks import load_network
    >>> net = load_network("MobileNet", weights="random", alpha=0.25, input_size=32)
    >>> acts, rows, problems = extract_readable(net, [np.zeros((1, 1)), np.zeros((9, 9))], taps="softmax")
    >>> acts["softmax"].shape, rows.tolist(), list(problems)
    ((1, 1000), [1], [0])
    """
    return run(net, images, Options(**options), skip_bad=True)
