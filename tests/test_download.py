"""Fetching against a server that misbehaves: what arrives is whole and right, or an error says why."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import tarfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from local_server import Server, good, good_with_ranges, hang, serving, short_read, status, wrong_content

from scalelib.datasets.sources import DIGESTS, DOWNLOADS, SOURCES, Source, fetch, find_source, unpack
from scalelib.errors import DataError

QUICK: dict[str, Any] = {"timeout": (2.0, 0.5), "pause": 0.01}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as state:
        yield state


def plain_source(server: Server, **changes: Any) -> Source:
    source = Source(
        name="numbers",
        title="random numbers",
        url=f"{server.url}/numbers.bin",
        checksum="md5:" + hashlib.md5(server.content).hexdigest(),
        megabytes=1,
        licence="CC0",
        target="weights/numbers.bin",
        page="https://example.org/numbers",
    )
    return replace(source, **changes)


@pytest.fixture
def numbers(server: Server) -> Source:
    server.content = np.random.default_rng(0).bytes(5 * 2**20 + 17)
    server.behaviours = [good]
    return plain_source(server)


def leftovers(root: Path) -> list[str]:
    """Every file that is neither a result, nor the record of digests, nor the lock."""
    known = {DIGESTS, ".fetch.lock", "numbers.bin"}
    return sorted(path.name for path in root.rglob("*") if path.is_file() and path.name not in known)


def test_a_good_file_arrives_and_its_digest_is_recorded(server, numbers, tmp_path):
    fetched = fetch(numbers, root=tmp_path, **QUICK)
    assert fetched.path == tmp_path / "weights" / "numbers.bin"
    assert fetched.path.read_bytes() == server.content
    assert not fetched.was_present
    sha256 = hashlib.sha256(server.content).hexdigest()
    assert fetched.sha256 == sha256
    assert json.loads((tmp_path / DIGESTS).read_text())["numbers"]["sha256"] == sha256
    assert leftovers(tmp_path) == []


def test_what_is_present_is_not_asked_for_again(server, numbers, tmp_path):
    fetch(numbers, root=tmp_path, **QUICK)
    assert fetch(numbers, root=tmp_path, **QUICK).was_present
    assert len(server.ranges) == 1


def test_a_damaged_file_does_not_count_as_present(server, numbers, tmp_path):
    path = fetch(numbers, root=tmp_path, **QUICK).path
    path.write_bytes(server.content[:1000])
    assert not fetch(numbers, root=tmp_path, **QUICK).was_present
    assert path.read_bytes() == server.content


def test_a_short_read_is_resumed_where_it_stopped(server, numbers, tmp_path):
    server.behaviours = [short_read, good_with_ranges]
    assert fetch(numbers, root=tmp_path, **QUICK).path.read_bytes() == server.content
    first, second = server.ranges
    assert first is None
    assert int(second.removeprefix("bytes=").removesuffix("-")) >= 2**20
    assert leftovers(tmp_path) == []


def test_a_server_without_ranges_starts_anew(server, numbers, tmp_path):
    server.behaviours = [short_read, good]
    assert fetch(numbers, root=tmp_path, **QUICK).path.read_bytes() == server.content


def test_an_interrupted_fetch_goes_on_in_the_next_one(server, numbers, tmp_path):
    server.behaviours = [short_read, good_with_ranges]
    with pytest.raises(DataError, match="cannot download numbers"):
        fetch(numbers, root=tmp_path, attempts=1, **QUICK)
    assert not (tmp_path / numbers.target).exists()
    assert fetch(numbers, root=tmp_path, attempts=1, **QUICK).path.read_bytes() == server.content
    assert server.ranges[1] is not None


def test_bytes_kept_of_another_file_do_not_survive_the_checksum(server, numbers, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / ".numbers.part").write_bytes(b"x" * 100)
    server.behaviours = [good_with_ranges]
    assert fetch(numbers, root=tmp_path, attempts=2, **QUICK).path.read_bytes() == server.content
    assert server.ranges == ["bytes=100-", None]


def test_more_bytes_kept_than_the_file_has_are_thrown_away(server, numbers, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / ".numbers.part").write_bytes(server.content + b"more")
    server.behaviours = [good_with_ranges]
    assert fetch(numbers, root=tmp_path, attempts=2, **QUICK).path.read_bytes() == server.content


def test_without_a_checksum_an_interrupted_download_starts_anew(server, numbers, tmp_path):
    server.behaviours = [short_read, good_with_ranges]
    source = replace(numbers, checksum=None)
    assert fetch(source, root=tmp_path, **QUICK).path.read_bytes() == server.content
    assert server.ranges == [None, None]


def test_a_wrong_checksum_is_tried_again_and_then_refused(server, numbers, tmp_path):
    server.behaviours = [wrong_content]
    with pytest.raises(DataError, match=r"(?s)published checksum.*2 attempts.*Nothing was kept"):
        fetch(numbers, root=tmp_path, attempts=2, **QUICK)
    assert len(server.ranges) == 2
    assert not (tmp_path / numbers.target).exists()
    assert leftovers(tmp_path) == []


def test_a_wrong_checksum_once_is_mended_by_the_second_attempt(server, numbers, tmp_path):
    server.behaviours = [wrong_content, good]
    assert fetch(numbers, root=tmp_path, **QUICK).path.read_bytes() == server.content


@pytest.mark.parametrize(("code", "requests"), [(404, 1), (403, 1), (500, 3), (503, 3)])
def test_only_errors_that_may_pass_are_tried_again(server, numbers, tmp_path, code, requests):
    server.behaviours = [status(code)]
    with pytest.raises(DataError, match=f"(?s)the server's answer {code}.*{numbers.page}"):
        fetch(numbers, root=tmp_path, attempts=3, **QUICK)
    assert len(server.ranges) == requests


def test_a_server_error_that_passes_is_survived(server, numbers, tmp_path):
    server.behaviours = [status(500), status(503), good]
    assert fetch(numbers, root=tmp_path, **QUICK).path.exists()


def test_a_hanging_server_is_given_up(server, numbers, tmp_path):
    server.behaviours = [hang]
    start = time.monotonic()
    with pytest.raises(DataError, match="cannot download numbers"):
        fetch(numbers, root=tmp_path, attempts=1, **QUICK)
    assert time.monotonic() - start < 1.4


def test_a_server_that_is_not_there_is_named(tmp_path, server, numbers):
    source = replace(numbers, url="http://127.0.0.1:9/numbers.bin")
    with pytest.raises(DataError, match=r"(?s)127.0.0.1:9.*Connection refused"):
        fetch(source, root=tmp_path, attempts=1, **QUICK)


def test_an_unpublished_digest_is_recorded_and_compared_from_then_on(server, numbers, tmp_path):
    source = replace(numbers, checksum=None)
    fetch(source, root=tmp_path, **QUICK).path.unlink()
    assert fetch(source, root=tmp_path, **QUICK).path.exists()
    (tmp_path / source.target).unlink()
    server.content = server.content[::-1]
    with pytest.raises(DataError, match=r"(?s)not what it was when first downloaded.*remove its entry"):
        fetch(source, root=tmp_path, attempts=1, **QUICK)


def test_a_damaged_record_of_digests_is_refused(numbers, tmp_path):
    (tmp_path / DIGESTS).write_text("{")
    with pytest.raises(DataError, match="no valid JSON"):
        fetch(numbers, root=tmp_path, **QUICK)


def test_weights_of_keras_go_to_its_own_cache(server, numbers, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    source = replace(numbers, target="models/numbers.bin", store="keras")
    assert fetch(source, root=tmp_path, **QUICK).path == tmp_path / "keras" / "models" / "numbers.bin"


def test_a_second_fetch_waits_its_turn(numbers, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    with (tmp_path / ".fetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another fetch is at work"):
            fetch(numbers, root=tmp_path, **QUICK)
    assert fetch(numbers, root=tmp_path, **QUICK).path.exists()


def test_a_source_larger_than_the_disk_is_refused_before_it_is_asked_for(server, numbers, tmp_path):
    with pytest.raises(DataError, match=r"(?s)needs about 10000000000 MB.*free in"):
        fetch(replace(numbers, megabytes=10**10), root=tmp_path, **QUICK)
    assert server.ranges == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_is_named_and_leaves_nothing_half(numbers, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / ".numbers.part").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"(?s)No space left on device.*Free some space"):
        fetch(numbers, root=tmp_path, **QUICK)
    assert not (tmp_path / numbers.target).exists()


def test_a_data_root_that_is_a_file_is_refused(numbers, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"(?s)cannot write numbers.*Set SCALELIB_DATA"):
        fetch(numbers, root=tmp_path / "file", **QUICK)


# archives


def tar_of(*entries: tuple[str | tarfile.TarInfo, bytes], mode: str = "w:gz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def zip_of(*entries: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as zipped:
        for name, content in entries:
            zipped.writestr(name, content)
    return stream.getvalue()


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


HOSTILE = {
    "parent": ("tar", tar_of(("ok.txt", b"1"), ("../outside.txt", b"2"))),
    "parent inside": ("tar", tar_of(("a/../../outside.txt", b"2"))),
    "absolute": ("tar", tar_of(("/tmp/outside.txt", b"2"))),
    "drive": ("tar", tar_of(("C:\\outside.txt", b"2"))),
    "backslashes": ("tar", tar_of(("..\\outside.txt", b"2"))),
    "symlink": ("tar", tar_of((link("a", "..", tarfile.SYMTYPE), b""), ("a/outside.txt", b"2"))),
    "symlink inside": ("tar", tar_of(("b", b"1"), (link("a", "b", tarfile.SYMTYPE), b""))),
    "hard link": ("tar", tar_of((link("a", "/etc/passwd", tarfile.LNKTYPE), b""))),
    "device": ("tar", tar_of((link("a", "", tarfile.CHRTYPE), b""))),
    "pipe": ("tar", tar_of((link("a", "", tarfile.FIFOTYPE), b""))),
    "zip parent": ("zip", zip_of(("ok.txt", b"1"), ("../outside.txt", b"2"))),
    "zip absolute": ("zip", zip_of(("/tmp/outside.txt", b"2"))),
    "zip symlink": ("zip", zip_of((zip_link("a"), b"..")),),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "content"), HOSTILE.values(), ids=HOSTILE)
def test_an_archive_that_reaches_outside_is_refused_whole(tmp_path, kind, content):
    (tmp_path / "archive").write_bytes(content)
    folder = tmp_path / "into"
    folder.mkdir()
    with pytest.raises(DataError, match=r"(?s)outside the folder, or is no file.*Nothing was unpacked"):
        unpack(tmp_path / "archive", folder, kind=kind, limit=10**6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "into"]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("content", [b"", b"<html>Not here</html>", None], ids=["empty", "web page", "cut"])
def test_a_damaged_archive_is_refused(tmp_path, kind, content):
    noise = np.random.default_rng(0).bytes(50_000)
    whole = tar_of(("a.bin", noise)) if kind == "tar" else zip_of(("a.bin", noise))
    (tmp_path / "archive").write_bytes(whole[:30_000] if content is None else content)
    (tmp_path / "into").mkdir()
    with pytest.raises(DataError, match=f"damaged or no {kind} archive"):
        unpack(tmp_path / "archive", tmp_path / "into", kind=kind, limit=10**6)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_that_swells_is_refused(tmp_path, kind):
    zeros = b"\0" * 2_000_000
    content = tar_of(("a.bin", zeros)) if kind == "tar" else zip_of(("a.bin", zeros))
    (tmp_path / "archive").write_bytes(content)
    (tmp_path / "into").mkdir()
    with pytest.raises(DataError, match=r"(?s)may take 1 MB.*2 MB"):
        unpack(tmp_path / "archive", tmp_path / "into", kind=kind, limit=1_000_000)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_good_archive_is_unpacked_as_it_is(tmp_path, kind):
    entries = (("deep/er/a.bin", b"1"), ("b.txt", b"22"))
    (tmp_path / "archive").write_bytes(tar_of(*entries) if kind == "tar" else zip_of(*entries))
    (tmp_path / "into").mkdir()
    unpack(tmp_path / "archive", tmp_path / "into", kind=kind, limit=100)
    assert (tmp_path / "into/deep/er/a.bin").read_bytes() == b"1"
    assert (tmp_path / "into/b.txt").read_bytes() == b"22"


def voc_archive(split: str, images: list[str]) -> bytes:
    top = "VOCdevkit/VOC2007"
    entries = [(f"{top}/JPEGImages/{name}.jpg", name.encode()) for name in images]
    entries += [(f"{top}/Annotations/{name}.xml", b"<annotation/>") for name in images]
    entries += [(f"{top}/ImageSets/Main/{split}.txt", "\n".join(images).encode())]
    return tar_of(*entries, mode="w")


def served_voc(server: Server, split: str, content: bytes) -> Source:
    server.content = content
    return replace(
        find_source(f"voc2007-{split}"),
        url=f"{server.url}/{split}.tar",
        checksum="md5:" + hashlib.md5(content).hexdigest(),
        megabytes=1,
    )


def test_two_splits_of_voc_share_their_folder(server, tmp_path):
    server.behaviours = [good]
    fetch(served_voc(server, "trainval", voc_archive("trainval", ["000005"])), root=tmp_path, **QUICK)
    fetch(served_voc(server, "test", voc_archive("test", ["000001", "000002"])), root=tmp_path, **QUICK)
    voc = tmp_path / "VOCdevkit" / "VOC2007"
    images = sorted(path.name for path in (voc / "JPEGImages").iterdir())
    assert images == ["000001.jpg", "000002.jpg", "000005.jpg"]
    assert (voc / "ImageSets/Main/test.txt").read_text() == "000001\n000002"
    assert (voc / "ImageSets/Main/trainval.txt").read_text() == "000005"
    assert list((tmp_path / DOWNLOADS).iterdir()) == []


def test_a_killed_merge_leaves_no_split_and_is_made_good(server, tmp_path, monkeypatch):
    server.behaviours = [good]
    fetch(served_voc(server, "trainval", voc_archive("trainval", ["000005"])), root=tmp_path, **QUICK)
    source = served_voc(server, "test", voc_archive("test", ["000001", "000002"]))
    moved, original = [], Path.replace

    def killed_at_the_fourth_file(self: Path, target: Path) -> Path:
        if ".unpacking" in str(self):
            moved.append(Path(target).name)
            if len(moved) == 4:
                raise KeyboardInterrupt
        return original(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed_at_the_fourth_file)
        with pytest.raises(KeyboardInterrupt):
            fetch(source, root=tmp_path, **QUICK)
    assert len(moved) == 4
    assert not source.is_present(tmp_path)
    requests = len(server.ranges)
    fetch(source, root=tmp_path, **QUICK)
    assert len(server.ranges) == requests, "the archive was whole and is not asked for again"
    assert len(list((tmp_path / "VOCdevkit/VOC2007/JPEGImages").iterdir())) == 3


def test_an_archive_writes_nothing_but_its_own_folder(server, tmp_path):
    server.behaviours = [good]
    content = tar_of(
        ("weights/compressed_SqueezeNet.net", b"planted"),
        ("VOCdevkit/VOC2007/ImageSets/Main/test.txt", b"000001"),
    )
    fetch(served_voc(server, "test", content), root=tmp_path, **QUICK)
    assert not (tmp_path / "weights").exists()


def test_an_archive_of_another_layout_is_refused_and_not_kept(server, tmp_path):
    server.behaviours = [good]
    source = served_voc(server, "test", tar_of(("VOC2007/ImageSets/Main/test.txt", b"000001")))
    with pytest.raises(DataError, match=r"(?s)does not hold VOCdevkit/VOC2007.*VOC2007.*changed layout"):
        fetch(source, root=tmp_path, **QUICK)
    assert list((tmp_path / DOWNLOADS).iterdir()) == []


def test_a_bad_archive_without_a_published_digest_is_not_recorded_as_the_right_one(server, tmp_path):
    server.behaviours = [good]
    server.content = HOSTILE["parent"][1]
    source = replace(find_source("bca-nuclei"), url=f"{server.url}/nuclei.tgz", disk_megabytes=1)
    with pytest.raises(DataError, match="outside the folder"):
        fetch(source, root=tmp_path, **QUICK)
    server.content = tar_of(("12750_500_f00003_mask.png", b"1"), ("12750_500_f00003_original.tif", b"2"))
    fetch(source, root=tmp_path, **QUICK)
    names = sorted(path.name for path in (tmp_path / "nuclei").iterdir())
    assert names == ["12750_500_f00003_mask.png", "12750_500_f00003_original.tif"]


def test_an_empty_folder_made_beforehand_does_not_count_as_present(server, tmp_path):
    (tmp_path / "nuclei").mkdir()
    server.behaviours = [good]
    server.content = tar_of(("a_original.tif", b"2"))
    source = replace(find_source("bca-nuclei"), url=f"{server.url}/nuclei.tgz", disk_megabytes=1)
    assert not fetch(source, root=tmp_path, **QUICK).was_present
    assert [path.name for path in (tmp_path / "nuclei").iterdir()] == ["a_original.tif"]


# the table


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_every_source_states_its_terms(source):
    assert source.licence
    assert source.title
    assert source.page.startswith("http")
    assert source.checksum is None or source.checksum.partition(":")[0] in ("md5", "sha256")
    if source.unpack:
        assert Path(source.target).is_relative_to(source.into)
    if source.marker:
        assert Path(source.marker).is_relative_to(source.target)


def test_an_unknown_source_names_near_matches():
    with pytest.raises(DataError, match=r"(?s)no source 'voc2007-tset'.*Did you mean 'voc2007-test'"):
        find_source("voc2007-tset")


@pytest.mark.data
def test_digests_of_the_table_are_those_of_the_files_at_hand(data_root):
    checked = 0
    for source in SOURCES.values():
        file = data_root / source.target
        if source.checksum and source.unpack is None and file.is_file():
            kind, digest = source.checksum.split(":")
            assert hashlib.new(kind, file.read_bytes()).hexdigest() == digest, source.name
            checked += 1
    assert checked
