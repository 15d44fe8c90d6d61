"""The command line: quick to help, clear when it refuses, and honest about what is here and what is not."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest
from local_server import Server, good, serving, status

from scalelib import cli
from scalelib.commands import doctor, fetch
from scalelib.datasets import sources
from scalelib.datasets.sources import Source
from scalelib.graph import keras


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, data root and Keras cache, so that nothing of this machine is seen."""
    monkeypatch.setenv("SCALELIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.chdir(tmp_path)
    for module in (fetch, doctor):
        monkeypatch.setattr(module, "PROFILES", tmp_path)
    return tmp_path


@pytest.fixture
def server(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with a few sources, in place of the real table of sources."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    with serving() as state:
        state.content = b"0123456789"
        digest = "md5:" + hashlib.md5(state.content).hexdigest()
        for name, size in (("small", 1), ("large", 200), ("unsized", None), ("imagenet-classes", 1)):
            place = {"target": f"weights/{name}", "page": "https://example.org", "url": f"{state.url}/{name}"}
            source = Source(name, f"{name} data", "CC0", **place, checksum=digest, megabytes=size)
            monkeypatch.setitem(sources.SOURCES, name, source)
        yield state


# the dispatcher


@pytest.mark.parametrize("command", ["", *cli.COMMANDS])
def test_help_is_there_without_anything_heavy(command):
    heavy = {"keras", "tensorflow", "torch", "jax"} | (set() if command else {"pandas", "numpy"})
    given = [*command.split(), "--help"]
    code = (
        f"import sys\nfrom scalelib.cli import main\ntry:\n    main({given})\nexcept SystemExit:\n    pass\n"
        f"loaded = {heavy} & set(sys.modules)\nassert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"usage: scalelib {command}".strip() in done.stdout
    assert command or all(name in done.stdout for name in cli.COMMANDS)


def test_bare_scalelib_is_its_help_and_no_letter_fails_on_a_terminal_without_it():
    run = {"capture_output": True, "text": True, "env": os.environ | {"PYTHONIOENCODING": "ascii"}}
    for given in ([], ["quantify", "--help"]):
        done = subprocess.run([sys.executable, "-m", "scalelib", *given], **run)
        assert done.returncode == 0, done.stderr
        assert "usage: scalelib" in done.stdout
    assert "R? on held-out images" in done.stdout


def test_an_error_is_its_message_and_a_stop_is_said(here, monkeypatch, capsys):
    assert cli.main(["fetch", "voc2007-tset"]) == 2
    assert capsys.readouterr().err.startswith("fetch: no source 'voc2007-tset'.\nReceived")
    monkeypatch.setattr(fetch, "find_source", lambda name: (_ for _ in ()).throw(KeyboardInterrupt))
    assert cli.main(["fetch", "squeezenet"]) == 130
    assert capsys.readouterr().err == "\nscalelib: stopped.\n"


# fetch


def test_a_small_source_is_fetched_without_a_question_and_once(server, here, capsys):
    for said in ("to fetch", "Everything is here."):
        assert cli.main(["fetch", "small"]) == 0
        shown = capsys.readouterr().out
        assert said in shown
        assert "1 MB · CC0" in shown
    assert (here / "data" / "weights" / "small").read_bytes() == server.content
    assert server.requests == 1
    server.behaviours = [good, *[status(404)] * 4, good]  # one a request, from the first on
    (here / "data" / "weights" / "small").unlink()
    assert cli.main(["fetch", "small", "imagenet-classes"]) == 2
    assert "small did not arrive" in capsys.readouterr().err
    assert (here / "data" / "weights" / "imagenet-classes").exists(), "one failure keeps no other away"
    assert cli.main(["fetch", "--list"]) == 0
    shown = capsys.readouterr().out
    assert "by hand, from https://monuseg" in shown
    assert all(source.title in shown and source.licence in shown for source in sources.SOURCES.values())


@pytest.mark.parametrize(
    ("name", "said"), [("large", "About 200 MB"), ("unsized", "unsized of unknown size")]
)
def test_much_or_unknown_is_asked_for(server, here, monkeypatch, capsys, name, said):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert cli.main(["fetch", name]) == 2
    assert re.search(rf"(?s){said}.*Nothing was downloaded. Add --yes", capsys.readouterr().err)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert cli.main(["fetch", name]) == 2
    assert server.requests == 0
    monkeypatch.setattr("builtins.input", lambda question: "YES")
    assert cli.main(["fetch", name]) == 0
    assert (here / "data" / "weights" / name).exists()


def test_a_profile_brings_all_it_needs_and_names_what_it_cannot(server, here, capsys):
    needs = "needs:\n  datasets: [small]\n  weights: [{name: MobileNetV2, file: own.weights.h5}]\n"
    (here / "mine.yaml").write_text(needs)
    for name in ("mine", "mine.yaml"):
        assert cli.main(["fetch", "--profile", name]) == 1
    assert (here / "data" / "weights" / "small").exists()
    assert (here / "data" / "weights" / "imagenet-classes").exists()
    assert "must be asked for by hand" in (error := capsys.readouterr().err)
    assert str(here / "data" / "weights" / "own.weights.h5") in error
    (here / "data" / "weights" / "own.weights.h5").touch()
    assert cli.main(["fetch", "--profile", "mine"]) == 1, "an empty file is not here either"


def test_weights_of_keras_are_brought_by_keras(here, monkeypatch, capsys):
    built: list[dict[str, Any]] = []
    monkeypatch.setattr(keras.applications, "MobileNet", lambda **options: built.append(options))
    command = ["fetch", "--weights", "MobileNet", "--alpha", "0.25", "--no-top", "--yes"]
    assert cli.main(command) == 0
    assert built == [{"weights": "imagenet", "alpha": 0.25, "include_top": False}]
    (models := here / "keras" / "models").mkdir(parents=True)
    (file := models / "mobilenet_2_5_224_tf_no_top.h5").write_bytes(b"half")
    assert cli.main(command) == 0
    assert len(built) == 2, "a damaged one is not here; Keras is asked again"
    monkeypatch.setattr("scalelib.networks.find_imagenet_file", lambda name, root, **options: file)
    assert cli.main(command) == 0
    assert len(built) == 2
    assert "Everything is here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to fetch"),
        (["--weights", "ResNet5"], "Did you mean 'ResNet50'"),
        (["--weights", "MobileNet", "--alpha", "0.3", "--yes"], "does not bring the weights of MobileNet"),
        (["--profile", "mien"], "no profile 'mien'"),
        (["--profile", "mine"], "has no 'needs: {datasets: […], weights: […]}'"),
        (["--profile", "more"], "needs what is not known.\nReceived: dataset"),
        (["monuseg"], "must be asked for by hand"),
    ],
)
def test_fetch_refuses_what_it_does_not_know(here, capsys, arguments, message):
    (here / "mine.yaml").write_text("needs: {dataset: []}")
    (here / "more.yaml").write_text("needs: {dataset: [], datasets: [], weights: []}")
    assert cli.main(["fetch", *arguments]) == (1 if arguments == ["monuseg"] else 2)
    assert message in capsys.readouterr().err


