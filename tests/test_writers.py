"""What is there after a kill at any step is the old or the new, whole; two at once end with one whole result and no lie."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scalelib.concepts import RCV
from scalelib.datasets.sources import Source, _place
from scalelib.results import Run, read_results, write_atomic

if not hasattr(os, "fork"):
    pytest.skip("processes are forked and killed here, which needs POSIX", allow_module_level=True)
STEPS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}  # Python's audit events that change a disk


def killed(step: int, work: Callable[[], object], folder: Path) -> bool:
    """Do some work in a process that is killed before its nth step on the disk; whether it was."""
    child = os.fork()
    if not child:
        left = step

        def before(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in STEPS and str(folder) in str(arguments[0]):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(before)
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def result(number: int, folder: Path) -> None:
    tables = {"r2": pd.DataFrame({"x": [number] * 3}), f"only_{number}": pd.DataFrame({"x": [number]})}
    Run("demo", profile="control", parameters={"number": number}, folder=folder).write(tables)


def number_of(folder: Path) -> int:
    """The number of the one run that everything in the folder is of."""
    found = read_results(folder)
    number = found.card.data["parameters"]["number"]
    assert found.table("r2").x.tolist() == [number] * 3
    assert sorted(path.name for path in folder.glob("*.csv")) == sorted(["r2.csv", f"only_{number}.csv"])
    return number


def vector(number: int, folder: Path) -> None:
    RCV(np.array([0.6, 0.8]), float(number), 2.0, r2=0.9, angle=5.0).save(folder / "rcv.npz")


def download(number: int, folder: Path) -> None:
    """Place what was unpacked; a folder of an earlier data set, without the marker, is there already."""
    content = folder / "unpacked"
    for name in ("a", "b/c", "marker") if number > 1 else ("old",):
        (content / name).parent.mkdir(parents=True, exist_ok=True)
        (content / name).write_text("new")
    _place(content, folder / "data", last=content / "marker")


def placed(folder: Path) -> int:
    source = Source("x", "x", "CC0", "data", "page", "https://example.org/x.zip", marker="marker")
    if source.is_present(folder):
        assert all((folder / "data" / name).read_text() == "new" for name in ("a", "b/c", "old"))
    return 1 + source.is_present(folder)


WRITERS = {
    "results": (result, number_of),
    "concept vector": (vector, lambda folder: int(RCV.load(folder / "rcv.npz").intercept)),
    "download": (download, placed),
}


@pytest.mark.parametrize("name", WRITERS)
def test_after_a_kill_at_any_step_the_old_or_the_new_is_there_whole(tmp_path: Path, name: str) -> None:
    write, read = WRITERS[name]
    (tmp_path / "old").mkdir()
    write(1, tmp_path / "old")
    seen = []
    for step in itertools.count():
        folder = shutil.copytree(tmp_path / "old", tmp_path / f"killed-{step}")
        was = killed(step, lambda there=folder: write(2, there), folder)
        seen.append(read(folder))
        write(3, folder)
        if name == "results":
            assert number_of(folder) == 3
            assert not [path for path in folder.iterdir() if path.name.startswith(".n")], (
                "nothing is left lying about"
            )
        if not was:
            break
    assert seen[0] == 1
    assert seen[-1] == 2
    assert seen == sorted(seen)
    assert len(seen) > 4


def in_processes(works: Sequence[Callable[[], object]]) -> list[int]:
    """Start each work in a process of its own."""
    children = []
    for work in works:
        children.append(os.fork())
        if not children[-1]:
            try:
                work()
                os._exit(0)
            finally:
                os._exit(1)
    return children


def test_many_at_once_write_whole_results_and_a_reader_never_sees_a_mixture(tmp_path: Path) -> None:
    result(0, tmp_path)
    children = in_processes([lambda n=n: [result(10 * n + i, tmp_path) for i in range(10)] for n in range(4)])
    for _ in range(40):
        assert 0 <= read_results(tmp_path).card.data["parameters"]["number"] < 40
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert number_of(tmp_path) % 10 == 9
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_many_at_once_write_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "slide.svs"
    works = [
        lambda one=one: [write_atomic(path, one * 10**5) for _ in range(25)] for one in (b"a", b"b", b"c")
    ]
    assert [os.waitpid(child, 0)[1] for child in in_processes(works)] == [0] * 3
    assert path.read_bytes() in [one * 10**5 for one in (b"a", b"b", b"c")]
    assert list(tmp_path.iterdir()) == [path]


def test_everything_is_written_through_one_door() -> None:
    """Into a file beside that is renamed when it is complete; elsewhere functions write into memory, or hand on."""
    writes = re.compile(r"\.(write_text|write_bytes)\(|\.open\(['\"][wax]|\.savez\w*\((?!stream|packed)")
    found = [(path.name, line.strip()) for path in (Path(__file__).parents[1] / "scalelib").rglob("*.py")
             for line in path.read_text().splitlines() if writes.search(line)]  # fmt: skip
    assert found == [("results.py", 'with partial.open("xb") as stream:')]
