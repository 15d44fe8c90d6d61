"""The ``parameters`` cell of a notebook: read with ``ast``, never executed, and checked against. Profiles: what each notebook is run with, and which data and weights that needs."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

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


CHECKOUT = Path(__file__).resolve().parents[1]
_TOP_KEYS = {"description": str, "needs": dict, "notebooks": dict}
_NEEDS_KEYS = {"datasets": list, "weights": list}
_WEIGHT_KEYS = {"name": str, "file": str, "alpha": float, "include_top": bool}


@dataclass(frozen=True)
class WeightsNeed:
    """One network's weights that a profile needs.

    Parameters
    ----------
    name : str
        The network, such as ``"InceptionV3"`` or ``"SqueezeNet"``.
    file : str, optional
        Bare name of a weight file that is given, not downloaded by Keras.
    alpha : float, optional
        Width multiplier, for the networks that have one.
    include_top : bool, default=True
        Whether the weights of the classification layers are wanted.
    """

    name: str
    file: str | None = None
    alpha: float | None = None
    include_top: bool = True


@dataclass(frozen=True)
class Profile:
    """A checked profile.

    Parameters
    ----------
    name : str
        The file's name without its suffix, such as ``"control"``.
    path : pathlib.Path
        The file that was read.
    description : str
        One sentence for people.
    datasets : tuple of str
        Names of data sets to be fetched beforehand.
    weights : tuple of WeightsNeed
        Weights to be fetched beforehand.
    notebooks : dict of str to dict
        Parameters per notebook, by the notebook's file name without suffix.
    """

    name: str
    path: Path
    description: str = ""
    datasets: tuple[str, ...] = ()
    weights: tuple[WeightsNeed, ...] = ()
    notebooks: dict[str, dict[str, Any]] = field(default_factory=dict)


def load_profile(profile: str | os.PathLike[str]) -> Profile:
    """Read and check a profile.

    Parameters
    ----------
    profile : str or path-like
        A name such as ``"control"``, looked for in ``profiles/`` of the working folder and of
        scalelib's checkout, or the path of a YAML file.

    Returns
    -------
    Profile

    Raises
    ------
    ResultsError
        If there is no such profile, or it is no YAML, has an unknown or repeated key, or a value
        of the wrong type. Names of parameters are checked by :func:`check_parameters`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "tiny.yaml"
    ...     _ = path.write_text("description: One notebook.\\nnotebooks:\\n  04_x: {repeats: 2}\\n")
    ...     load_profile(path).notebooks
    {'04_x': {'repeats': 2}}
    """
    path = _find_profile(profile)
    content = _read_yaml(path)
    _check_keys(content, _TOP_KEYS, where=f"profile {path.name}")
    needs = content.get("needs") or {}
    _check_keys(needs, _NEEDS_KEYS, where=f"'needs' of {path.name}")
    datasets = needs.get("datasets") or []
    for dataset in datasets:
        _check_type(dataset, str, where=f"an entry of 'needs: datasets' of {path.name}")
    weights = needs.get("weights") or []
    for entry in weights:
        _check_type(entry, dict, where=f"an entry of 'needs: weights' of {path.name}")
        _check_keys(entry, _WEIGHT_KEYS, where=f"an entry of 'needs: weights' of {path.name}")
        if "name" not in entry:
            raise ResultsError(
                f"load_profile: every entry of 'needs: weights' of {path.name} names its network.\n"
                f"Received: {entry!r}.\nWrite, for instance, {{name: InceptionV3}}."
            )
    notebooks = content.get("notebooks") or {}
    for notebook, parameters in notebooks.items():
        _check_type(notebook, str, where=f"a name in 'notebooks' of {path.name}")
        _check_type(parameters if parameters is not None else {}, dict, where=f"notebook {notebook!r}")
        for name in parameters or {}:
            _check_type(name, str, where=f"a parameter's name of notebook {notebook!r} in {path.name}")
    return Profile(
        name=path.stem,
        path=path,
        description=(content.get("description") or "").strip(),
        datasets=tuple(datasets),
        weights=tuple(WeightsNeed(**entry) for entry in weights),
        notebooks={notebook: dict(parameters or {}) for notebook, parameters in notebooks.items()},
    )


def _find_profile(profile: str | os.PathLike[str]) -> Path:
    given = Path(profile).expanduser()
    is_path = given.suffix in (".yaml", ".yml") or given.name != str(profile)
    folders = [Path("profiles"), CHECKOUT / "profiles"]
    places = [given] if is_path else [folder / f"{given}.yaml" for folder in folders]
    for place in places:
        if place.is_file():
            return place
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    hint = did_you_mean(given.stem, known)
    raise ResultsError(
        f"load_profile: no profile {str(profile)!r}.\n"
        f"Looked for: {', '.join(map(str, places))}.\n"
        + " ".join(part for part in (hint, f"Profiles are {', '.join(known) or 'none here'}.") if part)
    )


class _StrictLoader(yaml.SafeLoader):
    """YAML without the silent last-one-wins of a repeated key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = sorted({str(key) for key in keys if keys.count(key) > 1})
        if repeated:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {repeated[0]!r} stands twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ResultsError(
            f"load_profile: {path} is no valid YAML.\nReceived: {error}\nMend the place that is named."
        ) from error
    _check_type(content if content is not None else {}, dict, where=f"profile {path.name}")
    return content or {}


def _check_keys(mapping: Mapping[str, Any], known: Mapping[str, type], *, where: str) -> None:
    for key, value in mapping.items():
        if key not in known:
            raise ResultsError(
                f"load_profile: unknown key {key!r} in {where}.\n"
                f"Received: {', '.join(map(str, mapping))}.\n"
                f"{did_you_mean(str(key), known)} Keys are {', '.join(known)}.".replace("\n ", "\n")
            )
        if value is not None:
            _check_type(value, known[key], where=f"{key!r} in {where}")


def _check_type(value: Any, wanted: type, *, where: str) -> None:
    if not same_kind(value, wanted):
        raise ResultsError(
            f"load_profile: {where} must be of type {wanted.__name__}.\n"
            f"Received: {value!r} of type {type(value).__name__}.{exponent_hint(value, {wanted})}"
        )
