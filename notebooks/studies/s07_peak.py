"""Notebook 07: where plain least squares explodes, what is left of a central peak, and a table that does not add up.

First a problem whose answer is known, then sweeps over training images per dimension, outputs in several forms, the
test of a central peak, a printed table's sums; the figures last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, count
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import special

from scalebook.exact_tests import holm
from scalelib.linear import one_thread
from scalelib.plotting import COLOURS, MARKERS, WIDTH, colour_of, facets, merged_legend
from scalelib.pruning import OUTPUT_TAPS, best_layer
from scalelib.regression import effective_rank, learning_curve, random_projection, train_test_splits
from scalelib.statistics import compare_taps
from studies.readings import layerwise_by_class

# Training images per dimension: dense around 1, where the peak is expected.
RATIOS = (0.15, 0.25, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 4.5, 7.0)
FEWEST = 8
# How far R² must fall below both sides; small samples alone dip a little.
DEPTH = 1.0
ALL_CLASSES = "mean over classes"
EXPONENTS = (0.05, 0.1, 0.25, 0.5, 1.0)
TOTAL = "total"


def gaussian_problem(
    n: int, d: int, *, noise: float = 1.0, decay: float = 0.0, random_state: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian features, the j-th of standard deviation j^-decay, and a linear function of variance 1 through noise."""
    rng = np.random.default_rng(random_state)
    features = rng.normal(size=(n, d))
    direction = rng.normal(size=d)
    measure = features @ direction / np.linalg.norm(direction) + noise * rng.normal(size=n)
    return features * np.arange(1, d + 1) ** -float(decay), measure


def expected_ols_r2(n_train: Any, d: int, *, noise: float = 1.0) -> np.ndarray:
    """What least squares scores on new rows of `gaussian_problem` without decay; −inf where no expectation exists.

    Hastie et al. 2022, isotropic features, with m = n − 1 for the intercept: the error is σ² (1 + d/(m−d−1)) for
    m > d + 1 and σ² (1 + m/(d−m−1)) + 1 − m/d for m < d − 1, times 1 + 1/n.
    """
    n = np.asarray(n_train, float)
    m, variance = n - 1, noise**2
    with np.errstate(divide="ignore", invalid="ignore"):
        tall = variance * (1 + d / (m - d - 1))
        wide = variance * (1 + m / (d - m - 1)) + 1 - m / d
    error = np.where(m > d + 1, tall, np.where(m < d - 1, wide, np.inf)) * (1 + 1 / n)
    return 1 - error / (1 + variance)


def peak_sweep(
    acts: Mapping[str, np.ndarray],
    measures: Any,
    *,
    ratios: Sequence[float] = RATIOS,
    sizes: Sequence[int] | None = None,
    estimators: str | Sequence[str] = ("ols", "ridge"),
    repeats: int = 10,
    random_state: int = 0,
) -> pd.DataFrame:
    """Learning curve of every tap at training sizes in its own dimensions (or at `sizes`), and at the largest possible.

    ``rank``: dimensions that the tap's features span over all images; ``ratio`` = n_train / rank.
    """
    most = len(train_test_splits(len(measures), repeats=1)[0][0])
    parts = []
    for tap, X in acts.items():
        with one_thread():
            rank = int(np.linalg.matrix_rank(np.asarray(X, np.float64) - X.mean(axis=0, dtype=np.float64)))
            used = effective_rank(X)
        wanted = {round(ratio * rank) for ratio in ratios} if sizes is None else set(sizes)
        possible = sorted({size for size in wanted if min(FEWEST, most) <= size <= most} | {most})
        curve = learning_curve(
            {tap: X}, measures, train_sizes=possible, estimators=estimators, repeats=repeats,
            random_state=random_state,
        )  # fmt: skip
        parts.append(curve.assign(rank=rank, effective_rank=used, ratio=curve.n_train / rank))
    return pd.concat(parts, ignore_index=True)


