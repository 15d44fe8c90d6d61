"""R² and mean absolute error of fitted read-outs, as rows of one tidy table.

Knows arrays and tables only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from scalelib.errors import DataError
from scalelib.solvers import LinearFit
from scalelib.validation import is_constant

COLUMNS = (
    *("tap", "channels", "n_train", "n_test", "estimator", "condition", "repeat"),
    *("alpha", "alpha_at_edge", "dof", "r2_train", "r2_test", "mae_test"),
)


def r2(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Share of variance about the mean that predictions account for, per column.

    Parameters
    ----------
    observed, predicted : ndarray of float64, shape (n, k)
        Columns of `observed` must vary.

    Returns
    -------
    ndarray of float64, shape (k,)
        1 − RSS / TSS, at most 1, without lower bound; TSS about the mean of `observed`.

    Examples
    --------
    >>> y = np.array([[1.0], [2.0], [3.0]])
    >>> r2(y, y), r2(y, y * 0 + 2), r2(y, 4 - y)
    (array([1.]), array([0.]), array([-3.]))
    """
    residual = ((observed - predicted) ** 2).sum(axis=0)
    return 1 - residual / ((observed - observed.mean(axis=0)) ** 2).sum(axis=0)


def refuse_constant_folds(
    columns: np.ndarray, train: np.ndarray, test: np.ndarray, *, operation: str, where: str
) -> None:
    """Refuse a split that leaves a target without variance on one side, where R² is undefined.

    Parameters
    ----------
    columns : ndarray of float64, shape (n_images, k)
        Targets.
    train, test : ndarray of int
        Rows.
    operation : str
        Whose name the error carries.
    where : str
        Which split it is.

    Raises
    ------
    DataError
        If a target is constant in a fold.
    """
    for side, rows in (("training", train), ("held-out", test)):
        for column in columns[rows].T:
            if is_constant(column):
                raise DataError(
                    f"{operation}: measures must vary within each fold, R² is undefined without variance.\n"
                    f"Received: {len(rows)} {side} images of {where}, all with the measure {column[0]:g}.\n"
                    "Use more images, measures with fewer ties, or another random_state."
                )


def score_rows(
    tap: str, X: np.ndarray, columns: np.ndarray, train: np.ndarray, test: np.ndarray, fit: LinearFit
) -> Iterator[dict[str, Any]]:
    fitted, predicted = fit.predict(X[train]), fit.predict(X[test])
    r2_train, r2_test = r2(columns[train], fitted), r2(columns[test], predicted)
    mae = np.abs(columns[test] - predicted).mean(axis=0)
    for k in range(columns.shape[1]):
        yield {
            "tap": tap,
            "channels": X.shape[1],
            "n_train": len(train),
            "n_test": len(test),
            "alpha": fit.alpha[k],
            "alpha_at_edge": bool(fit.at_edge[k]),
            "dof": fit.dof[k],
            "r2_train": r2_train[k],
            "r2_test": r2_test[k],
            "mae_test": mae[k],
        }


def tidy(records: list[dict[str, Any]]) -> pd.DataFrame:
    """Records as a table with the columns of `layerwise_r2`, in its order.

    Parameters
    ----------
    records : list of dict
        One per row.

    Returns
    -------
    pandas.DataFrame
    """
    return pd.DataFrame(records, columns=list(COLUMNS))
