"""The command line: quick to help, clear when it refuses, and honest about what is here and what is not."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from local_server import Server, good, serving, status

from scalelib import cli
from scalelib.commands import doctor, fetch
from scalelib.datasets import sources
from scalelib.datasets.sources import Source


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, data root and Keras cache, so that nothing of this machine is seen."""
    monkeypatch.setenv("SCALELIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with one small and one large source, in place of the real table of sources."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as state:
        state.content, state.behaviours = b"0123456789", [good]
        digest = "md5:" + hashlib.md5(state.content).hexdigest()
        table = {
            name: Source(name, f"{name} data", f"{state.url}/{name}", digest, size, "CC0", f"weights/{name}",
                         page="https://example.org")
            for name, size in (("small", 1), ("large", 200), ("also-small", 1))
        }  # fmt: skip
        monkeypatch.setattr(sources, "SOURCES", table)
        monkeypatch.setattr(fetch, "SOURCES", table)
        yield state


def at_a_terminal(monkeypatch: pytest.MonkeyPatch, answer: str) -> list[str]:
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or answer)
    return asked


# the dispatcher


def test_help_is_there_without_anything_heavy():
    code = (
        "import sys\nfrom scalelib.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'keras', 'tensorflow', 'torch', 'jax', 'pandas', 'numpy', 'requests'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in cli.COMMANDS)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself_without_keras(command):
    code = (
        "import sys\nfrom scalelib.cli import main\n"
        f"try:\n    main([{command!r}, '--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"usage: scalelib {command}" in done.stdout


def test_an_error_is_its_message_and_status_2(here, capsys):
    assert cli.main(["fetch", "voc2007-tset"]) == 2
    assert capsys.readouterr().err.startswith("fetch: no source 'voc2007-tset'.\nReceived")


def test_a_command_that_is_stopped_says_so(here, monkeypatch, capsys):
    monkeypatch.setattr(fetch, "_wanted", lambda options: (_ for _ in ()).throw(KeyboardInterrupt))
    assert cli.main(["fetch", "squeezenet"]) == 130
    assert capsys.readouterr().err == "\nscalelib: stopped.\n"


# fetch


def test_a_small_source_is_fetched_without_a_question(server, here, capsys):
    assert cli.main(["fetch", "small"]) == 0
    shown = capsys.readouterr().out
    assert "small data" in shown
    assert "1 MB · CC0" in shown
    assert (here / "data" / "weights" / "small").read_bytes() == server.content
    assert cli.main(["fetch", "small"]) == 0
    assert "Everything is here." in capsys.readouterr().out
    assert len(server.ranges) == 1


def test_a_large_source_wants_a_yes_where_nobody_can_be_asked(server, here, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert cli.main(["fetch", "large"]) == 2
    message = capsys.readouterr().err
    assert "About 200 MB" in message
    assert "Nothing was downloaded. Add --yes" in message
    assert server.ranges == []
    assert cli.main(["fetch", "large", "--yes"]) == 0
    assert (here / "data" / "weights" / "large").exists()


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("YES", 0), ("", 2), ("n", 2)])
def test_a_large_source_is_asked_for_at_a_terminal(server, here, monkeypatch, answer, code):
    asked = at_a_terminal(monkeypatch, answer)
    assert cli.main(["fetch", "large"]) == code
    assert "200 MB" in asked[0]
    assert (here / "data" / "weights" / "large").exists() == (code == 0)


def test_sizes_that_are_not_published_are_asked_of_the_server(server, here, monkeypatch, capsys):
    server.content = b"0" * 3_000_000
    source = Source("unsized", "data", f"{server.url}/unsized", None, None, "CC0", "weights/unsized")
    monkeypatch.setitem(sources.SOURCES, "unsized", source)
    assert cli.main(["fetch", "unsized"]) == 0
    assert "3 MB · CC0" in capsys.readouterr().out


def test_one_failure_does_not_keep_the_others_away(server, here, capsys):
    server.behaviours = [status(404), good]
    assert cli.main(["fetch", "small", "also-small"]) == 2
    error = capsys.readouterr().err
    assert "the server's answer 404" in error
    assert "1 of 2 did not arrive" in error
    assert not (here / "data" / "weights" / "small").exists()
    assert (here / "data" / "weights" / "also-small").exists()


def test_a_profile_brings_all_it_needs_and_names_what_it_cannot(server, here, capsys, monkeypatch):
    classes = Source("imagenet-classes", "names", f"{server.url}/names", None, 1, "CC0",
                     "models/imagenet_class_index.json", store="keras")  # fmt: skip
    monkeypatch.setitem(sources.SOURCES, "imagenet-classes", classes)
    (here / "mine.yaml").write_text(
        "needs:\n  datasets: [small, also-small]\n  weights: [{name: MobileNetV2, file: own.weights.h5}]\n"
    )
    assert cli.main(["fetch", "--profile", "mine.yaml"]) == 1
    assert (here / "data" / "weights" / "also-small").exists()
    assert (here / "keras" / "models" / "imagenet_class_index.json").exists()
    assert "put the file own.weights.h5 into" in capsys.readouterr().err


def test_weights_of_keras_come_by_name(server, here, monkeypatch):
    from scalelib import networks

    file = networks.WeightFile("tiny.h5", f"{server.url}/tiny.h5", None)
    monkeypatch.setattr("scalelib.networks.imagenet_file", lambda name, **options: file)
    assert cli.main(["fetch", "--weights", "ResNet50", "--yes"]) == 0
    assert (here / "keras" / "models" / "tiny.h5").read_bytes() == server.content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to fetch"),
        (["--weights", "ResNet5"], "Did you mean 'ResNet50'"),
        (["--weights", "MobileNet", "--alpha", "0.3"], "alpha is one of"),
        (["--profile", "papre"], "no profile 'papre'"),
    ],
)
def test_fetch_refuses_what_it_does_not_know(here, capsys, arguments, message):
    assert cli.main(["fetch", *arguments]) == 2
    assert message in capsys.readouterr().err


