"""Activations of many images at many taps: images prepared in threads, one forward pass for all taps, what is finished kept on disk. Knows networks and images; knows no measure and no data set."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import joblib
import numpy as np
import PIL

from scalelib.errors import DataError, NetworkError, ResultsError, refusing, require, track
from scalelib.graph import gpus, keras, weights_digest
from scalelib.images import check_resizing, read_image, resize_image
from scalelib.networks import Network, PathLike, resolve_tap
from scalelib.results import digest_bytes, read_arrays, write_atomic
from scalelib.validation import check_choice, check_count

_PATH = (str, os.PathLike)
Images = np.ndarray | Sequence[Any] | Iterable[Any]
POOLINGS = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
FORMAT = 3
PART = 256  # images in a part of the cache: what a killed run loses at most


def extract(
    net: Network,
    images: Images,
    *,
    taps: str | Iterable[str] | None = None,
    pooling: str = "avg",
    batch_size: int | None = None,
    resize: str = "stretch",
    interpolation: str = "bilinear",
    antialias: bool = True,
    workers: int | None = None,
    cache: PathLike | None = None,
    allow_duplicates: bool = False,
) -> dict[str, np.ndarray]:
    """Read all taps of a network on all images in one forward pass.

    Parameters
    ----------
    net : Network
        Its own preprocessing is applied, and images are brought to its ``input_size``; with
        ``input_size=None`` every image is read at its own size, batched with others of that size.
    images : ndarray of shape (n, height, width, 3), sequence or iterable
        Pixels or paths, anything that ``scalelib.images.read_image`` takes. Decoded in threads a
        bounded number ahead: beside the result, memory does not grow with their number.
    taps : str or iterable of str, optional
        Which taps, by any name that the network knows. Default: all.
    pooling : {"avg", "max"}, default="avg"
        Over positions, inside the graph; vectors pass as they are.
    batch_size : int, optional
        Default: 32, on a GPU 256. The last batch is filled up, so that every batch has one shape and the
        graph is built once. Another size may change the last bits of an activation.
    resize, interpolation, antialias
        Policy and kernel; see ``scalelib.images.resize_image``.
    workers : int, optional
        Threads that decode, resize and preprocess. Default: one a core that this process may use, at most 16.
    cache : path-like, optional
        Folder where finished activations stay, keyed by the network's weights, graph and
        preprocessing, these options and each image's bytes. What is found there, with these taps or more,
        is not computed again; a killed run loses at most its last 256 images. If the disk fills up, a
        warning is given and the run goes on without.
    allow_duplicates : bool, default=False
        Whether a sequence may list a path twice.

    Returns
    -------
    dict of str to ndarray of float32, shape (n_images, channels)
        By tap as named in `taps`, in that order; rows in the order of the images.

    Raises
    ------
    DataError
        If there is no image, a path twice, or an image that cannot be used: all bad ones are named,
        after the good ones were finished (and cached); or if pooling is unknown.
    NetworkError
        If a tap is unknown, or activations are NaN or infinite.
    ResultsError
        If the cache's folder cannot be written to.

    Notes
    -----
    Spatial average pooling of a layer's feature maps is the paper's choice (§3.4). On NVIDIA's GPUs TF32 is
    off, unless the environment says ``NVIDIA_TF32_OVERRIDE=1``; numbers are those of plain float32.

    Examples
    --------
    >>> from scalelib.networks import load_network
    >>> net = load_network("MobileNet", weights="random", alpha=0.25, input_size=32)
    >>> images = np.zeros((3, 40, 50, 3), np.uint8)
    >>> acts = extract(net, images, taps=["conv_pw_1", "softmax"])
    >>> {tap: values.shape for tap, values in acts.items()}
    {'conv_pw_1': (3, 16), 'softmax': (3, 1000)}
    """
    names = list(net.taps) if taps is None else [taps] if isinstance(taps, str) else list(taps)
    advice = f"Taps of {net.name} are {', '.join(net.taps)}"
    require(names, "extract", "at least one tap is read", f"taps={names}", advice, error=NetworkError)
    asked = {name: resolve_tap(net, name, operation="extract") for name in names}
    check_choice((pooling,), POOLINGS, name="pooling", operation="extract")
    check_resizing(resize, interpolation, antialias)
    batch_size = (256 if gpus() else 32) if batch_size is None else batch_size
    workers = min(16, joblib.cpu_count()) if workers is None else workers
    check_count(batch_size, name="batch_size", operation="extract")
    check_count(workers, name="workers", operation="extract")
    images, number = as_images(images, operation="extract", allow_duplicates=allow_duplicates)
    how: dict[str, Any] = {"policy": resize, "interpolation": interpolation, "antialias": antialias}
    layers = {name: net.step(tap).name for name, tap in asked.items()}
    store = None if cache is None else _Store(cache, _identify(net, pooling=pooling, **how), layers)
    reader = tap_reader(net, asked, pooling=pooling)
    seen = track(images, label=net.name, total=number, unit="image")
    size = min(batch_size, number or batch_size)
    acts = {one: np.empty((number or 0, net.tensor(tap).shape[-1]), np.float32) for one, tap in asked.items()}
    read = 0
    for rows, values in read_batches(net, reader, seen, batch_size=size, workers=workers, store=store, **how):
        read = max(read, max(rows) + 1)
        for name, array in values.items():
            if read > len(acts[name]):  # their number was not known; larger arrays grow where they are
                acts[name].resize((read + read // 8, array.shape[1]), refcheck=False)
            acts[name][rows] = array
    require(read, "extract", "not one image to read", "an iterator that gave nothing", "Check the filter")
    return {name: array[:read] for name, array in acts.items()}


def as_images(
    images: Any, *, operation: str, allow_duplicates: bool = False
) -> tuple[Iterable[Any], int | None]:
    """Images as something to iterate over, and their number where it can be known."""
    what = "images are an array (n, height, width, 3), a list of paths or arrays, or an iterator"
    fits = isinstance(images, Iterable) and not isinstance(images, (*_PATH, dict))
    received = f"one path, {images!r}" if isinstance(images, _PATH) else type(images).__name__
    if isinstance(images, np.ndarray) and images.dtype.kind not in "OUS":
        fits, received = images.ndim == 4, f"an array of shape {images.shape}"
    advice = "Write [path] or image[None] for one image, stack[..., None] for grey ones, sorted(Path(folder).glob('*.jpg'))"
    require(fits, operation, what, received, f"{advice} for a folder; of a dataset give its .images")
    if not hasattr(images, "__len__"):
        return images, None
    require(len(images), operation, what, "no image at all", "Check the pattern or the class filter")
    if not allow_duplicates:
        paths = Counter(os.path.realpath(one) for one in images if isinstance(one, _PATH))
        twice = [Path(path).name for path, times in paths.items() if times > 1]
        what = "an image listed twice would stand on both sides of a train/test split"
        received = f"{len(twice)} of {len(images)} paths more than once: {', '.join(twice[:5])}"
        advice = "List each once, or give allow_duplicates=True and keep them together with groups="
        require(not twice, operation, what, received, advice)
    return images, len(images)


_READERS: WeakKeyDictionary[Any, dict[Any, Any]] = WeakKeyDictionary()


def tap_reader(net: Network, asked: Mapping[str, str], *, pooling: str | None) -> Any:
    """A model from the network's input to its taps by the names asked for, built once; None pools nothing."""
    tensors = {name: net.tensor(tap) for name, tap in asked.items()}
    key = (pooling, *((name, id(tensor)) for name, tensor in tensors.items()))
    built = _READERS.setdefault(net.model, {})
    if key not in built:
        for number, (name, tensor) in enumerate(tensors.items()):
            if pooling is not None and len(tensor.shape) > 2:
                # a name of its own: Keras's automatic ones may be those of layers in a saved model
                tensors[name] = POOLINGS[pooling](name=f"tap_reader_{number}")(tensor)
        built[key] = keras.Model(net.model.inputs[0], tensors, name="tap_reader")
        # on a GPU, Keras would have TensorFlow compile it anew for every size of image, and to other numbers
        built[key].jit_compile = keras.backend.backend() == "jax"
    return built[key]


