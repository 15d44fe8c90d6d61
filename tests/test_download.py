"""Fetching against a server that misbehaves: what arrives is whole and right, or an error says why."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from local_server import Behaviour, Server, good, hang, serving, short_read, status, wrong_content

from scalelib.datasets import sources
from scalelib.datasets.sources import DIGESTS, SOURCES, Source, find_source
from scalelib.errors import DataError

BYTES = np.random.default_rng(0).bytes(2**20 + 17)


def md5(content: bytes) -> str:
    return "md5:" + hashlib.md5(content).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    monkeypatch.setattr(sources, "TIMEOUT", (2.0, 0.3))
    with serving() as state:
        state.content = BYTES
        yield state


@pytest.fixture
def numbers(server: Server) -> Source:
    place = {"target": "weights/numbers.bin", "page": "https://example.org/numbers"}
    return Source("numbers", "random numbers", "CC0", **place, url=f"{server.url}/n.bin", checksum=md5(BYTES))


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("behaviours", "requests"),
    [
        ([good], 1),
        ([short_read, good], 2),
        ([status(500), hang, wrong_content, good], 4),
    ],
    ids=["good", "cut", "busy, hanging, wrong"],
)
def test_a_file_arrives_whole_in_the_end(server, numbers, tmp_path, behaviours: list[Behaviour], requests):
    server.behaviours = behaviours
    assert numbers.bring(tmp_path).read_bytes() == BYTES
    assert files(tmp_path) == [DIGESTS, "weights/numbers.bin"]
    record = json.loads((tmp_path / DIGESTS).read_text())["numbers"]
    assert record["sha256"] == hashlib.sha256(BYTES).hexdigest()
    numbers.bring(tmp_path)
    assert server.requests == requests, "what is present is not asked for again"


@pytest.mark.parametrize("checksum", ["published", None])
@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [(short_read, "IncompleteRead"), (status(404), "404"), (status(500), "500"), (hang, "timed out")],
)
def test_a_broken_download_is_never_taken_for_complete(
    server, numbers, tmp_path, behaviour, reason, checksum
):
    server.behaviours = [behaviour]
    source = numbers if checksum else replace(numbers, checksum=None)
    with pytest.raises(DataError, match=rf"(?s)numbers did not arrive.*{reason}.*{numbers.page}"):
        source.bring(tmp_path)
    assert server.requests == 4
    assert files(tmp_path) == []


def test_the_checksum_decides(server, numbers, tmp_path):
    server.behaviours = [wrong_content]
    with pytest.raises(DataError, match=r"(?s)does not match the known hash.*Nothing was placed"):
        numbers.bring(tmp_path)
    assert files(tmp_path) == []
    server.behaviours = [good]
    path = numbers.bring(tmp_path)
    path.write_bytes(BYTES[:1000])
    assert not numbers.is_present(tmp_path)
    assert numbers.bring(tmp_path).read_bytes() == BYTES


def test_an_unpublished_digest_is_recorded_and_compared_from_then_on(server, numbers, tmp_path):
    source = replace(numbers, checksum=None)
    source.bring(tmp_path).unlink()
    source.bring(tmp_path).unlink()
    server.content = BYTES[::-1]
    with pytest.raises(DataError, match="does not match the known hash"):
        source.bring(tmp_path)
    (tmp_path / DIGESTS).write_text("{")
    with pytest.raises(DataError, match=r"digests.json is damaged[\s\S]*Delete it"):
        source.bring(tmp_path)


def test_a_missing_server_or_folder_is_named_and_keras_has_its_own(numbers, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"(?s)127.0.0.1.*refused"):
        replace(numbers, url="http://127.0.0.1:9/n.bin").bring(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"File exists|Not a directory"):
        numbers.bring(tmp_path / "file")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert replace(numbers, store="keras").bring(tmp_path) == tmp_path / "keras" / numbers.target


def tar_of(*entries: tuple[str | tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def zip_of(*entries: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as zipped:
        for name, content in entries:
            zipped.writestr(name, content)
    return stream.getvalue()


def served(server: Server, name: str, content: bytes, ending: str = "tgz") -> Source:
    server.content = content
    return replace(find_source(name), url=f"{server.url}/archive.{ending}", checksum=md5(content))


WHOLE = ("a_mask.png", b"1")
OUT = "../../../outside.txt"  # archives are unpacked two folders below the data root
LINK = tarfile.TarInfo("a")
LINK.type, LINK.linkname = tarfile.SYMTYPE, "../../.."
HOSTILE = {  # what else tarfile's and zipfile's own filters refuse is theirs to test
    "parent": ("tgz", tar_of(WHOLE, (OUT, b"2"))),
    "symlink": ("tgz", tar_of(WHOLE, (LINK, b""), ("a/outside.txt", b"2"))),
    "zip parent": ("zip", zip_of(WHOLE, (OUT, b"2"))),
    "web page": ("zip", b"<html>Not here</html>"),
    "cut tar": ("tgz", tar_of(("a.bin", BYTES))[:300_000]),
    "nothing in it": ("tgz", tar_of()),
}


@pytest.mark.parametrize(("ending", "content"), HOSTILE.values(), ids=HOSTILE)
def test_nothing_of_an_archive_lands_outside_and_nothing_of_a_bad_one_at_all(
    server, tmp_path, ending, content
):
    source = replace(served(server, "bca-nuclei", content, ending), checksum=None)
    try:
        source.bring(tmp_path / "root")
        assert (tmp_path / "root" / "nuclei" / WHOLE[0]).is_file(), "what leads outside was left out"
    except DataError:
        assert files(tmp_path) == [], "not even the digest, which would make it seem right at the next try"
    assert not any(folder.joinpath("outside.txt").exists() for folder in (Path("/tmp"), tmp_path))


@pytest.mark.parametrize(("ending", "archive"), [("tgz", tar_of), ("zip", zip_of)])
def test_a_good_archive_is_placed_as_it_is(server, tmp_path, ending, archive):
    (tmp_path / "nuclei").mkdir()  # an empty folder made beforehand does not count as present
    source = served(server, "bca-nuclei", archive(("deep/er/a.bin", b"1"), ("b.txt", b"22")), ending)
    source.bring(tmp_path)
    assert files(tmp_path) == [DIGESTS, "nuclei/b.txt", "nuclei/deep/er/a.bin"]
    assert source.is_present(tmp_path)


def voc_archive(split: str, *images: str) -> bytes:
    top = "VOCdevkit/VOC2007"
    lists = (f"{top}/ImageSets/Main/{split}.txt", "\n".join(images).encode())
    return tar_of(*((f"{top}/JPEGImages/{name}.jpg", name.encode()) for name in images), lists)


def test_two_splits_of_voc_share_their_folder(server, tmp_path):
    served(server, "voc2007-trainval", voc_archive("trainval", "000005")).bring(tmp_path)
    served(server, "voc2007-test", voc_archive("test", "000001", "000002")).bring(tmp_path)
    voc = tmp_path / "VOCdevkit" / "VOC2007"
    assert files(voc / "JPEGImages") == ["000001.jpg", "000002.jpg", "000005.jpg"]
    assert files(voc / "ImageSets/Main") == ["test.txt", "trainval.txt"]


def test_a_killed_merge_leaves_no_split_and_is_made_good(server, tmp_path, monkeypatch):
    served(server, "voc2007-trainval", voc_archive("trainval", "000005")).bring(tmp_path)
    source = served(server, "voc2007-test", voc_archive("test", "000001", "000002"))
    moved, original = [], Path.replace

    def killed_at_the_third_file(self: Path, target: Path) -> Path:
        moved.append(target.name)
        if len(moved) == 3:
            raise KeyboardInterrupt
        return original(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed_at_the_third_file)
        with pytest.raises(KeyboardInterrupt):
            source.bring(tmp_path)
    assert moved[-1] == "test.txt", "the marker comes last"
    assert not source.is_present(tmp_path)
    source.bring(tmp_path)
    assert len(files(tmp_path / "VOCdevkit/VOC2007/JPEGImages")) == 3


def test_an_archive_of_another_layout_is_refused_and_plants_nothing(server, tmp_path):
    with pytest.raises(DataError, match=r"holds no VOCdevkit/VOC2007/ImageSets/Main/test\.txt"):
        served(server, "voc2007-test", tar_of(("VOC2007/ImageSets/Main/test.txt", b"1"))).bring(tmp_path)
    assert files(tmp_path) == []
    planted = tar_of(("weights/planted.net", b"1"), ("VOCdevkit/VOC2007/ImageSets/Main/test.txt", b"1"))
    served(server, "voc2007-test", planted).bring(tmp_path)
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_every_source_states_its_terms(source):
    assert source.licence
    assert source.title
    assert source.page.startswith("http")
    assert source.checksum is None or source.checksum.partition(":")[0] in ("md5", "sha256")
    assert source.url or "put it at" in source.how()
