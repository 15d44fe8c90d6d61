"""Notebook 06: what early channels answer to (kernels, regions, painted images, gratings), and what they tell of scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats
from skimage.util import montage

from scalebook.exact_tests import holm
from scalebook.ledger import Read
from scalelib.errors import track
from scalelib.graph import copy_model, fields, keras
from scalelib.images import read_image, resize_image
from scalelib.linear import fit_linear
from scalelib.networks import Network, Preprocess
from scalelib.plotting import COLOURS, WIDTH, merged_legend, tap_axis
from studies.s07_peak import NARROW, WIDE

FREQUENCIES = tuple(float(f) for f in np.geomspace(1 / 64, 0.5, 16).round(5))
ORIENTATIONS = tuple(range(0, 180, 30))
# A channel whose strongest response is below this share of its tap's strongest has no preference.
UNTUNED = 1e-6


def first_kernels(net: Network) -> np.ndarray:
    """Kernels of the first convolution on RGB pixels, preprocessing folded in: (channels, height, width, 3)."""
    convolutions = [step.operation for step in net.steps if isinstance(step.operation, keras.layers.Conv2D)]
    kernel = np.asarray(convolutions[0].get_weights()[0])  # (height, width, in, out)
    return np.einsum("hwpo,pc->ohwc", kernel, _linear_part(net.preprocess)[0]).astype(np.float32)


def _linear_part(preprocess: Preprocess) -> tuple[np.ndarray, np.ndarray]:
    """Preprocessing as what it does to one pixel: matrix @ pixel + offset."""
    probes = np.vstack([np.zeros(3), 255 * np.eye(3)]).astype(np.float32)
    values = np.asarray(preprocess(probes[:, None, None, :]), np.float64)[:, 0, 0, :]
    return (values[1:4] - values[0]).T / 255, values[0]


def kernel_table(kernels: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Kernels by network as a long table: ``network, channel, y, x, red, green, blue``."""
    parts = []
    for network, array in kernels.items():
        channel, y, x = (part.ravel() for part in np.indices(array.shape[:3]))
        colours = dict(zip(("red", "green", "blue"), array.reshape(-1, 3).T, strict=True))
        parts.append(pd.DataFrame({"network": network, "channel": channel, "y": y, "x": x, **colours}))
    return pd.concat(parts, ignore_index=True)


def gratings(frequency: float, orientation: float, *, size: tuple[int, int], phases: int = 4) -> np.ndarray:
    """Grey sinusoids on 0–255, cycles per pixel in (0, 0.5], degrees from the x axis: (phases, height, width, 3)."""
    y, x = np.mgrid[: size[0], : size[1]]
    angle = np.deg2rad(orientation)
    along = 2 * np.pi * frequency * (np.cos(angle) * x + np.sin(angle) * y)
    shift = 2 * np.pi * np.arange(phases) / phases
    wave = np.cos(along[None] + shift[:, None, None])
    return np.repeat((127.5 * (1 + 0.8 * wave))[..., None], 3, axis=-1).astype(np.float32)


def frequency_tuning(
    net: Network,
    taps: Sequence[str],
    *,
    frequencies: Iterable[float] = FREQUENCIES,
    orientations: Sequence[float] = ORIENTATIONS,
) -> pd.DataFrame:
    """Response of every channel to gratings over frequency (cycles per input pixel) and orientation.

    It is the root mean square, over phases and the central half of the map (away from padding), of the difference
    from plain grey: channels that follow the stripes and channels that only notice that there are some.
    """
    size = net.input_size or (224, 224)
    model = keras.Model(net.model.input, [net.tensor(tap) for tap in taps])
    grey = _centres(model, net.preprocess(np.full((1, *size, 3), 127.5, np.float32)))
    parts = []
    for frequency in frequencies:
        for orientation in orientations:
            maps = _centres(model, net.preprocess(gratings(frequency, orientation, size=size)))
            for tap, lit, rest in zip(taps, maps, grey, strict=True):
                response = np.sqrt(((lit - rest) ** 2).mean(axis=(0, 1, 2)))
                part = {"tap": tap, "channel": np.arange(len(response)), "frequency": frequency}
                parts.append(pd.DataFrame({**part, "orientation": orientation, "response": response}))
    return pd.concat(parts, ignore_index=True)