# doctor


def report(capsys: pytest.CaptureFixture[str], *, code: int = 0) -> dict[str, Any]:
    assert cli.main(["doctor", "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_doctor_finds_nothing_broken_where_nothing_is(here, capsys):
    found = report(capsys)
    assert found["broken"] == []
    assert found["data"] == found["weights"] == []
    assert found["backend"]["works"]
    assert {"numpy", "keras"} <= {package["name"] for package in found["packages"]}


def test_doctor_names_the_command_for_what_a_profile_lacks(here, capsys, monkeypatch):
    (here / "profiles").mkdir()
    (here / "profiles" / "mine.yaml").write_text(
        "needs:\n  datasets: [voc2007-test]\n  weights: [{name: MobileNet, alpha: 0.25, include_top: false}]\n"
    )
    monkeypatch.setattr("scalebook.profiles.CHECKOUT", here)
    commands = [need["how"] for need in report(capsys)["missing"]["mine"]]
    assert commands[:2] == [
        "scalelib fetch voc2007-test",
        "scalelib fetch --weights MobileNet --alpha 0.25 --no-top",
    ]
    assert cli.main(["doctor"]) == 0
    assert "all that can be fetched: scalelib fetch --profile mine" in capsys.readouterr().out


def test_doctor_counts_what_a_split_lists_and_what_is_there(here, capsys):
    voc = here / "data" / "VOCdevkit" / "VOC2007"
    for name in ("ImageSets/Main", "JPEGImages", "Annotations"):
        (voc / name).mkdir(parents=True)
    (voc / "ImageSets/Main/test.txt").write_text("000001\n000002\n000003\n")
    for name in (
        "JPEGImages/000001.jpg",
        "JPEGImages/000002.jpg",
        "JPEGImages/9.jpg",
        "Annotations/000001.xml",
    ):
        (voc / name).write_text("")
    (entry,) = report(capsys)["data"]
    assert entry["name"] == "VOC2007 test"
    assert entry["counts"] == {"listed": 3, "pictures": 2, "annotations": 1}


def test_doctor_calls_a_damaged_weight_file_broken(here, capsys):
    (here / "data" / "weights").mkdir(parents=True)
    (here / "data" / "weights" / "compressed_SqueezeNet.net").write_bytes(b"half")
    (here / "data" / "weights" / "own.weights.h5").write_bytes(b"mine")
    found = report(capsys, code=1)
    assert [file["state"] for file in found["weights"]] == ["wrong digest", "no digest known"]
    assert "delete it and fetch it again" in found["broken"][0]


def test_doctor_calls_an_old_package_broken(here, capsys, monkeypatch):
    monkeypatch.setattr(
        doctor.metadata, "requires", lambda name: ["numpy>=99", "nonesuch-xyz", 'x; extra == "t"']
    )
    broken = report(capsys, code=1)["broken"]
    assert "numpy >=99 is required" in broken[0]
    assert "nonesuch-xyz" in broken[1]
    assert len(broken) == 2


def test_doctor_calls_a_bad_profile_and_a_bad_record_broken(here, capsys, monkeypatch):
    (here / "profiles").mkdir()
    (here / "profiles" / "mine.yaml").write_text("needs: {dataset: []}")
    monkeypatch.setattr("scalebook.profiles.CHECKOUT", here)
    (here / "data").mkdir()
    (here / "data" / "digests.json").write_text("{")
    broken = report(capsys, code=1)["broken"]
    assert "weights cannot be read" in broken[0]
    assert "unknown key 'dataset'" in broken[1]


def test_doctor_survives_a_backend_that_does_not_start(here):
    code = "import os, sys; os.environ['KERAS_BACKEND'] = 'nonesuch'\nfrom scalelib.cli import main\nsys.exit(main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "(!) the Keras backend does not start" in done.stdout


@pytest.mark.data
def test_doctor_knows_the_real_files(data_root, keras_models, capsys):
    found = report(capsys)
    states = {Path(file["path"]).name: file["state"] for file in found["weights"]}
    assert states["compressed_SqueezeNet.net"] == "as published"
    assert states["mobilenet_2_5_224_tf_no_top.h5"] == "as published"
    assert any(entry["name"] == "VOC2007 test" for entry in found["data"])
