"""Datasets: each yields images and a table with one row of measures per image. They know nothing of networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pandas as pd

from scalelib.errors import did_you_mean, refusing, require


@dataclass(frozen=True)
class Dataset:
    """Images with their concept measures.

    Parameters
    ----------
    name : str
        What the data are, such as ``"VOC2007 test"``.
    images : sequence
        Paths of image files, or ``uint8`` RGB arrays of shape (height, width, 3).
    table : pandas.DataFrame
        One row per image, in the order of `images`, with the columns ``image`` (a stable
        identifier), ``object_class``, ``area_ratio``, ``sqrt_area_ratio`` (both in (0, 1]) and
        whatever else the source states.
    excluded : dict of str to int
        How many images or annotations were left out, by reason.
    source : str
        Citation and licence of the data, printed under figures that show an image.
    digest : str
        SHA-256 over the identity of all images and measures.

    Raises
    ------
    DataError
        If images and table differ in length.

    Examples
    --------
    >>> table = pd.DataFrame([{"image": "a", "object_class": "disc", "area_ratio": 0.25}])
    >>> disc = Dataset("one disc", np.zeros((1, 8, 8, 3), np.uint8), table)
    >>> disc.table.area_ratio.item()
    0.25
    """

    name: str
    images: Sequence[Any] | np.ndarray
    table: pd.DataFrame
    excluded: dict[str, int] = field(default_factory=dict)
    source: str = ""
    digest: str = ""

    def __post_init__(self) -> None:
        images, rows = len(self.images), len(self.table)
        rule = f"{self.name} needs one table row per image"
        require(images == rows, "Dataset", rule, f"{images} images and {rows} rows")

    def select(self, rows: np.ndarray) -> Dataset:
        """The same dataset restricted to some rows.

        Parameters
        ----------
        rows : ndarray of bool or int, shape (n_images,) or (n_selected,)
            A mask or positions.

        Returns
        -------
        Dataset
            With the table's index renewed; counts of exclusions and digest are those of the whole.
        """
        positions = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
        images: Any = self.images
        images = images[positions] if isinstance(images, np.ndarray) else [images[int(i)] for i in positions]
        table = self.table.iloc[positions].reset_index(drop=True)
        return Dataset(self.name, images, table, self.excluded, self.source, self.digest)


# Loaders by name; one given as "module:function" is imported when it is first asked for.
DATASETS: dict[str, Callable[..., Dataset] | str] = {
    "voc": "scalelib.datasets.voc:load_voc",
    "cub": "scalelib.datasets.voc:load_cub",
    "joined": "scalebook.profiles:join_datasets",
    "scenes": "notebooks.studies.rendered.scenes:render_scenes",
    "monuseg": "scalelib.slides.collections:load_monuseg",
    "bca": "scalelib.slides.collections:load_bca",
}


def register(name: str, loader: Callable[..., Dataset] | str) -> None:
    """Make a dataset known to :func:`load_dataset`: a function, or where one is, as ``"module:function"``."""
    DATASETS[name] = loader


def load_dataset(name: str, **options: Any) -> Dataset:
    """A dataset by the name that profiles use.

    Parameters
    ----------
    name : {"voc", "cub", "monuseg", "bca"} or str
        Photographs (``scalelib.datasets.voc``), tissue (``scalelib.slides.collections``), or what
        ``register`` of ``scalelib.datasets`` made known. In a checkout also ``"scenes"``, rendered
        (``n=200`` of them), each object's scale known exactly; and ``"joined"``, several as one.
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
    >>> table = pd.DataFrame([{"image": "a", "object_class": "disc", "area_ratio": 0.25}])
    >>> def disc(side=8):
    ...     return Dataset("one disc", np.zeros((1, side, side, 3), np.uint8), table)
    >>> register("disc", disc)
    >>> load_dataset("disc", side=16).images.shape
    (1, 16, 16, 3)
    """
    received = f"{name!r}; there are {', '.join(DATASETS)}"
    require(name in DATASETS, "load_dataset", f"no dataset {name!r}", received, did_you_mean(name, DATASETS))
    loader = DATASETS[name]
    rule = f"{name!r} needs a part that is missing here; 'joined' and 'scenes' need a checkout"
    with refusing("load_dataset", rule, loader, causes=ImportError):
        return (resolve_name(loader) if isinstance(loader, str) else loader)(**options)
