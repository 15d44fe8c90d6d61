"""Tests of the claims about transfer to histopathology (§4.4): rows of Table 2, and where to cut.

Knows tables only. The unit is the test slide, seeds are averaged, and Holm's correction runs over networks and scores.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from scalelib.channel_relation import holm
from scalelib.errors import ResultsError, did_you_mean
from scalelib.slide_tests import compare_rows, sign_flip_test
from scalelib.verdicts import HOLDS, REFUTED, UNDECIDED, Evidence, MissingRows, Verdict, number, only, span

TARGET = "area"
"""The paper's target: mean nucleus area, from which the magnification is named."""
PAIRS = (("pruned", "pretrained"), ("pruned", "scratch"))
BETTER = {"mae_px": -1, "kappa": 1}
"""The sign of a difference that is an improvement."""
UNITS = {"mae_px": "difference in mean absolute error (px)", "kappa": "difference in Cohen's kappa"}


def row_beats(evidence: Evidence, *, row: str, other: str, score: str, level: float = 0.05) -> Verdict:
    """One row of Table 2 is better than another, by the exact sign-flip test over test slides.

    Rows: those of :func:`scalelib.transfer_scores.score_predictions` with ``converged`` (bool): whether the run's best
    epoch is not its last. A row that has not converged decides nothing.
    """
    _need(evidence.rows, ["row", "target", "seed", "slide", "converged", score])
    everything = evidence.rows if evidence.everything is None else evidence.everything
    table = only(everything, target=TARGET)
    mine = only(evidence.rows, target=TARGET)
    for name in (row, other):
        only(mine, row=name)
    compared = compare_rows(table[table.network.isin(_complete(table))], pairs=PAIRS)
    found = only(compared, network=evidence.network, score=score, first=row, second=other).iloc[0]
    words = (
        f"{row} minus {other}: {span(found.difference, found.low, found.high)} over {found.n_slides} slides"
    )
    words += f", {found.seeds} seeds, p {found.p_holm:.3f} after Holm's correction"
    status = UNDECIDED
    if found.p_holm < level:
        status = HOLDS if found.difference * BETTER[score] > 0 else REFUTED
    if late := [name for name in (row, other) if not mine.converged[mine.row == name].all()]:
        status = UNDECIDED
        words += f"; not converged: {' and '.join(late)}"
    return Verdict(status, f"{words}.", found.difference, found.low, found.high, UNITS[score], 0.0)


def chosen_tap_near_best(evidence: Evidence, *, taps_apart: int, level: float = 0.05) -> Verdict:
    """The tap chosen by scale R² lies near the best tap for transfer, for error and kappa alike.

    Rows: those of :func:`scalelib.readout.read_out_scores`, taps in the network's order, with ``scale_chosen`` (bool): the
    tap that the layer-wise result chose. The best tap is that of all validation patches; refuted if it lies further away
    and is significantly better on test slides, by either score.
    """
    _need(evidence.rows, ["tap", "target", "split", "slide", "scale_chosen", *BETTER])
    rows = only(evidence.rows, target=TARGET)
    rows = rows[rows.tap != "mean"]
    taps = list(dict.fromkeys(rows.tap))
    chosen = list(dict.fromkeys(rows.tap[rows.scale_chosen.astype(bool)]))
    if len(chosen) != 1:
        raise MissingRows(f"One tap must be marked as chosen by scale R²; there are {len(chosen)}.")
    validation = only(rows, split="validation", slide="all")
    test = only(rows, split="test")
    test = test[test.slide != "all"]
    words, distances, gains, p = [], [], [], []
    for score, sign in BETTER.items():
        best = str(validation.tap.loc[(validation[score] * sign).idxmax()])
        apart = abs(taps.index(best) - taps.index(chosen[0]))
        wide = test.pivot(index="slide", columns="tap", values=score)
        gain = ((wide[best] - wide[chosen[0]]) * sign).dropna().to_numpy()
        distances.append(apart)
        gains.append(float(gain.mean()))
        p.append(sign_flip_test(gain))
        words.append(
            f"by {score} {best}, {apart} taps from {chosen[0]} and better by {number(gains[-1])} on test slides"
        )
    far = np.array(distances) > taps_apart
    refuted = far & (np.array(gains) > 0) & (holm(np.array(p)) < level)
    status = REFUTED if refuted.any() else HOLDS if not far.any() else UNDECIDED
    return Verdict(
        status, f"Best {'; '.join(words)}.", max(distances), quantity="taps apart", threshold=taps_apart
    )


TRANSFER: dict[str, Callable[..., Verdict]] = {
    function.__name__: function for function in (row_beats, chosen_tap_near_best)
}


def _complete(table: pd.DataFrame) -> list[str]:
    """Networks with every row of Table 2: only they enter the correction."""
    needed = {name for pair in PAIRS for name in pair}
    return [network for network, part in table.groupby("network", sort=False) if needed <= set(part.row)]


def _need(table: pd.DataFrame, columns: list[str]) -> None:
    for column in columns:
        if column not in table:
            raise ResultsError(
                f"claims of transfer: the deciding table needs a column {column!r}.\n"
                f"Received: {', '.join(table)}.\n{did_you_mean(column, table.columns)}".rstrip()
            )
