"""One set of versions: the pins lie inside the package's ranges, and nothing else names a version."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INSTALLED_EXTRAS = ("tensorflow", "slides", "book", "test", "workflow")


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {normalised(r.name): str(r.specifier).removeprefix("==") for r in requirements}


def requirements() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"]
    every = [*PROJECT["dependencies"], *(line for extra in INSTALLED_EXTRAS for line in extras[extra])]
    parsed = [Requirement(line) for line in every]
    here = {"sys_platform": "linux", "platform_machine": "x86_64"}
    return [r for r in parsed if r.marker is None or r.marker.evaluate(here)]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda r: r.name)
def test_pin_lies_inside_the_range_of_the_package(requirement: Requirement) -> None:
    pinned = pins()
    assert normalised(requirement.name) in pinned, f"{requirement.name} has no pin in constraints.txt"
    assert requirement.specifier.contains(pinned[normalised(requirement.name)])


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


def test_every_pin_is_exact() -> None:
    for name, version in pins().items():
        assert re.fullmatch(r"[0-9][\w.+!]*", version), f"{name} is pinned to {version!r}"
