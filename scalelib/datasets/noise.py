"""Noise images with a known canvas size and a known pattern scale, and no object at all.

Every canvas is a crop of one stationary process that lives on a larger torus, and no image is normalised
by its own statistics: so nothing but the number of pixels tells a small canvas from a large one.
Knows nothing of networks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np
import pandas as pd
import scipy.fft
import scipy.optimize
import scipy.special

from scalelib.datasets.base import Dataset
from scalelib.errors import DataError, did_you_mean

Kind = Literal["white", "power", "blob"]
KINDS: tuple[str, ...] = ("white", "power", "blob")

_LEAST_LENGTH = 0.8  # px; a shorter correlation length would need frequencies above Nyquist's 0.5 / px


def noise_field(
    size: int,
    *,
    kind: Kind = "blob",
    correlation_length: float = 4.0,
    exponent: float = 2.0,
    torus: int | None = None,
    random_state: int | np.random.Generator = 0,
) -> np.ndarray:
    """One square field of Gaussian noise of zero mean and unit variance.

    Parameters
    ----------
    size : int
        Side of the canvas in pixels, at least 8.
    kind : {"blob", "white", "power"}, default="blob"
        ``"white"``: independent pixels. ``"power"``: power spectrum 1/f^`exponent`. ``"blob"``: all power
        within one octave of spatial frequency, isotropic, so that blobs have one typical size.
    correlation_length : float, default=4.0
        Of ``"blob"`` noise, in pixels: the distance at which the autocorrelation first falls to 1/e.
        At least 0.8 (Nyquist) and at most a sixteenth of the torus.
    exponent : float, default=2.0
        Of ``"power"`` noise; 2 is the spectrum of natural images (Field 1987), 0 is white noise.
    torus : int, optional
        Side in pixels of the periodic plane that the canvas is cut from. Fields of different `size` are
        the same process only on the same torus. Default: the power of two at or above
        ``max(2 * size, 16 * correlation_length)``.
    random_state : int or numpy.random.Generator, default=0
        The same seed gives the same field.

    Returns
    -------
    ndarray of float32, shape (size, size)
        The variance is one in expectation over the torus, not in each canvas.

    Raises
    ------
    DataError
        If a parameter is out of its range.

    Notes
    -----
    With all power between frequencies ``g = f / sqrt(2)`` and ``h = f * sqrt(2)``, the autocorrelation at
    distance ``r`` is ``(h J1(2 pi h r) - g J1(2 pi g r)) / (pi r (h² - g²))``: the Hankel transform of a
    ring. ``f`` is chosen so that it equals 1/e at `correlation_length`.

    Examples
    --------
    >>> field = noise_field(128, correlation_length=4.0, random_state=0)
    >>> field.shape, bool(abs(correlation_length(field) - 4.0) < 0.4)
    ((128, 128), True)
    """
    length = correlation_length
    side = torus or _torus(size, length if kind == "blob" else 0.0)
    _check_field(size, kind, length, side)
    white = np.random.default_rng(random_state).standard_normal((side, side), dtype=np.float32)
    if kind == "white":
        return white[:size, :size]
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    if kind == "blob":
        centre = _frequency_times_length() / length
        amplitude = ((frequency >= centre / np.sqrt(2)) & (frequency <= centre * np.sqrt(2))).astype(float)
    else:
        amplitude = np.zeros_like(frequency)
        np.power(frequency, -exponent / 2, out=amplitude, where=frequency > 0)
    twice = np.where((np.arange(side // 2 + 1) == 0) | (np.arange(side // 2 + 1) == side / 2), 1, 2)
    amplitude /= np.sqrt((amplitude**2 * twice).sum() / side**2)  # the half-plane stands for the whole
    field = scipy.fft.irfft2(scipy.fft.rfft2(white) * amplitude.astype(np.float32), s=(side, side))
    return np.ascontiguousarray(field[:size, :size], dtype=np.float32)


def _torus(size: int, length: float) -> int:
    return 1 << int(np.ceil(np.log2(max(2 * size, 16 * length))))


@cache
def _frequency_times_length() -> float:
    """Centre frequency times the distance at which a one-octave ring's autocorrelation is 1/e."""
    low, high = 1 / np.sqrt(2), np.sqrt(2)

    def excess(r: float) -> float:
        ring = high * scipy.special.j1(2 * np.pi * high * r) - low * scipy.special.j1(2 * np.pi * low * r)
        return float(ring / (np.pi * r * (high**2 - low**2)) - np.exp(-1))

    return float(scipy.optimize.brentq(excess, 0.05, 0.4))


def _check_field(size: int, kind: str, length: float, torus: int) -> None:
    if kind not in KINDS:
        raise DataError(
            f"noise_field: no noise of kind {kind!r}.\nReceived: kind={kind!r}.\n"
            f"{did_you_mean(kind, KINDS)} Kinds are {', '.join(KINDS)}."
        )
    if size < 8 or torus < size:
        raise DataError(
            "noise_field: the canvas has at least 8 pixels a side and fits on the torus.\n"
            f"Received: size={size}, torus={torus}.\nTake a torus of at least twice the canvas."
        )
    if kind == "blob" and not _LEAST_LENGTH <= length <= torus / 16:
        raise DataError(
            f"noise_field: a correlation length lies between {_LEAST_LENGTH} px and torus / 16.\n"
            f"Received: correlation_length={length}, torus={torus}.\nTake a larger torus or another length."
        )


