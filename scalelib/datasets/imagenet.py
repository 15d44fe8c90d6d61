"""Loose ImageNet sample images whose class stands in the file name. Knows files, no networks."""

from __future__ import annotations

import hashlib
import json
import os

import numpy as np
import pandas as pd

from scalelib.datasets.base import Dataset
from scalelib.errors import DataError
from scalelib.locations import data_root, find_weights


def load_imagenet_samples(*, root: str | os.PathLike[str] | None = None, limit: int | None = None) -> Dataset:
    """ImageNet images named ``wnid_name.JPEG``, with the index of their class in a network's output.

    Parameters
    ----------
    root : path-like, optional
        Folder that holds ``imagenet_samples/``. Default: :func:`scalelib.locations.data_root`. Keras's
        ``imagenet_class_index.json`` is looked for as weight files are.
    limit : int, optional
        The first so many, in the order of the wnid. Default: all.

    Returns
    -------
    Dataset
        ``images``: paths. ``table``: ``image``, ``object_class`` (the readable name), ``label`` (0–999),
        ``area_ratio`` and ``sqrt_area_ratio`` (NaN: there are no boxes).

    Raises
    ------
    DataError
        If there is no such folder, it holds no image, or a name has no known wnid.
    WeightsError
        If the class index is not there.

    Examples
    --------
    >>> load_imagenet_samples(root="no-such-folder")
    Traceback (most recent call last):
    ...
    scalelib.errors.DataError: load_imagenet_samples: no image named wnid_name.JPEG.
    Received: ...
    """
    folder = data_root(root) / "imagenet_samples"
    paths = sorted(folder.glob("n[0-9]*_*.JPEG"))[:limit]
    if not paths:
        raise DataError(
            "load_imagenet_samples: no image named wnid_name.JPEG.\n"
            f"Received: {folder}.\nPut ImageNet validation images there, named by class."
        )
    index = json.loads(find_weights("imagenet_class_index.json", root=root).read_text(encoding="utf-8"))
    label_of = {wnid: int(label) for label, (wnid, _) in index.items()}
    unknown = [path.name for path in paths if path.name.split("_")[0] not in label_of]
    if unknown:
        raise DataError(
            "load_imagenet_samples: a wnid is one of the 1000 classes of the class index.\n"
            f"Received: {', '.join(unknown[:5])}.\nLeave such files out."
        )
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + path.read_bytes())
    table = pd.DataFrame(
        {
            "image": [path.stem for path in paths],
            "object_class": [path.stem.split("_", 1)[1] for path in paths],
            "label": [label_of[path.name.split("_")[0]] for path in paths],
            "area_ratio": np.nan,
            "sqrt_area_ratio": np.nan,
        }
    )
    source = "ImageNet ILSVRC2012 samples (Russakovsky et al. 2015), research use"
    return Dataset("ImageNet samples", paths, table, source=source, digest=digest.hexdigest())
