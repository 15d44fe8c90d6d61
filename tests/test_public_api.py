"""The public names are there, and importing the package is light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import scalelib
from scalelib.errors import ScalelibError

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", scalelib.__all__)
def test_public_name_resolves_to_what_its_module_defines(name: str) -> None:
    value = getattr(scalelib, name)
    assert value.__name__ == name
    assert value.__doc__


def test_no_public_name_is_also_a_module_that_would_hide_it() -> None:
    modules = {path.stem for path in Path(scalelib.__file__).parent.iterdir()}
    assert not modules & set(scalelib.__all__)


def test_importing_the_package_loads_neither_keras_nor_pandas() -> None:
    code = "import sys, scalelib; print(sorted({'keras', 'tensorflow', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_error_is_of_one_family() -> None:
    for name in ("DataError", "NetworkError", "ResultsError", "WeightsError"):
        assert issubclass(getattr(scalelib, name), ScalelibError)


def test_version_is_that_of_the_package_metadata() -> None:
    assert f'version = "{scalelib.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'layerwise'"):
        scalelib.layerwise  # noqa: B018