def correlation_length(field: np.ndarray) -> float:
    """The distance at which a field's radial autocorrelation first falls to 1/e.

    Parameters
    ----------
    field : ndarray, shape (height, width)
        Any real field that is not constant, such as one channel of an image.

    Returns
    -------
    float
        In pixels, interpolated linearly between the distances that the grid has. White noise measures
        ``1 - 1/e = 0.63``, the floor of the pixel grid; ``nan`` if the autocorrelation does not fall
        to 1/e within a half of the shorter side.

    Raises
    ------
    DataError
        If the field is constant, not finite or not two-dimensional.

    Notes
    -----
    The autocorrelation is that of the field minus its mean, without wrapping around: each lag is divided
    by the number of pixel pairs that have it (Wiener–Khinchin on a zero-padded canvas).

    Examples
    --------
    >>> checks = np.kron(np.indices((16, 16)).sum(0) % 2, np.ones((8, 8)))
    >>> 2 < correlation_length(checks) < 5
    True
    """
    field = np.asarray(field, dtype=float)
    if field.ndim != 2 or not np.isfinite(field).all() or np.ptp(field) == 0:
        raise DataError(
            "correlation_length: a field is two-dimensional, finite and not constant.\n"
            f"Received: shape {field.shape}.\nGive one channel of one image."
        )
    height, width = field.shape
    padded = scipy.fft.rfft2(field - field.mean(), s=(2 * height, 2 * width))
    sums = scipy.fft.irfft2(np.abs(padded) ** 2, s=(2 * height, 2 * width))
    reach = min(height, width) // 2
    lags = np.arange(-reach, reach + 1)
    pairs = (height - np.abs(lags))[:, None] * (width - np.abs(lags))[None, :]
    correlation = sums[lags[:, None], lags[None, :]] / pairs
    squared = (lags[:, None] ** 2 + lags[None, :] ** 2).ravel()
    distances, which = np.unique(squared, return_inverse=True)
    radial = np.bincount(which, correlation.ravel()) / np.bincount(which)
    radial, distances = radial / radial[0], np.sqrt(distances)
    below = np.flatnonzero((radial <= np.exp(-1)) & (distances <= reach))
    if len(below) == 0:
        return float("nan")
    last = below[0]
    step = (radial[last - 1] - np.exp(-1)) / (radial[last - 1] - radial[last])
    return float(distances[last - 1] + step * (distances[last] - distances[last - 1]))


def render_noise(
    n: int,
    *,
    kind: Kind = "blob",
    canvas_sizes: Sequence[int] = (48, 64, 80, 96),
    correlation_lengths: tuple[float, float] = (1.0, 4.0),
    exponent: float = 2.0,
    mean: float = 128.0,
    contrast: float = 40.0,
    random_state: int = 0,
) -> Dataset:
    """Grey noise images whose canvas size and pattern scale are drawn independently.

    Parameters
    ----------
    n : int
        Number of images.
    kind : {"blob", "white", "power"}, default="blob"
        See :func:`noise_field`.
    canvas_sizes : sequence of int, default=(48, 64, 80, 96)
        Sides in pixels; every one is used equally often, up to one image.
    correlation_lengths : tuple of float, default=(1.0, 4.0)
        Of ``"blob"`` noise: bounds in pixels of a log-uniform draw. Other kinds have none.
    exponent : float, default=2.0
        Of ``"power"`` noise.
    mean, contrast : float, default=128.0 and 40.0
        Mean and standard deviation of the process in grey levels 0–255; values outside are clipped.
    random_state : int, default=0
        The same seed gives the same bits.

    Returns
    -------
    Dataset
        ``images``: ``uint8`` RGB arrays of differing sizes. ``table``: ``image``, ``object_class`` (the
        kind), ``area_ratio`` and ``sqrt_area_ratio`` (NaN: there is no object), ``canvas_size`` (px) and
        ``correlation_length`` (px, as requested; NaN where the kind has none).

    Raises
    ------
    DataError
        If a parameter is out of its range.

    Examples
    --------
    >>> noise = render_noise(4, canvas_sizes=(32, 64), correlation_lengths=(2.0, 2.0))
    >>> sorted(len(image) for image in noise.images)
    [32, 32, 64, 64]
    """
    shortest, longest = correlation_lengths
    if n < 1 or not canvas_sizes or not 0 < shortest <= longest:
        raise DataError(
            "render_noise: at least one image, one canvas size and an ordered pair of positive lengths.\n"
            f"Received: n={n}, canvas_sizes={list(canvas_sizes)}, lengths={correlation_lengths}.\n"
            "For one fixed length give it twice."
        )
    rng = np.random.default_rng(random_state)
    sizes = rng.permutation(np.resize(np.asarray(canvas_sizes, dtype=int), n))
    lengths = np.exp(rng.uniform(np.log(shortest), np.log(longest), n))
    torus = _torus(max(canvas_sizes), longest if kind == "blob" else 0.0)
    images, digest = [], hashlib.sha256()
    for size, length in zip(sizes, lengths, strict=True):
        field = noise_field(
            int(size),
            kind=kind,
            correlation_length=float(length),
            exponent=exponent,
            torus=torus,
            random_state=rng,
        )
        grey = np.clip(np.rint(mean + contrast * field), 0, 255).astype(np.uint8)
        images.append(np.repeat(grey[..., None], 3, axis=2))
        digest.update(images[-1].tobytes())
    table = pd.DataFrame(
        {
            "image": [f"{kind}-{i:05d}" for i in range(n)],
            "object_class": kind,
            "area_ratio": np.nan,
            "sqrt_area_ratio": np.nan,
            "canvas_size": sizes,
            "correlation_length": lengths if kind == "blob" else np.nan,
        }
    )
    source = "Rendered noise, scalelib (MIT licence)"
    return Dataset(f"{kind} noise", images, table, source=source, digest=digest.hexdigest())
