"""Where data and weight files lie on this machine. Knows paths; reads and writes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from scalelib.errors import WeightsError


def data_root(path: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds data sets and ``weights/``.

    Parameters
    ----------
    path : path-like, optional
        An explicit folder, such as ``--data-root``. Default: the environment variable
        ``SCALELIB_DATA``, else the user's cache folder.

    Returns
    -------
    pathlib.Path
        The folder, which need not exist yet.

    Examples
    --------
    >>> data_root("data").as_posix()
    'data'
    """
    return Path(
        path or os.environ.get("SCALELIB_DATA") or platformdirs.user_cache_dir("scalelib")
    ).expanduser()


def keras_home() -> Path:
    """Keras's own cache: ``KERAS_HOME``, else ``~/.keras``; its weight files lie in ``models/``.

    Examples
    --------
    >>> (keras_home() / "models").name
    'models'
    """
    return Path(os.environ.get("KERAS_HOME") or Path("~") / ".keras").expanduser()


def find_weights(filename: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None) -> Path:
    """Find a weight file by path or by bare name.

    Parameters
    ----------
    filename : path-like
        A path to an existing file, or a bare file name, which is looked for in the data root's
        ``weights/`` and then in Keras's ``models/``.
    root : path-like, optional
        The data root; see :func:`data_root`.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    WeightsError
        If there is no such file; the message lists every place looked at.

    Examples
    --------
    >>> find_weights("no_such.weights.h5", root="data")
    Traceback (most recent call last):
    ...
    scalelib.errors.WeightsError: find_weights: no weight file 'no_such.weights.h5'.
    Looked for: ...
    """
    given = Path(filename).expanduser()
    places = [given]
    if given.name == str(filename):
        places = [data_root(root) / "weights" / given.name, keras_home() / "models" / given.name]
    for place in places:
        if place.is_file():
            return place
    raise WeightsError(
        f"find_weights: no weight file {str(filename)!r}.\n"
        f"Looked for: {', '.join(map(str, places))}.\n"
        "Put it there, give its full path, or run 'scalelib fetch'."
    )