def bands(sweep: pd.DataFrame, *, by: Sequence[str] = ("tap", "estimator", "n_train")) -> pd.DataFrame:
    """Median and 10 % and 90 % quantiles of held-out R² over repeats."""
    groups = sweep.groupby(list(by), sort=False)
    scores = groups.r2_test
    table = {"ratio": groups.ratio.mean(), "rows": scores.size(), "median": scores.median()}
    return pd.DataFrame(table | {"low": scores.quantile(0.1), "high": scores.quantile(0.9)}).reset_index()


def locate_peak(sweep: pd.DataFrame, *, by: Sequence[str] = ("tap",)) -> pd.DataFrame:
    """Where least squares is worst by the median, how deep it falls below both sides, and what ridge does there.

    ``covered``: the sweep reaches from a ratio of 0.75 or less to 1.25 or more; ``peaked``: covered, and the trough
    is at least a whole variance of the measure below both sides. A mean near the peak has no expectation.
    """
    about, rows = [*by, "channels", "rank", "effective_rank"], []
    for _, group in sweep.groupby(list(by), sort=False):
        medians = group.groupby(["estimator", "n_train"]).r2_test.median()
        ols, ridge = medians["ols"], medians["ridge"]
        worst = ols.idxmin()
        sides = ols[ols.index < worst].max(), ols[ols.index > worst].max()
        covered = bool(group.ratio.min() <= 0.75 and group.ratio.max() >= 1.25)
        peaked = covered and bool(ols[worst] < min(sides) - DEPTH)
        first = group.iloc[0]
        place = worst, worst / first["rank"], ols[worst], *sides, ridge[worst]
        rows.append((*first[about], *place, covered, peaked))
    found = ["trough_n", "trough_ratio", "trough_r2", "before_r2", "after_r2", "ridge_r2"]
    return pd.DataFrame(rows, columns=[*about, *found, "covered", "peaked"])


def nearest_size(curves: pd.DataFrame, printed: pd.DataFrame) -> pd.DataFrame:
    """Numbers of training images by how near several taps' medians come to printed values, nearest first.

    Distance: mean over taps of the absolute difference in log10(1 − R²).
    """
    values = printed.set_index("tap")["r2_test"]
    known = curves[curves.tap.isin(values.index)]
    wide = known.pivot(index="n_train", columns="tap", values="median").dropna()
    apart = np.log10(1 - wide) - np.log10(1 - values[wide.columns])
    result = wide.assign(distance=apart.abs().mean(axis=1))
    return result.sort_values("distance").rename_axis(columns=None).reset_index()


def output_forms(logits: Any, *, exponents: Sequence[float] = EXPONENTS) -> dict[str, np.ndarray]:
    """Logits, log-probabilities, and probabilities raised to powers, from the logits in double precision."""
    z = np.asarray(logits, np.float64)
    log_p = special.log_softmax(z, axis=1)
    powers = {"p" if power == 1 else f"p^{power:g}": np.exp(power * log_p) for power in exponents}
    return {"logits": z, "log p": log_p, **powers}


def channel_spread(forms: Mapping[str, np.ndarray], *, classes: Any) -> pd.DataFrame:
    """How variation within a class is spread over the channels of each form: mean over classes.

    ``median_sd``, ``largest_sd``: over channels, of the standard deviation over images; ``spread_decades``: log10 of
    their ratio.
    """
    labels, rows = np.asarray(classes), []
    for form, values in forms.items():
        own = [values[labels == label] for label in np.unique(labels)]
        deviations = np.array([part.std(axis=0) for part in own])
        middle, largest = np.median(deviations, axis=1), deviations.max(axis=1)
        with np.errstate(divide="ignore"):
            decades = np.log10(largest / middle)
        rank = np.mean([effective_rank(part) for part in own])
        rows.append((form, values.shape[1], middle.mean(), largest.mean(), decades.mean(), rank))
    columns = ["form", "channels", "median_sd", "largest_sd", "spread_decades", "effective_rank"]
    return pd.DataFrame(rows, columns=columns)