# doctor


def report(capsys: pytest.CaptureFixture[str], *, code: int = 0) -> dict[str, Any]:
    assert cli.main(["doctor", "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_doctor_names_the_command_for_what_is_not_here(here, capsys):
    (here / "weights" / "unpacked").mkdir(parents=True, exist_ok=True)
    found = report(capsys)
    assert found["broken"] == found["data"] == found["weights"] == found["missing"] == []
    assert {"numpy", "keras"} <= {package["name"] for package in found["packages"]}
    weights = "[{name: MobileNet, alpha: 0.25, include_top: false}]"
    (here / "mine.yaml").write_text(f"needs:\n  datasets: [voc2007-test]\n  weights: {weights}\n")
    wanted = ["voc2007-test", "--weights MobileNet --alpha 0.25 --no-top", "imagenet-classes"]
    found = [need["how"] for need in report(capsys)["missing"]]
    assert found == [f"scalelib fetch {name}" for name in wanted]
    assert cli.main(["doctor"]) == 0
    assert "scalelib fetch voc2007-test" in capsys.readouterr().out


def test_doctor_names_what_is_broken(here, capsys, monkeypatch):
    weights = here / "data" / "weights"
    weights.mkdir(parents=True)
    (weights / "compressed_SqueezeNet.net").write_bytes(b"half")
    with h5py.File(weights / "half.weights.h5", "w") as file:
        file["array"] = range(1000)
    os.truncate(weights / "half.weights.h5", 5000)
    (here / "mine.yaml").write_text("needs: {dataset: []}")
    wanted = ["numpy>=99", "nonesuch-xyz", 'x; extra == "t"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: wanted)
    broken = "\n".join(row["what"] for row in report(capsys, code=1)["broken"])
    for part in ("numpy>=99", "nonesuch-xyz", "compressed_SqueezeNet.net", "half.weights.h5", "mine.yaml"):
        assert part in broken
    assert broken.count("pip install") == 2


def test_doctor_names_a_damaged_record_of_downloads(here, capsys):
    (here / "data").mkdir()
    (here / "data" / "digests.json").write_text("[")
    [row] = report(capsys, code=1)["broken"]
    assert "digests.json is damaged" in row["what"]
    assert "Delete it" in row["what"]


def test_doctor_survives_a_backend_that_does_not_start(here):
    code = "import sys\nfrom scalelib.cli import main\nsys.exit(main(['doctor']))"
    environment = os.environ | {"KERAS_BACKEND": "nonesuch"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "the Keras backend does not start" in done.stdout
