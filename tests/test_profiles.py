"""Profiles and parameters: read strictly, so that no run starts with a name nobody knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

from scalebook.profiles import check_parameters, load_profile
from scalelib.errors import ResultsError

ROOT = Path(__file__).parents[1]
CELL = """
profile = "control"
repeats = 10
learning_rate = 1e-3
pretrained = True
classes = ["bird", "car"]
limit = None
sizes: list = [64, 96.5]
networks = [
    {"name": "a", "taps": [1, 2]},  # a comment
]
"""


def write_notebook(folder: Path, source: str) -> Path:
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=metadata), folder / "04_x.ipynb")
    return folder / "04_x.ipynb"


def write_profile(folder: Path, text: str) -> Path:
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    return folder / "mine.yaml"


def test_a_profile_is_read_whole(tmp_path):
    text = "description: All of it.\nneeds: {datasets: [voc2007-test], weights: [{name: MobileNet, alpha: 0.25}]}\n"
    profile = load_profile(write_profile(tmp_path, f"{text}notebooks:\n  04_x: {{repeats: 20, rate: 1.0e-4}}\n  01_y:\n"))  # fmt: skip
    assert (profile.name, profile.description) == ("mine", "All of it.")
    assert profile.needs == {"datasets": ["voc2007-test"], "weights": [{"name": "MobileNet", "alpha": 0.25}]}
    assert profile.notebooks == {"04_x": {"repeats": 20, "rate": 1e-4}, "01_y": {}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("notebook: {}", "knows no 'notebook'.*Did you mean 'notebooks'"),
        ("needs: {dataset: []}", "knows no 'dataset'.*Did you mean 'datasets'"),
        ("needs: [voc2007-test]", "'needs' of mine.yaml is a block"),
        ("notebooks: {04_x: 3}", "'04_x' of mine.yaml is a block.*Received: 3"),
        ("- control", "mine.yaml is a block"),
        ("notebooks: {01_: {}}", "'notebooks' of mine.yaml is a block.*Received: {1: {}}"),
        ("notebooks: &a {x: {}}\nneeds: *a", "references such as"),
        ("notebooks: {04_x: {a: 1, a: 2}}", "'a' stands twice"),
        ("x: !!python/object/apply:os.system [echo]", "no valid YAML"),
    ],
)
def test_a_malformed_profile_is_refused(tmp_path, text, message):
    with pytest.raises(ResultsError, match=f"(?s){message}"):
        load_profile(write_profile(tmp_path, text))
    with pytest.raises(ResultsError, match=r"(?s)no 'mime'.*Did you mean 'mine'"):
        load_profile(tmp_path / "mime.yaml")


def test_parameters_keep_the_defaults_that_are_not_given(tmp_path):
    given = {"repeats": 2, "learning_rate": 1, "classes": [], "limit": 5}
    networks = [{"name": "a", "taps": [1, 2]}]
    merged = check_parameters(write_notebook(tmp_path, CELL), given)
    assert merged == {"profile": "control", "pretrained": True, "sizes": [64, 96.5], "networks": networks, **given}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"repeat": 2}, "no 'repeat'.*Did you mean 'repeats'"),
        ({"repeats": "2"}, "'2' of type str"),
        ({"repeats": 2.0}, "2.0 of type float"),
        ({"repeats": True}, "True of type bool"),
        ({"pretrained": 1}, "1 of type int"),
        ({"classes": ["bird", 3]}, "'classes'.*3. of type list"),
        ({"sizes": [32, "64"]}, "'sizes'.*'64'. of type list"),
        ({"learning_rate": "1e-4"}, "write 1.0e-4"),
        ({}, "'name = literal' lines.*print"),
    ],
)
def test_a_parameter_of_another_name_or_type_is_refused(tmp_path, given: dict[str, Any], message):
    cell = "a = print(1)" if given == {} else CELL
    with pytest.raises(ResultsError, match=f"(?s){message}"):
        check_parameters(write_notebook(tmp_path, cell), given)


@pytest.mark.parametrize("path", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_profiles_of_this_checkout_fit_their_notebooks(path):
    notebooks = load_profile(path).notebooks
    for name, parameters in notebooks.items():
        check_parameters(ROOT / "notebooks" / f"{name}.ipynb", {"profile": path.stem, **parameters})
    every = {notebook.stem for notebook in (ROOT / "notebooks").glob("*.ipynb")}
    assert set(notebooks) == every or path.stem != "control"