def central_peak(
    acts: Mapping[str, np.ndarray],
    measures: Any,
    *,
    classes: Any,
    repeats: int = 10,
    draws: int = 5,
    random_state: int = 0,
) -> pd.DataFrame:
    """The tap chosen on half of the images against first, last and outputs on the other half, and swapped; by ridge.

    At own width, and at equal width: the wider of two taps projected at random to the other's, the mean over draws.
    ``p``: corrected paired t test (Nadeau and Bengio 2003); ``p_holm``: over all comparisons of the same class.
    """
    labels = np.asarray(classes).astype(str)
    table = pd.DataFrame({"object_class": labels, "measure": np.asarray(measures, float)})

    def scores(versions: Sequence[Mapping[str, np.ndarray]], rows: np.ndarray) -> pd.DataFrame:
        tables = [
            layerwise_by_class(
                {tap: X[rows] for tap, X in version.items()}, table[rows], measures=["measure"],
                estimators=["ridge"], repeats=repeats, conditions="true", random_state=random_state,
            ).assign(draw=draw)
            for draw, version in enumerate(versions)
        ]  # fmt: skip
        return pd.concat(tables).drop(columns="measure")

    inner = [tap for tap in acts if tap not in OUTPUT_TAPS]
    references = dict.fromkeys([inner[0], inner[-1], *(tap for tap in acts if tap in OUTPUT_TAPS)])
    first = _half(labels, np.random.default_rng([random_state, 4]))
    parts = []
    for half, chooses in ((1, first), (2, ~first)):
        tap = best_layer(scores([acts], chooses))
        for reference in references:
            if reference == tap:
                continue
            pair = {name: acts[name] for name in acts if name in (tap, reference)}
            width = min(X.shape[1] for X in pair.values())
            seeds = [random_state + 1_000_003 * draw for draw in range(draws)]
            projected = [random_projection(pair, width, random_state=seed) for seed in seeds]
            for matching, versions in (("own width", [pair]), ("equal width", projected)):
                scored = scores(versions, ~chooses)
                apart = compare_taps(scored, tap, reference, by=["object_class"])
                together = compare_taps(scored, tap, reference, by=[]).assign(object_class=ALL_CLASSES)
                part = pd.concat([apart, together]).rename(columns={"a": "tap", "b": "reference"})
                parts.append(part.assign(half=half, matching=matching, width=width))
    result = pd.concat(parts, ignore_index=True)
    result["p_holm"] = result.groupby("object_class")["p"].transform(lambda p: holm(p.to_numpy()))
    columns = ["half", "tap", "reference", "matching", "width", "object_class"]
    return result[[*columns, "mean_difference", "low", "high", "p", "p_holm"]]


