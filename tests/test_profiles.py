"""Profiles and parameters: read strictly, so that no run starts with a name nobody knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scalebook.profiles import CHECKOUT, WeightsNeed, check_parameters, load_profile, read_parameters
from scalelib.errors import ResultsError

CELL = """
profile = "control"
repeats = 10
learning_rate = 1e-3
pretrained = True
classes = ["bird", "car"]
limit = None
sizes: list = [64, 96.5]
"""


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return write_notebook(tmp_path / "04_layerwise.ipynb", CELL)


def write_notebook(path: Path, *sources: str) -> Path:
    cells = [{"cell_type": "markdown", "metadata": {}, "source": "# title"}]
    cells += [
        {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": source.splitlines(True)}
        for source in sources
    ]
    path.write_text(json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}))
    return path


def write_profile(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_profile_is_read_whole(tmp_path):
    path = write_profile(
        tmp_path / "paper.yaml",
        """
description: All of it.
needs:
  datasets: [voc2007-test, bca-nuclei]
  weights: [{name: InceptionV3}, {name: MobileNet, alpha: 0.25, include_top: false}, {name: SqueezeNet}]
notebooks:
  04_layerwise: {repeats: 20, learning_rate: 1.0e-4}
  01_invariance:
""",
    )
    profile = load_profile(path)
    assert profile.name == "paper"
    assert profile.datasets == ("voc2007-test", "bca-nuclei")
    assert profile.weights[1] == WeightsNeed("MobileNet", alpha=0.25, include_top=False)
    assert profile.notebooks == {"04_layerwise": {"repeats": 20, "learning_rate": 1e-4}, "01_invariance": {}}


def test_a_profile_is_found_by_name_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "profiles").mkdir()
    write_profile(tmp_path / "profiles" / "mine.yaml", "description: mine")
    monkeypatch.chdir(tmp_path)
    assert load_profile("mine").description == "mine"


def test_an_unknown_profile_names_near_matches(tmp_path, monkeypatch):
    (tmp_path / "profiles").mkdir()
    write_profile(tmp_path / "profiles" / "compact.yaml", "")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ResultsError, match=r"(?s)no profile 'compakt'.*Did you mean 'compact'"):
        load_profile("compakt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("notebook: {}", "unknown key 'notebook'.*Did you mean 'notebooks'"),
        ("needs: {dataset: []}", "unknown key 'dataset'.*Did you mean 'datasets'"),
        ("needs: {weights: [{nane: ResNet50}]}", "unknown key 'nane'.*Did you mean 'name'"),
        ("needs: {weights: [{alpha: 0.25}]}", "names its network"),
        ("needs: {weights: [{name: MobileNet, alpha: wide}]}", "'alpha'.*float.*'wide'"),
        ("needs: {weights: [{name: MobileNet, alpha: 1e-1}]}", "with a point"),
        ("needs: {weights: [{name: VGG16, include_top: 1}]}", "'include_top'.*bool"),
        ("needs: {weights: [ResNet50]}", "dict.*'ResNet50'"),
        ("needs: {datasets: voc2007-test}", "'datasets'.*list"),
        ("needs: {datasets: [2007]}", "str.*2007"),
        ("needs: [voc2007-test]", "'needs'.*dict"),
        ("notebooks: {04_x: 3}", "'04_x'.*dict"),
        ("notebooks: {04_x: {1: 3}}", "parameter's name.*str"),
        ("description: 5", "'description'.*str"),
        ("- control", "dict"),
        ("description: a\ndescription: b", "'description' stands twice"),
        ("notebooks: {04_x: {a: 1, a: 2}}", "'a' stands twice"),
        ("description: [", "no valid YAML"),
        ("x: !!python/object/apply:os.system [echo]", "no valid YAML"),
    ],
)
def test_a_malformed_profile_is_refused(tmp_path, text, message):
    with pytest.raises(ResultsError, match=f"(?s){message}"):
        load_profile(write_profile(tmp_path / "p.yaml", text))


def test_parameters_keep_the_defaults_that_are_not_given(notebook):
    merged = check_parameters(notebook, {"repeats": 2, "learning_rate": 1, "classes": [], "limit": 5})
    assert merged == {
        "profile": "control",
        "repeats": 2,
        "learning_rate": 1,
        "pretrained": True,
        "classes": [],
        "limit": 5,
        "sizes": [64, 96.5],
    }


def test_an_unknown_parameter_names_near_matches(notebook):
    with pytest.raises(ResultsError, match=r"(?s)no parameter 'repeat'.*Did you mean 'repeats'"):
        check_parameters(notebook, {"repeat": 2})


@pytest.mark.parametrize(
    ("given", "received"),
    [
        ({"repeats": "2"}, "'2' of type str"),
        ({"repeats": 2.0}, "2.0 of type float"),
        ({"repeats": True}, "True of type bool"),
        ({"pretrained": 1}, "1 of type int"),
        ({"pretrained": "true"}, "'true' of type str"),
        ({"profile": None}, "None of type NoneType"),
        ({"classes": "bird"}, "'bird' of type str"),
        ({"classes": ["bird", 3]}, "3 of type int"),
        ({"sizes": [32, "64"]}, "'64' of type str"),
        ({"learning_rate": "1e-4"}, "write 0.0001 with a point"),
    ],
)
def test_a_parameter_of_another_type_is_refused(notebook, given: dict[str, Any], received):
    with pytest.raises(ResultsError, match=f"(?s)must be of type .*{received}"):
        check_parameters(notebook, given)


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ((), "exactly one cell.*0 such"),
        (("a = 1", "b = 2"), "exactly one cell.*2 such"),
        (("a = print(1)",), "'name = literal'.*print"),
        (("import os",), "'name = literal'.*import os"),
        (("a, b = 1, 2",), "'name = literal'"),
        (("a: int",), "'name = literal'"),
        (("a = ",), "is no Python"),
    ],
)
def test_a_parameters_cell_holds_literals_only(tmp_path, sources, message):
    with pytest.raises(ResultsError, match=f"(?s){message}"):
        read_parameters(write_notebook(tmp_path / "n.ipynb", *sources))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"cells": [1]}'])
def test_a_file_that_is_no_notebook_is_refused(tmp_path, text):
    path = tmp_path / "n.ipynb"
    path.write_text(text)
    with pytest.raises(ResultsError, match="cannot read the notebook"):
        read_parameters(path)


@pytest.mark.parametrize("path", sorted((CHECKOUT / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_profiles_of_this_checkout_fit_their_notebooks(path):
    profile = load_profile(path)
    for name, parameters in profile.notebooks.items():
        notebook = CHECKOUT / "notebooks" / f"{name}.ipynb"
        if notebook.exists():
            check_parameters(notebook, parameters)
