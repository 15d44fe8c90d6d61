"""Activations kept on disk, so that a forward pass that was finished is never run again.

Knows files and arrays, and what identifies a network; must not know how activations are computed.
A chunk is one ``.npz`` file named by the SHA-256 of its bytes. So it is either whole or not used,
and two processes that write the same chunk write the same file.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from scalelib.backend import keras
from scalelib.errors import NetworkError, ResultsError
from scalelib.graph import weights_digest
from scalelib.networks import Network, resolve_tap
from scalelib.provenance import digest_bytes, write_atomic

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
