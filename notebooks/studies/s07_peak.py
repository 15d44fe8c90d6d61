"""Notebook 07: where plain least squares explodes, what is left of a central peak, and a table that does not add up.

First a problem whose answer is known, then sweeps over training images per dimension, rows of a printed table foretold,
outputs in several forms, the test of a central peak, a printed table's sums; the figures last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, count
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import special

from scalebook.exact_tests import holm
from scalebook.ledger import Read
from scalelib.linear import one_thread
from scalelib.plotting import COLOURS, WIDTH, merged_legend
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
ROWS = "07_interpolation_peak"
PLACES = {"photographs": "compact", "rendered control": "control"}
FLOOR = -300.0  # of R² where figures end
WIDE, NARROW = 8.23, 3.73  # of a key figure, in inches


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


def summarise_peaks(peaks: pd.DataFrame, *, by: str) -> pd.DataFrame:
    """How many sweeps reach both sides and how many of these fall far below both; medians over those that fall."""
    counts = peaks.groupby(by, sort=False)[["covered", "peaked"]].sum()
    found = ["rank", "trough_n", "trough_ratio", "trough_r2", "ridge_r2"]
    return counts.join(peaks[peaks.peaked].groupby(by, sort=False)[found].median()).reset_index()


def beside_printed(peaks: pd.DataFrame, printed: pd.DataFrame) -> pd.DataFrame:
    """Where least squares was worst, beside where it was foretold (``foretold``, images) and what Table A1 prints."""
    kinds = printed.condition.map({"imagenet": "trained", "random": "random"})
    known = printed.assign(kind=kinds, printed=printed.r2_test)[["network", "tap", "kind", "printed"]]
    kind = peaks.weights.eq("random").map({True: "random", False: "trained"})
    found = peaks.assign(kind=kind, foretold=peaks.channels + 1)
    return found.merge(known, "left", ["network", "tap", "kind"])


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


def survivors(contrasts: pd.DataFrame) -> pd.DataFrame:
    """In how many halves the chosen tap is better than first, last, logits and softmax: equal width, after correction."""
    rows = contrasts[(contrasts.matching == "equal width") & (contrasts.object_class == ALL_CLASSES)]
    inner = np.where(rows.reference == rows["last"], "last", "first")
    kind = rows.reference.where(rows.reference.isin(OUTPUT_TAPS), inner).replace("pre_softmax", "logits")
    better = (rows.p_holm < 0.05) & (rows.mean_difference > 0)
    return better.groupby(kind, sort=False).agg(halves="size", better="sum").rename_axis("than").reset_index()


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


ESTIMATORS = {"ols": ("least squares", COLOURS[1], "o", "-"), "ridge": ("ridge", COLOURS[0], "s", "--")}
TRAINED, UNTRAINED = "trained weights", "random weights"


def move_peak(read: Read, *, narrow: bool) -> Figure:
    """Key figure: every tap with trained weights, photographs beside the control."""
    tables = {title: read(f"{profile}/{ROWS}/sweep_bands") for title, profile in PLACES.items()}
    return falls_at_one(tables, narrow=narrow)


def foretold_rows(read: Read, *, narrow: bool) -> Figure:
    """Key figure: the rows of Table A1 that were foretold."""
    return foretold(*(read(f"compact/{ROWS}/{table}") for table in ("prediction", "foretold")), narrow=narrow)


def softmax_forms(read: Read, *, narrow: bool) -> Figure:
    """Key figure: logits, probabilities and what lies between."""
    return forms_of_output(read(f"compact/{ROWS}/output_forms"), narrow=narrow)


def known_case(curves: pd.DataFrame, theory: pd.DataFrame) -> Figure:
    """Sweep of a synthetic problem beside what theory expects."""
    fig, panels = _panels(curves, "case")
    for case, ax in panels.items():
        _estimators(ax, curves[curves.case == case], "ratio")
        for side in (theory.ratio < 1, theory.ratio > 1):
            rows = theory[side & (theory.case == case)]
            ax.plot(rows.ratio, rows.r2, color="#777777", ls=":", label="theory, least squares")
        _ratio_axis(ax)
    return _finished(fig, lowest=-30)


def falls_at_one(tables: Mapping[str, pd.DataFrame], *, narrow: bool = False) -> Figure:
    """Held-out R² against training images per dimension, a panel per table: a line per trained tap, and their median."""
    shown = pd.concat([rows.assign(title=title) for title, rows in tables.items()])
    shown = shown[(shown.weights != "random") & shown.ratio.between(0.14, 7.5)]
    near = np.abs(np.log(shown.ratio.to_numpy()[:, None] / RATIOS)).argmin(axis=1)
    shown["near"] = np.array(RATIOS)[near]
    fig, panels = _panels(shown, "title", narrow=narrow)
    for (title, estimator), rows in shown.groupby(["title", "estimator"]):
        name, colour, _, line = ESTIMATORS[str(estimator)]
        for _, own in rows.groupby(["network", "weights", "tap"]):
            panels[title].plot(own.ratio, own["median"].clip(lower=FLOOR), color=colour, lw=0.5, alpha=0.3)
        middle = rows.groupby("near")["median"].median()
        panels[title].plot(middle, color=colour, ls=line, lw=2.2)
        place = {"ols": (1.15, -20, "left"), "ridge": (0.3, 1.05, "center")}[str(estimator)]
        panels[title].text(*place[:2], name, color=colour, ha=place[2], fontweight="bold")
    for title, ax in panels.items():
        ax.set_title(f"{title}, {shown[shown.title == title].groupby(['panel', 'tap']).ngroups} layers")
        _ratio_axis(ax)
    return _finished(fig, lowest=FLOOR, top=3)


def moved_peak(curves: pd.DataFrame, *, width: int) -> Figure:
    """Least squares at the taps' own widths beside random projections to one width."""
    titles = {"own width": "each layer at its own width", "projected": f"all projected to {width} dimensions"}
    fig, panels = _panels(curves.assign(form=curves.form.map(titles)), "form")
    for (form, tap), rows in curves.groupby(["form", "tap"], sort=False):
        depth = curves.tap.unique().tolist().index(tap) / curves.tap.nunique()
        look = {"marker": ".", "lw": 1.1, "color": mpl.cm.viridis(depth)}
        panels[titles[str(form)]].plot(rows.n_train, rows["median"], **look)
    for ax in panels.values():
        _log_axis(ax, (10, 30, 100, 300, 1000), "training images, n")
    panels[titles["projected"]].axvline(width, color="#777777", lw=0.9, ls=":")
    return _finished(fig, lowest=FLOOR)