def read_taps(reader: Any, batch: Any) -> dict[str, np.ndarray]:
    """One forward pass over one preprocessed batch."""
    return {tap: np.asarray(values, np.float32) for tap, values in reader.predict_on_batch(batch).items()}


class _Loaded(NamedTuple):
    """One image on its way; `content` is its preprocessed pixels, its activations from the cache, or what is wrong with it."""

    row: int
    name: str
    digest: bytes
    content: Any


def read_batches(
    net: Network,
    reader: Any,
    images: Iterable[Any],
    *,
    batch_size: int,
    workers: int = 2,
    store: _Store | None = None,
    **resizing: Any,
) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
    """Rows and activations of a batch of images of one size at a time; bad images are refused at the end.

    Images are prepared in threads; this one only stacks them and runs the network.
    """
    bad: list[str] = []
    waiting: dict[tuple[int, ...], list[_Loaded]] = {}
    load = partial(_load, net, store, resizing)
    try:
        for one in prefetch(enumerate(images), load, workers=workers, ahead=2 * batch_size):
            if isinstance(one.content, str):
                bad.append(f"{one.name}: {one.content}")
            elif isinstance(one.content, dict):
                yield [one.row], one.content
            else:
                same = waiting.setdefault(one.content.shape, [])
                same.append(one)
                if len(same) == batch_size or sum(map(len, waiting.values())) == 4 * batch_size:
                    batch = waiting.pop(max(waiting, key=lambda shape: len(waiting[shape])))
                    yield _read(net, reader, batch, batch_size, store)
        for batch in waiting.values():
            yield _read(net, reader, batch, batch_size, store)
    finally:
        if store is not None:
            store.flush()
    named = "\n  ".join(["", *bad[:20], *["…"] * (len(bad) > 20)])
    advice = "Leave these out; with cache=, the others are not computed again"
    require(not bad, "extract", f"{len(bad)} images cannot be used", named, advice)


