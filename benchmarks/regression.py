"""What layer-wise regressions and permutation tests cost, against the loops that one would write with scikit-learn.

    python benchmarks/regression.py

Features of the widths of InceptionV3's taps, drawn at random with twenty common factors; four classes of 200 images, ten
repeats, one measure, one thread of linear algebra for all. Peers see the same splits in the same process, class by class
in turns: `StandardScaler` with `RidgeCV` over the same penalties, and `LinearRegression`. They would take hours in full:
a share of the repeats is timed and scaled, and one permutation costs them one fit more. CPU time counts, since other
programs disturb it less.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from common import judge, parser, write_results
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scalelib.linear import ALPHAS, one_thread
from scalelib.permutation import permutation_test
from scalelib.regression import layerwise_r2, train_test_splits

WIDTHS = (256, 288, 288, 768, 768, 768, 768, 768, 1280, 2048, 2048, 1000, 1000)
CLASSES, IMAGES, REPEATS, PERMUTATIONS = 4, 200, 10, 1000
LIMITS = {"grid": 2.0, "permutations": 300.0}  # times faster
WORDS = {"grid": "Regressions, 13 taps", "permutations": "Permutation test, 1,000 draws"}
PEERS = {"ols": LinearRegression(), "ridge": make_pipeline(StandardScaler(), RidgeCV())}


def main() -> None:
    """Measure, print, write."""
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--peer-repeats", type=int, default=2, help="of ten, by scikit-learn")
    options = arguments.parse_args()
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(CLASSES * IMAGES, 20))
    noise = {f"tap {i}": rng.normal(size=(len(factors), d)) for i, d in enumerate(WIDTHS, 1)}
    acts = {tap: factors @ rng.normal(size=(20, X.shape[1])) + X for tap, X in noise.items()}
    y, label = factors[:, 0] + rng.normal(size=len(factors)), np.repeat(np.arange(CLASSES), IMAGES)
    splits = train_test_splits(IMAGES, REPEATS)[: options.peer_repeats]
    rows, apart = [], []
    for name in range(CLASSES):
        part, measure = {tap: X[label == name] for tap, X in acts.items()}, y[label == name]
        table, seconds = timed(layerwise_r2, part, measure, estimator=list(PEERS), conditions="true")
        rows.append({"variant": "grid", "class": name, "cpu_seconds": seconds})
        for estimator in PEERS:
            scores, seconds = timed(peer_scores, estimator, part, measure, splits)
            rows.append({"variant": estimator, "class": name, "cpu_seconds": seconds * REPEATS / len(splits)})
            mine = table[(table.estimator == estimator) & (table.repeat < len(splits))].r2_test
            apart.append(float(np.abs(mine.to_numpy() - scores).max()))
    how: dict[str, Any] = {"strata": label, "per_stratum": True, "permutations": PERMUTATIONS}
    _, seconds = timed(permutation_test, acts, y, **how)
    rows.append({"variant": "permutations", "cpu_seconds": seconds})
    cost = pd.DataFrame(rows).groupby("variant").cpu_seconds.sum()
    peers = {"grid": cost["ols"] + cost["ridge"], "permutations": cost["ridge"] * (PERMUTATIONS + 1)}
    ratios = {name: float(peers[name] / cost[name]) for name in LIMITS}
    bars = [judge("R², largest difference", f"{max(apart):.1e}", "scikit-learn's", max(apart), 1e-12)]
    for name, limit in LIMITS.items():
        peer = f"scikit-learn, {peers[name]:.0f} CPU s, scaled"
        bars.append(judge(WORDS[name], f"{cost[name]:.1f} CPU s", peer, ratios[name], limit, least=True))
    write_results("regression", rows, {"bars": bars}, options)


def timed(function: Callable[..., Any], *args: Any, **options: Any) -> tuple[Any, float]:
    """What a function returns, and its CPU seconds on one thread."""
    with one_thread():
        began = time.process_time()
        return function(*args, **options), time.process_time() - began


def peer_scores(estimator: str, acts: dict[str, np.ndarray], y: np.ndarray, splits: list[Any]) -> list[float]:
    """Held-out R² per tap and split by scikit-learn."""
    model = PEERS[estimator]
    folds = [(X, train, test) for X in acts.values() for train, test in splits]
    scores = []
    for X, train, test in folds:
        if estimator == "ridge":  # as many as channels is the total variance of standardised ones
            model.set_params(ridgecv__alphas=X.shape[1] * ALPHAS[:-1])
        scores.append(model.fit(X[train], y[train]).score(X[test], y[test]))
    return scores


if __name__ == "__main__":
    main()