def _half(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask of half of each class; its own, because `pruning.first_half` draws other halves than the archived ones."""
    first = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        first[rows[: len(rows) // 2]] = True
    return first


def check_sums(table: pd.DataFrame) -> pd.DataFrame:
    """Every row and column of counts beside its printed ``"total"``; the difference is the sum less the total."""
    lines = [
        (line, name, cells.loc[name, TOTAL], cells.loc[name].drop(TOTAL).sum())
        for line, cells in (("row", table), ("column", table.T))
        for name in cells.index
    ]
    sums = pd.DataFrame(lines, columns=["line", "name", "printed", "sum"])
    return sums.assign(difference=sums["sum"] - sums["printed"])


def smallest_corrections(table: pd.DataFrame) -> pd.DataFrame:
    """The smallest sets of cells, totals included, whose correction makes every line add up; all of that size.

    One unit more in a cell changes the difference of its row and that of its column by one (by −1 where the cell is
    that line's total). A set explains the table if these linear equations have a solution with no count below 0.
    """
    difference = check_sums(table)["difference"].to_numpy()
    columns = ["explanation", "row", "column", "printed", "corrected", "slip"]
    if not difference.any():
        return pd.DataFrame(columns=columns)
    in_row, in_column = np.where(table.columns == TOTAL, -1, 1), np.where(table.index == TOTAL, -1, 1)
    n_rows, n_columns = table.shape
    effects = np.vstack([np.kron(np.eye(n_rows), in_row), np.kron(in_column, np.eye(n_columns))])
    explanations: list[list[tuple[Any, ...]]] = []
    for size in count(1):
        explanations = list(_explanations(table, effects, difference, size))
        if explanations:
            break
    rows = [(number, *cell) for number, cells in enumerate(explanations, 1) for cell in cells]
    return pd.DataFrame(rows, columns=columns)


def _explanations(
    table: pd.DataFrame, effects: np.ndarray, difference: np.ndarray, size: int
) -> Iterator[list[tuple[Any, ...]]]:
    printed = table.to_numpy().ravel()
    for cells in combinations(range(printed.size), size):
        chosen = effects[:, cells]
        if not np.abs(chosen).sum(axis=1)[difference != 0].all():  # a wrong line without a suspect
            continue
        change = np.rint(np.linalg.lstsq(chosen, -difference, rcond=None)[0]).astype(int)
        corrected = printed[list(cells)] + change
        if (chosen @ change == -difference).all() and change.all() and (corrected >= 0).all():
            places = (divmod(cell, table.shape[1]) for cell in cells)
            names = [(table.index[row], table.columns[column]) for row, column in places]
            numbers = zip(printed[list(cells)].tolist(), corrected.tolist(), strict=True)
            yield [(*name, *pair, _slip(*pair)) for name, pair in zip(names, numbers, strict=True)]


def _slip(printed: int, corrected: int) -> str:
    a, b = str(printed), str(corrected)
    places = [i for i in range(len(a)) if len(a) == len(b) and a[i] != b[i]]
    swapped = len(places) == 2 and np.ptp(places) == 1 and sorted(a) == sorted(b)
    return "one digit" if len(places) == 1 else "digits swapped" if swapped else "other"


ESTIMATORS = {"ols": "least squares", "ridge": "ridge"}
SIZES = (10, 30, 100, 300, 1000)
# Held-out R² below this is drawn here.
LOWEST = -1e5


def known_case(curves: pd.DataFrame, theory: pd.DataFrame) -> Figure:
    """Sweep of a synthetic problem beside what theory expects."""
    grid = _by_estimator(curves, col="case", x="ratio")
    for case, ax in grid.axes_dict.items():
        for side in (theory.ratio < 1, theory.ratio > 1):
            rows = theory[side & (theory.case == case)]
            ax.plot(rows.ratio, rows.r2, "k:", lw=1, label="theory, least squares")
        _ratio_axis(ax)
    return _finished(grid, curves["low"].min())


def sweep(curves: pd.DataFrame) -> Figure:
    """Held-out R² against training images per dimension, a line per tap, a row per ``panel``."""
    shown = curves.replace({"estimator": ESTIMATORS})
    grid = _by_depth(shown, row="panel", col="estimator", x="ratio", height=2.1)
    for ax in grid.axes.flat:
        _ratio_axis(ax)
    for row, ax in zip(grid.row_names, grid.axes[:, 0], strict=True):
        ax.set_ylabel(row.replace(", ", ",\n", 1) + "\n\nheld-out R² (median)", fontsize=8.5)
    for ax in grid.axes[1:].flat:
        ax.set_title("")
    return _finished(grid, curves["median"].min())


def moved_peak(curves: pd.DataFrame, *, width: int) -> Figure:
    """Least squares at the taps' own widths beside random projections to one width."""
    titles = {"own width": "each tap at its own width", "projected": f"all projected to {width} dimensions"}
    grid = _by_depth(curves.replace({"form": titles}), col="form", x="n_train", height=3)
    for ax in grid.axes.flat:
        _log_axis(ax, SIZES, "training images, n")
    last = grid.axes.flat[-1]
    last.axvline(width, color="black", lw=0.9, ls=":")
    last.text(1.08 * width, 0.04, f"n = {width}", transform=last.get_xaxis_transform(), fontsize=8)
    return _finished(grid, curves["median"].min())


def protocol(points: pd.DataFrame) -> Figure:
    """Every network, tap and class under the paper's protocol, against training images per channel."""
    shown = points.assign(estimator=points.estimator.map(ESTIMATORS), median=points.r2.clip(lower=LOWEST))
    grid = facets(shown, col="estimator", col_order=list(ESTIMATORS.values()), height=3.3)
    look = {"s": 20, "alpha": 0.75, "linewidth": 0, **_by_network(points)}
    grid.map_dataframe(sns.scatterplot, x="ratio", y="median", **look).set_titles("{col_name}")
    for ax in grid.axes.flat:
        _ratio_axis(ax, "training images per channel, n / d")
    return _finished(grid, points.r2.min())


def prediction(curves: pd.DataFrame, peaks: pd.DataFrame, printed: pd.DataFrame) -> Figure:
    """Taps of a network with random weights against training images, and the printed values (perhaps none) as lines."""
    grid = _by_estimator(curves, col="tap", x="n_train", ms=3.5)
    about = peaks.set_index("tap")
    for tap, ax in grid.axes_dict.items():
        channels, rank = about.channels[tap], about.effective_rank[tap]
        ax.axvline(channels, color="black", lw=0.9, ls=":")
        for value in printed[printed.tap == tap].r2_test:
            ax.axhline(value, color="#777777", lw=1.1, ls="-.", label="Table A1, random weights")
        ax.set_title(f"{tap}\nd = {channels:.0f}, eff. rank {rank:.0f}", fontsize=8.5)
        _log_axis(ax, SIZES, "training images, n")
    return _finished(grid, min([curves["low"].min(), *printed.r2_test]))


def depth_against_rank(peaks: pd.DataFrame) -> Figure:
    """How deep the trough is (R² below 0) against the effective rank, for sweeps that cover the peak."""
    fig, ax = plt.subplots(figsize=(WIDTH * 0.72, 3.2))
    shown = peaks.assign(share=peaks.effective_rank / peaks["rank"], depth=-peaks.trough_r2)
    sns.scatterplot(shown, x="share", y="depth", s=28, linewidth=0, ax=ax, **_by_network(peaks))
    ax.set(yscale="log", xlabel="effective rank / rank", ylabel="lowest median R² of least squares")
    ax.invert_yaxis()
    ax.yaxis.set_major_formatter(lambda value, _: f"−{value:,.0f}" if value >= 1 else f"−{value:g}")
    sns.move_legend(ax, "center left", bbox_to_anchor=(1, 0.5), fontsize=8, title=None)
    return fig


def forms_of_output(scores: pd.DataFrame) -> Figure:
    """Held-out R² of the same output in several forms, which stand in the column ``tap``."""
    forms = list(scores.tap.unique())
    grid = _by_estimator(scores.assign(form=scores.tap.map(forms.index)), col="panel", x="form")
    for panel, ax in grid.axes_dict.items():
        ax.set_title(panel.replace(", ", ",\n", 1), fontsize=9)
        ax.set_xticks(range(len(forms)), forms, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    grid.set_xlabels("form of the output")
    return _finished(grid, scores["median"].min())


def _by_network(table: pd.DataFrame) -> dict[str, Any]:
    """Colour and marker of points by network, for seaborn."""
    colours = colour_of(table.network)
    markers = dict(zip(colours, MARKERS, strict=False))
    return {"hue": "network", "palette": colours, "style": "network", "markers": markers}


def _by_estimator(curves: pd.DataFrame, *, col: str, x: str, **look: Any) -> sns.FacetGrid:
    """A line with its band for each estimator."""
    shown = curves.assign(estimator=curves.estimator.map(ESTIMATORS))
    looks = {"marker": ["o", "s"], "ls": ["-", "--"]}
    grid = facets(
        shown, col=col, hue="estimator", hue_order=list(ESTIMATORS.values()), hue_kws=looks,
        palette=[COLOURS[1], COLOURS[0]], height=3,
    )  # fmt: skip
    return grid.map_dataframe(_band, x=x, **look).set_titles("{col_name}")


def _band(data: pd.DataFrame, *, x: str, color: str, **look: Any) -> None:
    low, high, middle = (data[name].clip(lower=LOWEST) for name in ("low", "high", "median"))
    plt.gca().fill_between(data[x], low, high, color=color, alpha=0.18, lw=0)
    plt.gca().plot(data[x], middle, color=color, **look)


def _by_depth(curves: pd.DataFrame, *, x: str, **options: Any) -> sns.FacetGrid:
    """A line per tap, dark for the first and light for the last, with the key to it."""
    panel = options.get("row") or options["col"]
    place = curves.groupby(panel).tap.transform(lambda taps: pd.factorize(taps)[0])
    depth = place / place.groupby(curves[panel]).transform("max").clip(lower=1)
    grid = facets(curves.assign(depth=depth, median=curves["median"].clip(lower=LOWEST)), **options)
    lines = {"hue": "depth", "palette": "viridis", "hue_norm": (0, 1.08), "units": "tap", "estimator": None}
    grid.map_dataframe(sns.lineplot, x=x, y="median", lw=1.1, marker=".", mec="none", legend=False, **lines)
    grid.figure.set_layout_engine("constrained")
    colours = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1.08), "viridis")
    bar = grid.figure.colorbar(colours, ax=grid.axes, shrink=0.8 / grid.axes.shape[0] ** 0.5)
    bar.ax.set_ylim(0, 1)
    bar.ax.set_yticks([0, 1], ["first tap", "last tap"], fontsize=8)
    return grid.set_titles("{col_name}")


def _ratio_axis(ax: Axes, label: str = "images per dimension, n / d") -> None:
    """Training images per dimension, with a line at 1."""
    ax.axvline(1, color="black", lw=0.9, ls=":")
    _log_axis(ax, (0.1, 0.2, 0.5, 1, 2, 5, 10), label)


def _log_axis(ax: Axes, ticks: Sequence[float], label: str) -> None:
    ax.set(xscale="log", xlabel=label)
    low, high = ax.get_xlim()
    ax.set_xticks([t for t in ticks if low <= t <= high], [f"{t:g}" for t in ticks if low <= t <= high])
    ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())


