"""The loop behind ``extract``: images in, batches through the network, activations gathered in order.

Knows networks, images and the cache; must not know data sets or measures.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scalelib.activation_cache import ActivationCache, identify
from scalelib.errors import DataError, NetworkError
from scalelib.feature_maps import MapFiles
from scalelib.image_stream import as_images, describe_image, digest_image, stream
from scalelib.images import read_image, resize_image
from scalelib.interpolation import check_resizing
from scalelib.networks import Network
from scalelib.progress import track
from scalelib.tap_reader import read_taps, tap_reader, wanted_taps


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
