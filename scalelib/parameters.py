"""The ``parameters`` cell of a notebook: read with ``ast``, never executed, and checked against.

papermill injects whatever it is given and only warns about an unknown name; here it is an error.
Knows nothing of profiles or of what the parameters mean.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from scalelib.errors import ResultsError, did_you_mean


def check_parameters(notebook: str | os.PathLike[str], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Check parameters against a notebook's ``parameters`` cell, without running it.

    Parameters
    ----------
    notebook : path-like
        An ``.ipynb`` file with one code cell tagged ``parameters`` that assigns plain literals.
    parameters : mapping of str to object
        What the notebook is to be run with.

    Returns
    -------
    dict
        All of the cell's parameters, with the given values in place of the defaults.

    Raises
    ------
    ResultsError
        If the notebook has no such cell, a name is unknown to it, or a value is of another type
        than its default. An int passes for a float; a default of ``None`` takes anything; entries
        of a list must be of a type that the default's entries have.

    Examples
    --------
    >>> import tempfile
    >>> cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "repeats = 10"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "04_x.ipynb"
    ...     _ = path.write_text(json.dumps({"cells": [cell]}))
    ...     check_parameters(path, {"repeats": 2})
    {'repeats': 2}
    """
    path = Path(notebook)
    defaults = read_parameters(path)
    for name, value in parameters.items():
        if name not in defaults:
            raise ResultsError(
                f"check_parameters: {path.name} has no parameter {name!r}.\n"
                f"Received: {', '.join(map(str, parameters))}.\n"
                f"{did_you_mean(str(name), defaults)} Parameters are {', '.join(defaults)}.".replace(
                    "\n ", "\n"
                )
            )
        _check_value(path.name, name, value, defaults[name])
    return {**defaults, **parameters}


def read_parameters(notebook: str | os.PathLike[str]) -> dict[str, Any]:
    """The defaults in a notebook's ``parameters`` cell, read without running it.

    Parameters
    ----------
    notebook : path-like
        An ``.ipynb`` file.

    Returns
    -------
    dict
        Literal values by name, in the cell's order.

    Raises
    ------
    ResultsError
        If the file is no notebook, the tag stands on no cell or on several, or the cell holds
        anything but assignments of literals to names.

    Examples
    --------
    >>> read_parameters("no_such.ipynb")
    Traceback (most recent call last):
    ...
    scalelib.errors.ResultsError: read_parameters: cannot read the notebook no_such.ipynb...
    """
    path = Path(notebook)
    source = _parameters_source(path)
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise ResultsError(
            f"read_parameters: the parameters cell of {path.name} is no Python.\nReceived: {error}."
        ) from error
    defaults: dict[str, Any] = {}
    for statement in statements:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=value)
            ) if value is not None and _is_literal(value):
                defaults[name] = ast.literal_eval(value)
            case _:
                raise ResultsError(
                    f"read_parameters: the cell 'parameters' of {path.name} holds 'name = literal' lines.\n"
                    f"Received: {ast.unparse(statement)}.\nMove everything else to a later cell."
                )
    return defaults


def _parameters_source(path: Path) -> str:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        tagged = [c for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
        sources = ["".join(cell["source"]) for cell in tagged]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(
            f"read_parameters: cannot read the notebook {path}.\nReceived: {type(error).__name__}: {error}."
        ) from error
    if len(sources) != 1:
        raise ResultsError(
            f"read_parameters: {path.name} needs exactly one cell tagged 'parameters'.\n"
            f"Received: {len(sources)} such cells."
        )
    return sources[0]


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError):
        return False
    return True


def _check_value(notebook: str, name: str, value: Any, default: Any) -> None:
    if default is None:
        return
    entries, what, kinds = [value], repr(name), {type(default)}
    if same_kind(value, list) and same_kind(default, list):
        entries, what, kinds = list(value), f"entries of {name!r}", {type(entry) for entry in default}
        if not kinds or type(None) in kinds:  # an empty list, or one with a None, says nothing of types
            return
    for entry in entries:
        if not any(same_kind(entry, kind) for kind in kinds):
            wanted = " or ".join(sorted(kind.__name__ for kind in kinds))
            raise ResultsError(
                f"check_parameters: {what} of {notebook} must be of type {wanted}, "
                f"as in {name} = {default!r}.\n"
                f"Received: {entry!r} of type {type(entry).__name__}.{exponent_hint(entry, kinds)}"
            )


def same_kind(value: Any, wanted: type) -> bool:
    """Equal in kind: an int passes for a float, a bool for neither, a tuple for a list."""
    if isinstance(value, bool) or wanted is bool:
        return isinstance(value, bool) and wanted is bool
    if wanted is float:
        return isinstance(value, (int, float))
    if wanted in (list, tuple):
        return isinstance(value, (list, tuple))
    return isinstance(value, wanted)


def exponent_hint(value: Any, wanted: Collection[type]) -> str:
    """YAML 1.1 reads 1e-4 as text, which nobody expects."""
    if float in wanted and isinstance(value, str):
        try:
            return f"\nYAML reads it as text: write {float(value)!r} with a point, such as 1.0e-4."
        except ValueError:
            return ""
    return ""
