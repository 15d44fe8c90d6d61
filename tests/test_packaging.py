"""One set of versions, light imports, and a wheel that holds scalelib alone and works without the checkout."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from PIL import Image

import scalelib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INSTALLED_EXTRAS = ("tensorflow", "slides", "book", "test", "workflow")


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    parsed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in parsed}


def requirements() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"]
    every = [
        *PROJECT["dependencies"],
        *(line for extra in (*INSTALLED_EXTRAS, "slurm") for line in extras[extra]),
    ]
    parsed = [Requirement(line) for line in every]
    here = {"sys_platform": "linux", "platform_machine": "x86_64"}
    return [r for r in parsed if r.marker is None or r.marker.evaluate(here)]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda r: r.name)
def test_pin_lies_inside_the_range_of_the_package(requirement: Requirement) -> None:
    pinned = pins().get(canonicalize_name(requirement.name))
    assert pinned, f"{requirement.name} has no pin in constraints.txt"
    assert re.fullmatch(r"[0-9][\w.+!]*", pinned), "pins are exact"
    assert requirement.specifier.contains(pinned)


def test_environment_yml_says_no_version_again_and_installs_what_make_installs() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    versions = {entry.split("=")[0]: entry.split("=")[1] for entry in conda if "=" in entry}
    assert set(versions) == {"python"}
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(versions["python"])
    assert "--constraint constraints.txt" in pip
    extras = re.search(r"^EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert extras
    assert f"--editable .[{extras[1]}]" in pip
    assert set(extras[1].split(",")) == set(INSTALLED_EXTRAS)


@pytest.mark.parametrize("name", scalelib.__all__)
def test_public_name_resolves_to_what_its_module_defines(name: str) -> None:
    value = getattr(scalelib, name)
    assert value.__name__ == name
    assert value.__doc__
    assert f"\n   {name}\n" in (ROOT / "book" / "api.md").read_text(), "its line in the summary"
    pages = [path.read_text() for path in (ROOT / "book" / "api").glob("*.md")]
    assert sum(page.count(f":: scalelib.{name}\n") for page in pages) == 1, "its section"


def test_the_package_has_its_version_and_no_module_that_hides_a_public_name() -> None:
    assert PROJECT["version"] == scalelib.__version__
    assert not {path.stem for path in Path(scalelib.__file__).parent.iterdir()} & set(scalelib.__all__)
    with pytest.raises(AttributeError, match="No scalelib attribute layerwise"):
        scalelib.layerwise  # noqa: B018


# the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network from a copy of the checkout."""
    if Version(metadata.version("setuptools")) < Version("77"):
        pytest.skip("setuptools >= 77 wanted, as pyproject.toml says")
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in ("scalelib", "scalebook", "notebooks"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.ipynb"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    pip("wheel", "--no-build-isolation", "--wheel-dir", str(out), str(copy))
    return next(out.glob("*.whl"))


def pip(*arguments: str) -> None:
    """Without a network, and nothing but what is named."""
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--no-deps", "--no-index"]
    subprocess.run(command, check=True)


def test_the_wheel_holds_scalelib_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {Path(name) for name in archive.namelist()}
    assert {path.parts[0] for path in names} == {"scalelib", f"scalelib-{scalelib.__version__}.dist-info"}
    here = {path.relative_to(ROOT) for path in (ROOT / "scalelib").rglob("*") if path.is_file()}
    assert {path for path in here if "__pycache__" not in path.parts} <= names


README_EXAMPLE = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
SETTING = """
import numpy as np
images = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
measures = images.mean((1, 2, 3))
"""


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel in it, and the dependencies of this one; no checkout can be imported."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    pip("--python", str(folder / "bin" / "python"), "install", str(wheel))
    return folder


@pytest.mark.slow
def test_the_wheel_alone_runs_the_example_and_the_commands(environment: Path, tmp_path: Path) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        command = [environment / "bin" / "python", *arguments]
        clean = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "KERAS_BACKEND": "tensorflow", "CI": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    assert README_EXAMPLE
    ours = '"MobileNet", weights="random", alpha=0.25'
    example = README_EXAMPLE[1].replace('"InceptionV3", weights="imagenet"', ours)
    assert "MobileNet" in example
    where = "import scalelib\nprint(scalelib.__file__, small.output_shape)"
    (tmp_path / "photos").mkdir()
    levels = np.random.default_rng(0).permutation(200)[:24]
    for i, level in enumerate(levels):
        Image.new("RGB", (32, 32), (int(level), 0, 9)).save(tmp_path / "photos" / f"{i}.png")
    rows = [f"{i}.png,{level}" for i, level in enumerate(levels)]
    (tmp_path / "sizes.csv").write_text("\n".join(["file,size", *rows]))
    network = "--network MobileNet --weights random --alpha 0.25 --input-size 32 --taps conv_pw_1 conv_pw_3"
    data = "--images photos --measures sizes.csv --image-column file --measure-column size --repeats 2"
    pruning = "prune --from results/my --out small.keras"
    calls = [f"quantify {network} {data}".split(), pruning.split()]
    commands = f"from scalelib.cli import main\nassert [main(call) for call in {calls}] == [0, 0]"
    shown = run("-c", f"{SETTING}\n{example}\n{where}\n{commands}")  # one process: Keras is imported once
    assert str(environment) in shown
    assert "(None, 1)" in shown
    assert "Best tap to prune at" in shown
    assert "Pruned MobileNet" in shown
    assert "usage: scalelib magnification" in run("-m", "scalelib", "magnification", "--help")
    assert "squeezenet" in run("-m", "scalelib", "fetch", "--list")
    assert run("-m", "scalelib", "ledger", code=2).startswith("scalelib ledger: needs a checkout")
