"""Datasets: each yields images and one row of measures per image. They know nothing of networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scalelib.datasets.base import Dataset
from scalelib.datasets.histology import load_bca, load_monuseg, load_rendered
from scalelib.datasets.scenes import render_scenes
from scalelib.datasets.voc import load_voc
from scalelib.errors import DataError, did_you_mean

__all__ = ["DATASETS", "Dataset", "load_dataset"]

DATASETS: dict[str, Callable[..., Dataset]] = {
    "scenes": render_scenes,
    "voc": load_voc,
    "monuseg": load_monuseg,
    "bca": load_bca,
    "rendered_slides": load_rendered,
}


def load_dataset(name: str, **options: Any) -> Dataset:
    """A dataset by the name that profiles use.

    Parameters
    ----------
    name : {"scenes", "voc", "monuseg", "bca", "rendered_slides"}
        See :func:`scalelib.datasets.scenes.render_scenes` and :func:`scalelib.datasets.voc.load_voc`, and those of
        :mod:`scalelib.datasets.histology`.
    **options
        Options of that function.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If there is no dataset of that name, and as the function behind it.

    Examples
    --------
    >>> len(load_dataset("scenes", n=2).images)
    2
    """
    if name not in DATASETS:
        raise DataError(
            f"load_dataset: no dataset {name!r}.\nReceived: {name!r}; there are {', '.join(DATASETS)}.\n"
            f"{did_you_mean(name, DATASETS)}".rstrip()
        )
    return DATASETS[name](**options)