def foretold(curves: pd.DataFrame, rows: pd.DataFrame, *, narrow: bool = False) -> Figure:
    """Least squares against training images, with where it should be worst (dotted) and what Table A1 prints (dots)."""
    named = curves.assign(panel=curves.network + "\n" + curves.tap)
    fig, panels = _panels(named, "panel", narrow=narrow, across=2)
    kinds = {False: (TRAINED, COLOURS[1], "o", "-"), True: (UNTRAINED, COLOURS[5], "s", "--")}
    for (network, weights, tap), own in curves.groupby(["network", "weights", "tap"], sort=False):
        ax, (name, colour, marker, line) = panels[f"{network}\n{tap}"], kinds[weights == "random"]
        for estimator, part in own.groupby("estimator"):
            if estimator == "ols":
                look: dict[str, Any] = {
                    "ms": 3,
                    "lw": 1.2,
                    "color": colour,
                    "label": f"least squares, {name}",
                }
                ax.plot(part.n_train, part["median"], marker + line, **look)
                ax.fill_between(part.n_train, part.low, part.high, color=colour, alpha=0.15, lw=0)
            elif name == TRAINED:
                ax.plot(part.n_train, part["median"], color=COLOURS[0], ls="-.", label=f"ridge, {name}")
    for row in rows.itertuples():
        ax, (name, colour, marker, _) = panels[f"{row.network}\n{row.tap}"], kinds[row.weights == "random"]
        ax.axvline(row.foretold, color="#777777", lw=0.9, ls=":")
        if np.isfinite(row.printed):
            ax.axhline(row.printed, color=colour, lw=0.8, ls=(0, (1, 2)), label=f"Table A1, {name}")
    ticks = (64, 128, 256, 512) if curves.n_train.min() > 50 else (16, 64, 256, 1024)
    for ax in panels.values():
        _log_axis(ax, ticks, "training images, n")
    return _finished(fig, lowest=max(curves["median"].min(), -3000))


def forms_of_output(scores: pd.DataFrame, *, narrow: bool = False) -> Figure:
    """Held-out R² of the same output in several forms, which stand in the column ``tap``."""
    forms = list(scores.tap.unique())
    fig, panels = _panels(scores, "panel", narrow=narrow)
    for panel, ax in panels.items():
        own = scores[scores.panel == panel]
        _estimators(ax, own.assign(form=own.tap.map(forms.index)), "form")
        ax.set_title(str(panel).split(", int8")[0])
        ax.set_xticks(range(len(forms)), forms, rotation=60, ha="right", rotation_mode="anchor")
        worst = own["median"].min()
        if worst < FLOOR:
            ax.text(-0.3, FLOOR, f"↓ least squares: {worst:,.0f}".replace("-", "−"))
    return _finished(fig, lowest=max(scores["median"].min(), FLOOR))