def _finished(grid: sns.FacetGrid, lowest: float) -> Figure:
    """R² linear between −1 and 1 and logarithmic below, plain titles, one legend."""
    floor = 3.0 * min(max(float(lowest), LOWEST), -1.0)
    ticks = [t for t in (*(-(10**n) for n in range(6)), 0, 1, *([-3] if floor > -30 else [])) if t >= floor]
    for ax in grid.axes.flat:
        ax.set_yscale("symlog", linthresh=1, linscale=1.2)
        ax.set_ylim(floor, 1.15)
        ax.set_yticks(ticks, [f"{tick:,}".replace("-", "−") for tick in ticks])
        ax.yaxis.set_minor_locator(mpl.ticker.NullLocator())
        ax.axhline(0, color="#777777", lw=0.8)
        ax.set_ylabel(ax.get_ylabel() if ax.get_ylabel().endswith("(median)") else "held-out R²")
        ax.label_outer()
    grid.figure.set_layout_engine("constrained")
    if grid.axes.flat[0].get_legend_handles_labels()[1]:
        merged_legend(grid.figure)
    return grid.figure


# Differences in R² beyond this are drawn at the edge.
FARTHEST = 1.0


def contrasts(table: pd.DataFrame, *, object_class: str) -> Figure:
    """Chosen tap less reference tap, on images that did not choose it; grey dots are the other classes.

    Filled: p < 0.05 after correction; what lies beyond the axis is a triangle at its end.
    """
    networks = list(table.network.unique())
    order = {network: _in_order(table[table.network == network]) for network in networks}
    counts = [len(names) for names in order.values()]
    fig, axes = plt.subplots(
        len(networks), 2, figsize=(WIDTH, 0.34 * sum(counts) + 0.7 * len(networks) + 0.8), sharex=True,
        sharey="row", squeeze=False, height_ratios=[n + 0.4 for n in counts],
    )  # fmt: skip
    for (network, matching, half), rows in table.groupby(["network", "matching", "half"], sort=False):
        ax = axes[networks.index(network), 0 if matching == "own width" else 1]
        colour, marker, shift = ((COLOURS[0], "o", -0.12), (COLOURS[1], "s", 0.12))[int(half) - 1]
        for row in rows.itertuples():
            x, y = float(row.mean_difference), order[network].index(row.reference) + shift
            beyond = ">" if x > FARTHEST else "<" if x < -FARTHEST else ""
            place = np.clip(x, -1.08 * FARTHEST, 1.08 * FARTHEST)
            if row.object_class != object_class:
                ax.plot(place, y, beyond or ".", color="#999999", ms=4, zorder=0)
                continue
            ax.hlines(y, row.low, row.high, color=colour, lw=1.4)
            filling = colour if row.p_holm < 0.05 else "white"
            ax.plot(place, y, beyond or marker, color=colour, mfc=filling)
        if matching == "equal width":
            ax.plot([], [], marker, color=colour, ls="-", label=f"half {half}: {rows.tap.iloc[0]}")
    for (left, right), (network, names) in zip(axes, order.items(), strict=True):
        left.set_yticks(range(len(names)), [f"less {name}" for name in names], fontsize=8)
        left.set_ylim(len(names) - 0.5, -0.5)
        left.set_title(network, fontsize=9)
        beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "fontsize": 8, "title_fontsize": 8}
        right.legend(title="chosen tap", **beside)
        for ax in (left, right):
            ax.axvline(0, color="#777777", lw=0.8)
    for ax, matching in zip(axes[-1], ("own width", "equal width"), strict=True):
        ax.set_xlabel(f"difference in held-out R²\nat {matching}")
        ax.set_xlim(-1.15 * FARTHEST, 1.15 * FARTHEST)
    return fig