def prefetch(items: Iterable[Any], work: Callable[[Any], Any], *, workers: int, ahead: int) -> Iterator[Any]:
    """What `work` makes of every item, in order, begun in threads at most `ahead` items before it is handed on."""
    pending: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _load(net: Network, store: _Store | None, resizing: Mapping[str, Any], item: tuple[int, Any]) -> _Loaded:
    row, image = item
    name = f"row {row}: {os.fspath(image)}" if isinstance(image, _PATH) else f"row {row}"
    digest = b""
    try:
        if store is not None:
            with suppress(OSError):  # read_image says better what is wrong with a file
                digest = _digest_image(image)
            if found := store.find(digest):
                return _Loaded(row, name, digest, found)
        pixels = read_image(image)
        if net.input_size is not None:
            pixels = resize_image(pixels, net.input_size, **resizing)
        return _Loaded(row, name, digest, np.asarray(net.preprocess(pixels[None].astype(np.float32)))[0])
    except DataError as error:
        return _Loaded(row, name, digest, str(error).splitlines()[0])


def _read(
    net: Network, reader: Any, batch: list[_Loaded], batch_size: int, store: _Store | None
) -> tuple[list[int], dict[str, np.ndarray]]:
    missing = batch_size - len(batch) if net.input_size is not None else 0
    pixels = np.stack([one.content for one in [*batch, *batch[-1:] * missing]])
    received = f"{len(batch)} images from {batch[0].name} on, {pixels.shape[1:3]} px"
    with refusing("extract", f"{net.name} cannot read images of this size or number", received):
        values = {tap: array[: len(batch)] for tap, array in read_taps(reader, pixels).items()}
    for tap, array in values.items():
        bad = [one.name for one, row in zip(batch, array, strict=True) if not np.isfinite(row).all()]
        rule = f"the activations of tap {tap!r} of {net.name} are NaN or infinite"
        received = f"{len(bad)} of {len(batch)} images of a batch: {', '.join(bad[:5])}"
        require(not bad, "extract", rule, received, "Check weights and preprocessing", error=NetworkError)
    if store is not None:
        store.add([one.digest for one in batch], values)
    return [one.row for one in batch], values


