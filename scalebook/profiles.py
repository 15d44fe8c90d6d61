"""Profiles: what each notebook is run with, checked by name and type before anything runs. Knows notebooks as files."""

from __future__ import annotations

import ast
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from scalelib.datasets import Dataset, load_dataset
from scalelib.errors import ResultsError, did_you_mean, refusing, require
from scalelib.results import digest_bytes, read_yaml


@dataclass(frozen=True)
class Profile:
    """What must be fetched beforehand (``datasets`` and ``weights``, which ``scalelib fetch`` reads), and parameters by
    notebook."""

    name: str
    description: str = ""
    needs: dict[str, list[Any]] = field(default_factory=dict)
    notebooks: dict[str, dict[str, Any]] = field(default_factory=dict)


def load_profile(path: str | os.PathLike[str]) -> Profile:
    """Read ``profiles/NAME.yaml``; unknown or repeated keys, and blocks that are none, are refused by name."""
    path = Path(path)
    _known([path.stem], [other.stem for other in sorted(path.parent.glob("*.yaml"))], f"{path.parent}")
    with refusing("profile", f"{path.name} is no valid YAML", path, error=ResultsError):
        content = read_yaml(path)
    top = _block(content, path.name, ("description", "needs", "notebooks"))
    needs = _block(top.get("needs"), f"'needs' of {path.name}", ("datasets", "weights"))
    notebooks = _block(top.get("notebooks"), f"'notebooks' of {path.name}")
    settings = {name: _block(given, f"{name!r} of {path.name}") for name, given in notebooks.items()}
    return Profile(path.stem, str(top.get("description") or "").strip(), needs, settings)


def check_parameters(notebook: str | os.PathLike[str], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of a notebook, with the given values in place of its defaults; nothing is executed.

    An unknown name, or a value of another type than the default's, is refused: papermill would only warn. An int passes
    for a float; a default of None takes anything; entries of a list must be of a type that the default's entries have.
    """
    import papermill

    path, defaults = Path(notebook), {}
    for name, about in papermill.inspect_notebook(str(path)).items():
        rule = f"the cell of {path.name} holds 'name = literal' lines"
        with refusing("parameters", rule, f"{name} = {about['default']}", error=ResultsError):
            defaults[name] = ast.literal_eval(about["default"])
    _known(parameters, defaults, path.name)
    for name, value in parameters.items():
        rule = f"{name!r} of {path.name} takes values like {defaults[name]!r}"
        received = f"{value!r} of type {type(value).__name__}"
        advice = "YAML reads 1e-4 as text: write 1.0e-4." if isinstance(value, str) else ""
        _require(_fits(value, defaults[name]), rule, received, advice)
    return {**defaults, **parameters}


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, list) and isinstance(value, list):
        return not default or all(any(_fits(entry, kind) for kind in default) for entry in value)
    if default is None or isinstance(value, bool) != isinstance(default, bool):
        return default is None
    return isinstance(value, (int, float) if isinstance(default, float) else type(default))


def _block(content: Any, where: str, keys: Collection[str] = ()) -> dict[str, Any]:
    block = content if content is not None else {}
    named = isinstance(block, dict) and all(isinstance(name, str) for name in block)
    _require(named, f"{where} is a block of 'name: value' lines", repr(block))
    _known(block, keys or block, where)
    return block


def _known(names: Collection[str], known: Collection[str], where: str) -> None:
    for name in names:
        hint = f"{did_you_mean(str(name), known)} There are {', '.join(known) or 'none'}.".strip()
        _require(name in known, f"{where} knows no {name!r}", ", ".join(map(str, names)), hint)


def _require(ok: bool, rule: str, received: object, advice: str = "") -> None:
    require(ok, "profile", rule, received, advice, error=ResultsError)


def join_datasets(*, parts: Sequence[Mapping[str, Any]]) -> Dataset:
    """The dataset ``joined`` of a profile: several as one, with the columns that all have; a part is a name and its options."""
    loaded = [load_dataset(**part) for part in parts]
    table = pd.concat([one.table for one in loaded], join="inner", ignore_index=True)
    left_out = {f"{one.name}: {reason}": n for one in loaded for reason, n in one.excluded.items()}
    name, source = " and ".join(one.name for one in loaded), "; ".join(one.source for one in loaded)
    digest = digest_bytes(one.digest.encode() for one in loaded)
    return Dataset(name, [image for one in loaded for image in one.images], table, left_out, source, digest)