def _in_order(rows: pd.DataFrame) -> list[str]:
    """References from input to output: inner taps, the last one, logits, probabilities."""
    place = {"softmax": 3, "pre_softmax": 2, **dict.fromkeys(rows["last"], 1)}
    return sorted(dict.fromkeys(rows.reference), key=lambda name: place.get(name, 0))


def printed_table(table: pd.DataFrame, corrections: pd.DataFrame, wrong: pd.DataFrame) -> Figure:
    """A table of counts as printed, with totals that do not add up and the cells that explain them."""
    text, state = table.map("{:,}".format), pd.DataFrame(0, table.index, table.columns)
    for row in wrong.itertuples():
        state.loc[(row.name, TOTAL) if row.line == "row" else (TOTAL, row.name)] = 1
    for row in corrections.itertuples():
        state.loc[row.row, row.column] = 2
        text.loc[row.row, row.column] += f"\n→ {row.corrected:,}"
    fig, ax = plt.subplots(figsize=(WIDTH, 2.1))
    look = {"annot_kws": {"fontsize": 8.5, "color": "black"}, "linewidths": 1, "linecolor": "#cccccc"}
    keys = {"white": "", "#F7E3B5": "total that does not add up"}
    keys["#B9D6EC"] = "cell whose correction explains it"
    cmap = mpl.colors.ListedColormap([*keys])
    sns.heatmap(state, annot=text, fmt="", cmap=cmap, vmin=0, vmax=2, cbar=False, ax=ax, **look)
    ax.tick_params(length=0, labeltop=True, labelbottom=False, labelrotation=0)
    ax.set(xlabel="", ylabel="")
    patches = [mpl.patches.Patch(color=colour, label=name) for colour, name in keys.items() if name]
    fig.legend(handles=patches, loc="outside lower center", ncols=2, fontsize=8)
    return fig