def _digest_image(image: Any) -> bytes:
    """SHA-256 of an image file's bytes, or of an array's dtype, shape and bytes; of other things nothing."""
    if isinstance(image, _PATH):
        return hashlib.sha256(Path(image).read_bytes()).digest()
    if not isinstance(image, np.ndarray):
        return b""
    return bytes.fromhex(digest_bytes([f"{image.dtype.str}{image.shape}".encode(), image.tobytes()]))


def _identify(net: Network, **options: Any) -> dict[str, Any]:
    """Everything but the image that an activation depends on; weights are hashed as they are now."""
    graph = json.dumps(net.model.get_config(), sort_keys=True, default=str)
    shape = (2, *(net.input_size or (64, 64)), 3)
    probe = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) % 256
    preprocess = getattr(net.preprocess, "__qualname__", type(net.preprocess).__qualname__)
    return options | {
        "backend": keras.backend.backend() + " on a GPU" * bool(gpus()),
        "pillow": PIL.__version__,
        "graph": digest_bytes([graph.encode()]),
        "weights": weights_digest(net.steps),
        "preprocess": f"{preprocess} {digest_bytes([np.asarray(net.preprocess(probe)).tobytes()])}",
        "input_size": str(net.input_size),
    }


class _Store:
    """The finished activations of one network under fixed options: a folder of parts that are whole or not there.

    A part is one ``.npz`` archive, images' digests first (``arr_0``), then one array a layer; it serves whoever asks for
    some of its layers. Its zip finds damage by checksum and NumPy refuses pickles in it; joblib's files do neither, HDF5
    and zarr would gain nothing.
    """

    def __init__(self, folder: PathLike, identity: Mapping[str, Any], taps: dict[str, str]) -> None:
        text = json.dumps(identity, indent=1, sort_keys=True).encode()
        self.folder = Path(folder) / f"v{FORMAT}" / digest_bytes([text])[:32]
        self.taps = taps
        self.waiting: dict[bytes, list[np.ndarray]] = {}
        self.where: dict[bytes, tuple[Path, int]] = {}
        self.read = lru_cache(maxsize=4)(_read_part)
        write_atomic(self.folder / "identity.json", text)
        for path in sorted(self.folder.glob("*.npz")):
            part = self.read(path)
            if part.keys() >= {"arr_0", *taps.values()}:
                self.where |= {digest.tobytes(): (path, row) for row, digest in enumerate(part["arr_0"])}

    def find(self, digest: bytes) -> dict[str, np.ndarray]:
        """All taps of one image as arrays of one row; empty if it is not there. Threads may call this."""
        if digest not in self.where:
            return {}
        path, row = self.where[digest]
        part = self.read(path)  # empty if it was lost meanwhile; copies, since a view would keep it
        return {tap: part[layer][[row]] for tap, layer in self.taps.items() if part}

    def add(self, digests: Sequence[bytes], values: Mapping[str, np.ndarray]) -> None:
        """Keep a batch; it reaches the disk when a part is full, or by :meth:`flush`."""
        for row, digest in enumerate(digests):
            if digest:
                self.waiting[digest] = [values[tap][row] for tap in self.taps]
        if len(self.waiting) >= PART:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting as one part."""
        waiting, self.waiting = self.waiting, {}
        if not waiting:
            return
        digests = np.frombuffer(b"".join(waiting), np.uint8).reshape(-1, 32)
        columns = map(np.stack, zip(*waiting.values(), strict=True))
        arrays: dict[str, Any] = dict(zip(self.taps.values(), columns, strict=True))
        path = self.folder / f"{digest_bytes([*waiting, *map(str.encode, sorted(arrays))])[:32]}.npz"
        try:
            write_atomic(path, lambda stream: np.savez(stream, digests, **arrays))
        except ResultsError as error:
            message = f"extract: the run goes on, but {len(waiting)} activations are not cached. {error}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)


def _read_part(path: Path) -> dict[str, np.ndarray]:
    """Digests and activations of a part; of one that cannot be read nothing, and a damaged one is removed."""
    try:
        return read_arrays(path)
    except Exception as error:  # a damaged file raises nearly every class there is
        if not isinstance(error, MemoryError | OSError):  # which may pass
            path.unlink(missing_ok=True)
        message = f"extract: {path} of the cache is damaged or gone; its images are computed again."
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        return {}
