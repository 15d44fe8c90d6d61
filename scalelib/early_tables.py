"""Tables between the early-feature measurements and their figures.

Knows tables and arrays only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd


def kernel_table(kernels: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Kernels as a long table.

    Parameters
    ----------
    kernels : mapping of str to ndarray, shape (channels, height, width, 3)
        By network, as from :func:`scalelib.early_features.first_kernels`.

    Returns
    -------
    pandas.DataFrame
        Columns ``network, channel, y, x, red, green, blue``.

    Examples
    --------
    >>> len(kernel_table({"net": np.zeros((2, 3, 3, 3))}))
    18
    """
    parts = []
    for network, array in kernels.items():
        channel, y, x = (part.ravel() for part in np.indices(array.shape[:3]))
        colours = dict(zip(("red", "green", "blue"), array.reshape(-1, 3).T, strict=True))
        parts.append(pd.DataFrame({"network": network, "channel": channel, "y": y, "x": x, **colours}))
    return pd.concat(parts, ignore_index=True)


def preference_by_tap(
    preferred: pd.DataFrame, *, by: Sequence[str] = ("network", "weights", "tap")
) -> pd.DataFrame:
    """Median and quartiles of preferred frequency over channels.

    Parameters
    ----------
    preferred : pandas.DataFrame
        From :func:`scalelib.spatial_frequency.preferred_frequency`, with the columns of `by`.
    by : sequence of str
        One row per combination, in the order in which they first stand.

    Returns
    -------
    pandas.DataFrame
        `by`, then ``channels``, ``median``, ``low``, ``high`` (quartiles; cycles per pixel) and
        ``at_edge`` (share of channels whose preference may lie beyond the frequencies tried).

    Examples
    --------
    >>> table = pd.DataFrame({"tap": "t", "frequency": [0.1, 0.2, 0.4], "at_edge": [False, False, True]})
    >>> float(preference_by_tap(table, by=["tap"])["median"].iloc[0])
    0.2
    """
    groups = preferred.groupby(list(by), sort=False)
    frequency = groups.frequency
    return pd.DataFrame(
        {
            "channels": frequency.size(),
            "median": frequency.median(),
            "low": frequency.quantile(0.25),
            "high": frequency.quantile(0.75),
            "at_edge": groups.at_edge.mean(),
        }
    ).reset_index()


def best_orientation(tuning: pd.DataFrame) -> pd.DataFrame:
    """Responses at each channel's best orientation.

    Parameters
    ----------
    tuning : pandas.DataFrame
        From :func:`scalelib.spatial_frequency.frequency_tuning`, perhaps with further labels.

    Returns
    -------
    pandas.DataFrame
        The rows of one orientation per channel, the one with its strongest response.

    Examples
    --------
    >>> tuning = pd.DataFrame({"tap": "t", "channel": 0, "frequency": [0.1, 0.2] * 2,
    ...                        "orientation": [0, 0, 90, 90], "response": [1.0, 2.0, 0.0, 3.0]})
    >>> best_orientation(tuning).orientation.unique().tolist()
    [90]
    """
    labels = [name for name in tuning if name not in ("frequency", "orientation", "response")]
    strongest = tuning.loc[tuning.groupby(labels).response.idxmax(), [*labels, "orientation"]]
    return tuning.merge(strongest, on=[*labels, "orientation"])


def extreme_channels(channels: pd.DataFrame, *, number: int, value: str = "correlation") -> pd.DataFrame:
    """The channels of a tap that go down most, and those that go up most, with the measure.

    Parameters
    ----------
    channels : pandas.DataFrame
        One row per channel of one tap, with `value`.
    number : int
        How many in all; the lower half first.
    value : str, default="correlation"
        The column that is looked at.

    Returns
    -------
    pandas.DataFrame
        Rows of `channels`, from the lowest to the highest value.

    Examples
    --------
    >>> table = pd.DataFrame({"channel": range(5), "correlation": [0.1, -0.9, 0.0, 0.8, 0.3]})
    >>> extreme_channels(table, number=2).channel.tolist()
    [1, 3]
    """
    ordered = channels.sort_values(value, kind="stable")
    if len(ordered) <= number:
        return ordered
    low = number // 2
    return pd.concat([ordered.head(low), ordered.tail(number - low)])
