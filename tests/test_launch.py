"""Launch buttons appear where it is known what to launch, and Binder can build what it finds."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

pytest.importorskip("sphinx")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from scalebook.sphinx_theme import add_launch_buttons, launch_url  # noqa: E402

sys.path.remove(str(ROOT))


def options(**given: object) -> dict[str, object]:
    config = SimpleNamespace(html_theme_options=dict(given))
    add_launch_buttons(None, config)  # type: ignore[arg-type]
    return config.html_theme_options


def test_without_an_address_there_is_no_button(monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    assert options() == {}


def test_on_github_the_repository_s_own_address_is_taken(monkeypatch):
    monkeypatch.setenv("GITHUB_REPOSITORY", "some/where")
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.example")
    found = options()
    assert (found["repository_url"], found["repository_branch"]) == (
        "https://github.example/some/where",
        "main",
    )
    assert {"binderhub_url", "colab_url"} <= set(found["launch_buttons"])


def test_an_address_that_is_given_wins(monkeypatch):
    monkeypatch.setenv("GITHUB_REPOSITORY", "some/where")
    given = "https://github.com/mine/own"
    assert options(repository_url=given)["repository_url"] == given


@pytest.mark.parametrize("profile", ["compact", "control"])
def test_the_notebook_itself_is_launched_not_its_executed_copy(profile):
    before = "https://hub.example/v2/gh/some/where/main?urlpath=lab/tree/"
    assert launch_url(f"{before}book/executed/{profile}/04_x.ipynb") == f"{before}notebooks/04_x.ipynb"
    assert launch_url(f"{before}book/run.md") == f"{before}book/run.md"


def test_binder_installs_from_the_root_with_the_whole_repository_at_hand():
    # repo2docker takes binder/ or .binder/ or a Dockerfile before environment.yml, and has the repository's files during
    # installation only if a pip line refers to one of them: -r, -c, --constraint, or a path that starts with a dot.
    assert not any((ROOT / name).exists() for name in ("binder", ".binder", "Dockerfile"))
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    [lines] = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    [constraint] = [line.split()[1] for line in lines if line.startswith("--constraint ")]
    assert (ROOT / constraint).is_file()
    assert any(line.split()[-1].startswith(".[") for line in lines)
    assert any(str(entry).startswith("python=3.") for entry in environment["dependencies"])