def _centres(model: Any, images: np.ndarray) -> list[np.ndarray]:
    """The central half of each tap's maps."""
    maps, centres = model.predict_on_batch(images), []
    for part in map(np.asarray, maps if isinstance(maps, list) else [maps]):
        rows, columns = (slice(n // 4, n - n // 4) for n in part.shape[1:3])
        centres.append(part[:, rows, columns])
    return centres


def preferred_frequency(tuning: pd.DataFrame) -> pd.DataFrame:
    """Frequency and orientation to which each channel responds most; channels that answer to none are left out.

    The frequency is refined by a parabola through the strongest response and its neighbours, in octaves; ``at_edge``:
    it is the lowest or highest that was tried, so that the preference may lie beyond.
    """
    rows = []
    strongest = tuning.groupby("tap").response.max()
    for (tap, channel), group in tuning.groupby(["tap", "channel"], sort=False):
        grid = group.pivot(index="frequency", columns="orientation", values="response").sort_index()
        best, where = np.unravel_index(np.argmax(grid.to_numpy()), grid.shape)
        response = grid.iat[best, where]
        if not response > UNTUNED * strongest[tap]:
            continue
        at_edge = bool(best in (0, len(grid) - 1))
        octaves = np.log2(grid.index.to_numpy(float))
        peak = octaves[best]
        if not at_edge:
            near = slice(best - 1, best + 2)
            curve = np.polyfit(octaves[near] - peak, grid.iloc[near, where].to_numpy(), 2)
            peak += -curve[1] / (2 * curve[0]) if curve[0] < 0 else 0.0
        rows.append((tap, channel, float(2**peak), float(grid.columns[where]), float(response), at_edge))
    return pd.DataFrame(rows, columns=["tap", "channel", "frequency", "orientation", "response", "at_edge"])


def preference_by_tap(preferred: pd.DataFrame) -> pd.DataFrame:
    """Median and quartiles of preferred frequency over channels, and the share of them at an edge."""
    groups = preferred.groupby(["network", "weights", "tap"], sort=False)
    quartiles = groups.frequency.quantile([0.25, 0.5, 0.75]).unstack()
    quartiles = quartiles.set_axis(["low", "median", "high"], axis=1)
    table = groups.agg(channels=("frequency", "size")).join(quartiles)
    return table.join(groups.at_edge.mean()).reset_index()


def channel_weights(acts: Mapping[str, Any], measures: Any, *, classes: Any) -> pd.DataFrame:
    """Each channel's weight in the regression concept vector and its own rank correlation, means over classes.

    ``weight``: change of the measure per standard deviation of the channel, in its own, all other channels held
    fixed (ridge); ``correlation`` does not depend on what other channels there are (0 where a channel is constant).
    """
    y, classes = np.asarray(measures, float), np.asarray(classes)
    parts = []
    for tap, X in acts.items():
        weights, correlations = [], []
        for label in np.unique(classes):
            own, target = X[classes == label], y[classes == label]
            coefficients = fit_linear(own, target[:, None], "ridge").coefficients[:, 0]
            weights.append(coefficients * own.std(axis=0) / target.std())
            correlations.append(_correlate(_ranks(own.T), _ranks(target)))
        part = {"weight": np.mean(weights, axis=0), "correlation": np.nan_to_num(correlations).mean(axis=0)}
        parts.append(pd.DataFrame({"tap": tap, "channel": np.arange(X.shape[1]), **part}))
    return pd.concat(parts, ignore_index=True)


def relate_to_frequency(
    table: pd.DataFrame, value: str, *, permutations: int = 999, random_state: int = 0
) -> pd.DataFrame:
    """Rank correlation of channels' preferred frequency with another column, by network, weights and tap.

    ``low`` and ``high``: 95 % percentile bootstrap over channels, which speaks of this network's channels alone;
    ``p``: permutation, two-sided, (b + 1)/(B + 1); ``p_holm`` is corrected for all rows of the table.
    """
    by = ["network", "weights", "tap"]
    records: list[dict[str, Any]] = []
    for key, group in table.groupby(by, sort=False):
        rng = np.random.default_rng([random_state, len(records)])
        x, y = group["frequency"].to_numpy(float), group[value].to_numpy(float)
        a, b = _ranks(x), _ranks(y)
        rho = _correlate(a, b)
        null = _correlate(a, np.stack([rng.permutation(b) for _ in range(permutations)]))
        drawn = rng.integers(len(x), size=(permutations, len(x)))
        low, high = np.nanquantile(_correlate(_ranks(x[drawn]), _ranks(y[drawn])), [0.025, 0.975])
        p = float(((np.abs(null) >= abs(rho) - 1e-12).sum() + 1) / (permutations + 1))
        found = {"value": value, "channels": len(x), "rho": float(rho), "low": low, "high": high, "p": p}
        records.append(dict(zip(by, key, strict=True)) | found)
    result = pd.DataFrame(records)
    return result.assign(p_holm=holm(result["p"].to_numpy()))


def summarise_relations(relations: pd.DataFrame) -> pd.DataFrame:
    """In how many layers, and networks, a correlation differs from 0 after correction: by column, trained and random."""
    kind = relations.weights.eq("random").map({True: "random", False: "trained"})
    rows = relations.assign(
        kind=kind, sure=relations.p_holm < 0.05, name=relations.network + relations.weights
    )
    rows["sure_name"] = rows.name.where(rows.sure)
    counted = {"networks": ("name", "nunique"), "networks_sure": ("sure_name", "nunique")}
    by_kind = rows.groupby(["value", "kind"], sort=False)
    return by_kind.agg(**counted, layers=("sure", "size"), layers_sure=("sure", "sum")).reset_index()


def _ranks(values: np.ndarray) -> np.ndarray:
    ranks = stats.rankdata(values, axis=-1)
    return ranks - ranks.mean(axis=-1, keepdims=True)


def _correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlation of centred ranks along the last axis; NaN where one is constant."""
    scale = np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
    return np.divide((a * b).sum(axis=-1), scale, out=np.full(np.shape(scale), np.nan), where=scale > 0)


def extreme_channels(channels: pd.DataFrame, *, number: int) -> pd.DataFrame:
    """The channels of a tap that go down most with the measure, then as many that go up most."""
    ordered = channels.sort_values("correlation", kind="stable")
    low = number // 2
    return ordered if len(ordered) <= number else pd.concat([ordered.head(low), ordered.tail(number - low)])


@dataclass(frozen=True)
class Regions:
    """Where a channel was excited most, a row per channel and rank, and the receptive fields' pixels there.

    Places are those of the receptive field in the resized image; over its border the crops are grey.
    """

    table: pd.DataFrame
    crops: np.ndarray


def exciting_regions(
    net: Network, tap: str, images: Sequence[Any] | np.ndarray, *, channels: Sequence[int], ranks: int = 4
) -> Regions:
    """The image regions that excite channels most, at most one an image; images are stretched to the input size."""
    field = fields(net.steps)[id(net.tensor(tap))]
    assert field is not None, f"a unit of {tap} reads the whole image"
    chosen, size = [int(channel) for channel in channels], net.input_size or (224, 224)
    model = keras.Model(net.model.input, net.tensor(tap))
    excitement = np.empty((len(images), len(chosen)), np.float32)
    places = np.empty((len(images), len(chosen)), int)
    width, starts = 0, range(0, len(images), 32)
    for start in track(starts, label=f"regions of {tap}", total=len(starts)):
        batch = np.stack([resize_image(read_image(image), size) for image in images[start : start + 32]])
        maps = np.asarray(model.predict_on_batch(net.preprocess(batch.astype(np.float32))))[..., chosen]
        flat, width = maps.reshape(len(maps), -1, len(chosen)), maps.shape[2]
        places[start : start + len(maps)] = flat.argmax(axis=1)
        excitement[start : start + len(maps)] = flat.max(axis=1)
    rows, crops = [], np.empty((len(chosen), ranks, field.size, field.size, 3), np.uint8)
    for index, channel in enumerate(chosen):
        for rank, image in enumerate(np.argsort(-excitement[:, index], kind="stable")[:ranks]):
            at = divmod(int(places[image, index]), width)
            top, left = (round(low + k * by) for low, k, by in zip(field.low, at, field.stride, strict=True))
            crops[index, rank] = _crop(resize_image(read_image(images[image]), size), top, left, field.size)
            activation = float(excitement[image, index])
            rows.append((tap, channel, rank + 1, int(image), activation, top, left, field.size))
    columns = ["tap", "channel", "rank", "image", "activation", "top", "left", "side"]
    return Regions(pd.DataFrame(rows, columns=columns), crops)


def _crop(image: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    framed = np.pad(image, ((side, side), (side, side), (0, 0)), constant_values=128)
    return framed[top + side : top + 2 * side, left + side : left + 2 * side]


def maximise_activation(
    net: Network, tap: str, *, channels: Sequence[int], side: int | None = None, steps: int = 128
) -> tuple[np.ndarray, pd.DataFrame]:
    """One painted image per channel that makes its mean activation large in the middle of the map, and the gain.

    Erhan et al. 2009. Keras has no public gradient, but trains any weight: the images, pixels = 255 / (1 + exp(−z)),
    are the only trainable weight of a model whose output is the loss: roughness less activation, the latter in its
    standard deviations over random images.
    """
    tensor, chosen = net.tensor(tap), [int(channel) for channel in channels]
    field = fields(net.steps)[id(tensor)]
    assert field is not None, f"a unit of {tap} reads the whole image"
    side = side or max(32, field.size + 2 * round(max(field.stride)))
    matrix, offset = _linear_part(net.preprocess)
    reader, _ = copy_model(keras.Model(net.model.input, tensor), input_size=(side, side))
    reader.trainable = False
    rows, columns = (slice(n // 4, n - n // 4) for n in reader.output_shape[1:3])
    rng = np.random.default_rng(0)

    def activations(pixels: np.ndarray) -> np.ndarray:
        maps = np.asarray(reader.predict_on_batch(net.preprocess(pixels)))
        return maps[:, rows, columns].mean(axis=(1, 2))[..., chosen]

    spread = activations(rng.uniform(0, 255, (16, side, side, 3)).astype(np.float32)).std(axis=0)
    scale = np.where(spread > 1e-6 * max(float(spread.max()), 1e-30), spread, max(float(spread.max()), 1e-30))
    start = rng.normal(0, 0.1, (len(chosen), side, side, 3)).astype(np.float32)
    clock = keras.Input((1,))
    canvas = keras.layers.Dense(start.size, use_bias=False, kernel_initializer="zeros")
    pixels = keras.ops.sigmoid(keras.ops.reshape(canvas(clock), start.shape))
    canvas.set_weights([start.reshape(1, -1)])
    read = reader(keras.ops.matmul(255 * pixels, matrix.T.astype(np.float32)) + offset.astype(np.float32))
    own = np.eye(tensor.shape[-1], dtype=np.float32)[chosen] / scale[:, None].astype(np.float32)
    excitement = keras.ops.sum(keras.ops.mean(read[:, rows, columns], axis=(1, 2)) * own)
    rough = keras.ops.mean(keras.ops.abs(pixels[:, 1:] - pixels[:, :-1]), axis=(1, 2, 3))
    rough += keras.ops.mean(keras.ops.abs(pixels[:, :, 1:] - pixels[:, :, :-1]), axis=(1, 2, 3))
    loss = keras.ops.reshape(5.0 * keras.ops.sum(rough) - excitement, (1, 1))
    painter = keras.Model(clock, loss)
    painter.compile(optimizer=keras.optimizers.Adam(0.05), loss=lambda _, value: keras.ops.sum(value))
    ticks = np.ones((steps, 1), np.float32)
    painter.fit(ticks, ticks, batch_size=1, shuffle=False, verbose=0)
    z = canvas.get_weights()[0].reshape(start.shape)
    before, after = ((255 / (1 + np.exp(-values))).astype(np.float32) for values in (start, z))
    gain = {"before": np.diagonal(activations(before)), "after": np.diagonal(activations(after))}
    return np.rint(after).astype(np.uint8), pd.DataFrame({"tap": tap, "channel": chosen, **gain})


def _octaves(ax: Axes, axis: str, ticks: Sequence[int]) -> None:
    getattr(ax, f"set_{axis}scale")("log", base=2)
    getattr(ax, f"set_{axis}ticks")([1 / n for n in ticks], [f"1/{n}" for n in ticks])


LOOKS = {"random": (COLOURS[5], "s--"), "one scale": (COLOURS[2], "^-.")}


def frequency_by_tap(preferred: pd.DataFrame) -> Figure:
    """Median and quartiles of channels' preferred frequency along the early taps."""
    networks = dict(list(preferred.groupby("network", sort=False)))
    fig, axes = plt.subplots(1, len(networks), figsize=(WIDTH, 3.5), sharey=True, squeeze=False)
    for ax, (network, own) in zip(axes.flat, networks.items(), strict=True):
        x = pd.Series(pd.factorize(own.tap)[0], own.index)
        for place, (kind, rows) in enumerate(own.groupby("weights", sort=False)):
            spread = [rows["median"] - rows.low, rows.high - rows["median"]]
            beside = x[rows.index] + 0.12 * (place - 0.5)
            colour, line = LOOKS.get(str(kind), (COLOURS[0], "o-"))
            name = "ImageNet" if str(kind).startswith("imagenet") else kind
            look = {"fmt": line, "color": colour, "capsize": 2, "label": f"{name} weights"}
            ax.errorbar(beside, rows["median"], yerr=spread, **look)
        ax.set_title(network)
        tap_axis(ax, own.tap.unique(), label="")
        _octaves(ax, "y", [64, 32, 16, 8, 4, 2])
    merged_legend(fig, loc="outside upper center")
    axes[0, 0].set_ylabel("preferred frequency\n(cycles per input pixel)")
    fig.supxlabel("layer (input to output); bars: quartiles over channels", fontsize=9)
    return fig


def coarse_or_fine(read: Read, *, narrow: bool) -> Figure:
    """Key figure: what channels that prefer coarse patterns tell about scale, photographs above the control."""
    tables = [read(f"{profile}/06_early_features/relations") for profile in ("compact", "control")]
    return relation(pd.concat(tables, ignore_index=True), narrow=narrow)


def relation(relations: pd.DataFrame, *, narrow: bool = False) -> Figure:
    """Rank correlation of preferred frequency with what channels tell about scale, early taps downwards; filled: p < 0.05."""
    names = {"correlation": "a channel alone", "weight": "in the concept vector"}
    networks = relations.network + ", " + relations.weights.str.split(",").str[0]
    shown = relations.assign(network=networks.str.replace(", imagenet", "").str.replace(" (2015)", ""))
    shown = shown[(relations.weights != "random") & (relations.channels >= 10)]
    order = list(shown.network.unique())
    rows, columns = (2, 1) if narrow else (1, 2)
    size = (NARROW, 1.1 * len(order) + 1) if narrow else (WIDE, 0.5 * len(order) + 1)
    fig, axes = plt.subplots(rows, columns, figsize=size, sharex=True, sharey=True)
    for ax, (value, name) in zip(axes.flat, names.items(), strict=True):
        ax.axvline(0, color="#777777", lw=0.8)
        for network, own in shown[shown.value == value].groupby("network"):
            at = order.index(str(network)) + np.linspace(-0.3, 0.3, len(own))
            ax.hlines(at, own.low, own.high, color=COLOURS[0], lw=1.2)
            filled = [COLOURS[0] if sure else "none" for sure in own.p_holm < 0.05]
            ax.scatter(own.rho, at, s=18, c=filled, edgecolors=COLOURS[0], zorder=3)
        ax.set_title(name)
        ax.set_yticks(range(len(order)), order)
        ax.set(ylim=(len(order) - 0.5, -0.5), xlim=(-1, 1), xticks=(-1, -0.5, 0, 0.5, 1))
    fig.supxlabel("where the object is large: ← coarse, fine →", fontsize="medium")
    return fig


def kernel_sheet(kernels: Mapping[str, np.ndarray]) -> Figure:
    """First-layer kernels by network, each on its own scale: grey is no effect, brighter excites, darker inhibits."""
    sheets = {name: _sheet(array) for name, array in kernels.items()}
    heights = [sheet.shape[0] / sheet.shape[1] for sheet in sheets.values()]
    size = (WIDTH, WIDTH * sum(heights) + 0.4 * len(heights))
    fig, axes = plt.subplots(len(sheets), 1, figsize=size, squeeze=False, height_ratios=heights)
    for ax, (name, sheet) in zip(axes.flat, sheets.items(), strict=True):
        count, height, width = kernels[name].shape[:3]
        ax.imshow(sheet)
        ax.set_axis_off()
        ax.set_title(f"{name}: {count} kernels of {height} × {width} px")
    return fig


def _sheet(kernels: np.ndarray) -> np.ndarray:
    """Kernels side by side, one pixel of white between them, grey for no effect."""
    columns = min(len(kernels), 24 if len(kernels) > 16 else 16)
    strongest = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
    shown = 0.5 + kernels / (2 * np.where(strongest > 0, strongest, 1))
    grid = (-(-len(kernels) // columns), columns)
    return montage(shown, [1, 1, 1], grid_shape=grid, padding_width=1, channel_axis=-1)[1:-1, 1:-1]


@dataclass(frozen=True)
class Gallery:
    """What some channels of one tap like: painted images, their most exciting regions, and a label for each."""

    title: str
    painted: np.ndarray
    crops: np.ndarray
    labels: Sequence[str]


def galleries(panels: Sequence[Gallery]) -> Figure:
    """Painted image and most exciting regions, a column per channel, one tap under the other."""
    ranks, columns = panels[0].crops.shape[1], max(len(panel.labels) for panel in panels)
    fig = plt.figure(figsize=(WIDTH, ((WIDTH / columns) * (ranks + 1) + 0.75) * len(panels)))
    parts = fig.subfigures(len(panels), 1, squeeze=False)[:, 0]
    for part, panel in zip(parts, panels, strict=True):
        part.suptitle(panel.title, fontsize=10, fontweight="bold", x=0.01, ha="left")
        axes = part.subplots(ranks + 1, columns, squeeze=False)
        for ax in axes.flat:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        for column, label in enumerate(panel.labels):
            axes[0, column].set_title(label, fontsize=7.5, fontweight="normal", loc="center")
            for ax, image in zip(axes[:, column], [panel.painted[column], *panel.crops[column]], strict=True):
                ax.imshow(image)
        names = ["painted", *(f"region {rank + 1}" for rank in range(ranks))]
        for ax, name in zip(axes[:, 0], names, strict=True):
            ax.set_ylabel(name, fontsize=8)
    return fig