def _panels(
    table: pd.DataFrame, by: str, *, narrow: bool = False, across: int = 1
) -> tuple[Figure, dict[str, Axes]]:
    """A panel per value: beside each other, or `across` in a row where it is narrow."""
    names = list(table[by].unique())
    columns = min(len(names), across) if narrow else len(names)
    rows = -(-len(names) // columns)
    size = (NARROW, 2.4 * rows + 0.6) if narrow else (WIDE, 3.4)
    fig, axes = plt.subplots(rows, columns, figsize=size, sharey=True, squeeze=False)
    panels = dict(zip(names, axes.flat, strict=False))
    for name, ax in panels.items():
        ax.set_title(name)
    for ax in axes.flat[len(names) :]:
        ax.remove()
    return fig, panels


def _estimators(ax: Axes, rows: pd.DataFrame, x: str) -> None:
    """A line with its band for each estimator."""
    for estimator, (name, colour, marker, line) in ESTIMATORS.items():
        own = rows[rows.estimator == estimator]
        ax.fill_between(own[x], own.low, own.high, color=colour, alpha=0.18, lw=0)
        ax.plot(own[x], own["median"], color=colour, marker=marker, ls=line, label=name)


def _ratio_axis(ax: Axes) -> None:
    """Training images per dimension, with a line at 1."""
    ax.axvline(1, color="#777777", lw=0.9, ls=":")
    _log_axis(ax, (0.2, 0.5, 1, 2, 5), "training images per dimension, n / d")


def _log_axis(ax: Axes, ticks: Sequence[float], label: str) -> None:
    ax.set(xscale="log", xlabel=label)
    low, high = ax.get_xlim()
    ax.set_xticks([t for t in ticks if low <= t <= high], [f"{t:g}" for t in ticks if low <= t <= high])
    ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())


def _finished(fig: Figure, *, lowest: float, top: float = 1.15) -> Figure:
    """R² linear between −1 and 1 and logarithmic below, one legend; lines that leave the axis point out of it."""
    floor = 1.5 * min(float(lowest), -1.0)
    ticks = [t for t in (*(-(10**n) for n in range(6)), 0, 1) if t >= floor]
    for ax in fig.axes:
        ax.set_yscale("symlog", linthresh=1, linscale=1.2)
        ax.set_ylim(floor, top)
        ax.set_yticks(ticks, [f"{tick:,}".replace("-", "−") for tick in ticks])
        ax.yaxis.set_minor_locator(mpl.ticker.NullLocator())
        ax.axhline(0, color="#777777", lw=0.8)
        ax.set_ylabel("held-out R²")
        ax.label_outer()
    if any(ax.get_legend_handles_labels()[1] for ax in fig.axes):
        merged_legend(fig, fontsize=None, ncols=1 if fig.get_figwidth() == NARROW else 3)
    return fig


def contrasts(table: pd.DataFrame) -> Figure:
    """Chosen tap less reference tap, on images that did not choose it, a marker per half; filled: p < 0.05."""
    names = list(dict.fromkeys(zip(table.network, table.tap, table.reference, strict=True)))
    fig, ax = plt.subplots(figsize=(WIDTH, 0.24 * len(names) + 0.9))
    for row in table.itertuples():
        colour, marker, beside = ((COLOURS[0], "o", -0.14), (COLOURS[1], "s", 0.14))[int(row.half) - 1]
        y = names.index((row.network, row.tap, row.reference)) + beside
        at = np.clip(row.mean_difference, -1.05, 1.05)
        ax.hlines(y, *np.clip([row.low, row.high], -1.05, 1.05), color=colour, lw=1.4)
        filling = colour if row.p_holm < 0.05 else "none"
        ax.plot(at, y, marker if at == row.mean_difference else ">", color=colour, mfc=filling)
    labels = [f"{network}: {tap} less {reference}" for network, tap, reference in names]
    ax.set_yticks(range(len(names)), labels, fontsize=8)
    ax.set(ylim=(len(names) - 0.5, -0.5), xlim=(-1.1, 1.1), xlabel="difference in held-out R² at equal width")
    ax.axvline(0, color="#777777", lw=0.8)
    return fig
