"""The same output as logits, log-probabilities, powers of probabilities and probabilities.

All of them are functions of one another, so that what differs between them is what a linear
read-out can see. Knows arrays only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from scalelib.errors import DataError
from scalelib.projection import effective_rank

EXPONENTS = (0.05, 0.1, 0.25, 0.5, 1.0)


def output_forms(logits: Any, *, exponents: Sequence[float] = EXPONENTS) -> dict[str, np.ndarray]:
    """Logits, log-probabilities, and probabilities raised to powers.

    Parameters
    ----------
    logits : array_like, shape (n_images, classes)
        Before the softmax, finite.
    exponents : sequence of float
        Powers, each above 0; 1 is the probability itself, smaller ones approach the logarithm.

    Returns
    -------
    dict of str to ndarray of float64, shape (n_images, classes)
        ``"logits"``, ``"log p"``, then ``"p^0.05"`` … and ``"p"``. Computed from the logits in double
        precision: nothing is lost to rounding.

    Raises
    ------
    DataError
        If the logits are no finite matrix, or a power is not above 0.

    Examples
    --------
    >>> forms = output_forms(np.log([[1.0, 3.0]]), exponents=[0.5, 1])
    >>> forms["p"].round(6).tolist(), forms["p^0.5"].round(3).tolist()
    ([[0.25, 0.75]], [[0.5, 0.866]])
    """
    z = np.asarray(logits, np.float64)
    if z.ndim != 2 or not np.isfinite(z).all() or not all(power > 0 for power in exponents):
        raise DataError(
            "output_forms: logits are a finite matrix, and powers are above 0.\n"
            f"Received: shape {z.shape}, powers {list(exponents)}.\nPass the activations of pre_softmax."
        )
    log_p = special.log_softmax(z, axis=1)
    powers = {"p" if power == 1 else f"p^{power:g}": np.exp(power * log_p) for power in exponents}
    return {"logits": z, "log p": log_p, **powers}


def channel_spread(forms: Mapping[str, np.ndarray], *, classes: Any = None) -> pd.DataFrame:
    """How variation is spread over the channels of each form.

    Parameters
    ----------
    forms : mapping of str to ndarray, shape (n_images, channels)
        As from :func:`output_forms`.
    classes : array_like, shape (n_images,), optional
        Object classes: each by itself, then the mean over classes. Default: one class.

    Returns
    -------
    pandas.DataFrame
        One row per form: ``form``, ``channels``, ``median_sd`` and ``largest_sd`` (over channels, of the
        standard deviation over images), ``spread_decades`` (log10 of their ratio), ``effective_rank``.

    Examples
    --------
    >>> z = np.random.default_rng(0).normal(0, 5, (50, 20))
    >>> table = channel_spread(output_forms(z, exponents=[1.0])).set_index("form")
    >>> bool(table.spread_decades["p"] > table.spread_decades["logits"])
    True
    """
    return pd.DataFrame([_spread(form, values, classes) for form, values in forms.items()])


def _spread(form: str, values: np.ndarray, classes: Any) -> dict[str, Any]:
    labels = np.zeros(len(values), int) if classes is None else np.asarray(classes)
    own = [values[labels == label] for label in np.unique(labels)]
    deviations = np.array([part.std(axis=0) for part in own])
    middle, largest = np.median(deviations, axis=1), deviations.max(axis=1)
    with np.errstate(divide="ignore"):
        decades = np.log10(largest / middle)
    return {
        "form": form,
        "channels": values.shape[1],
        "median_sd": float(middle.mean()),
        "largest_sd": float(largest.mean()),
        "spread_decades": float(decades.mean()),
        "effective_rank": float(np.mean([effective_rank(part) for part in own])),
    }
