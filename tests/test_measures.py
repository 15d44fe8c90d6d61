"""Own images and measures: every row is used or counted under one reason, and nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scalelib.datasets.own import read_measures
from scalelib.errors import DataError

COLUMNS = {"image_column": "file", "measure_column": "size"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    root = tmp_path / "photos"
    (root / "deep").mkdir(parents=True)
    for name in ("a.png", "b.png", "c.jpg", "deep/d.png", "deep/twin.png", "twin.png"):
        Image.fromarray(rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)).save(root / name)
    (root / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (root / "notes.txt").write_text("not an image")
    return root


def write(folder: Path, text: str, *, encoding: str = "utf-8") -> Path:
    path = folder.parent / "sizes.csv"
    path.write_text(text, encoding=encoding)
    return path


def test_rows_and_images_are_paired_in_the_order_of_the_table(folder):
    table = write(folder, "file,size,kind\nc.jpg,3,x\na.png,1.5,y\ndeep/d.png,-2e3,z\n")
    dataset, left_out = read_measures(folder, table, **COLUMNS)
    assert [path.name for path in dataset.images] == ["c.jpg", "a.png", "d.png"]
    assert dataset.table.measure.tolist() == [3.0, 1.5, -2000.0]
    assert dataset.table.image.tolist() == ["c.jpg", "a.png", "deep/d.png"]
    assert left_out.empty
    assert dataset.excluded == {"image file that no row names": 4}


def test_every_unusable_row_is_counted_under_one_reason(folder):
    table = write(
        folder,
        "file,size\na.png,1\n,2\nnope.png,3\ntwin,4\nb.png,\nb.png,NaN\nc.jpg,wide\nc.jpg,inf\n"
        'broken.jpg,5\ndeep/d.png,"1,5"\n',
    )
    dataset, left_out = read_measures(folder, table, **COLUMNS)
    assert dataset.table.image.tolist() == ["a.png"]
    assert dataset.excluded == {
        "no image named": 1,
        "no such image file": 1,
        "several image files of that name": 1,
        "no measure": 2,
        "measure is no number": 2,
        "measure is not finite": 1,
        "unreadable image": 1,
        "image file that no row names": 2,
    }
    assert left_out[["line", "image"]].to_numpy().tolist()[:3] == [[3, ""], [4, "nope.png"], [5, "twin"]]
    assert len(left_out) == 9


def test_an_image_listed_twice_counts_once_if_the_rows_agree_and_not_at_all_if_not(folder):
    table = write(folder, "file,size\na.png,1\na,1.0\n./b.png,2\nb.png,3\nc.jpg,4\n")
    dataset, left_out = read_measures(folder, table, **COLUMNS)
    assert dataset.table.image.tolist() == ["a.png", "c.jpg"]
    assert dataset.excluded["image listed twice"] == 1
    assert dataset.excluded["image listed with differing values"] == 2
    assert left_out.line.tolist() == [3, 4, 5]


def test_a_row_without_its_group_is_left_out(folder):
    table = write(folder, "file,size,patient\na.png,1,p1\nb.png,2,\nc.jpg,3,p2\n")
    dataset, _ = read_measures(folder, table, **COLUMNS, group_column="patient")
    assert dataset.table.group.tolist() == ["p1", "p2"]
    assert dataset.excluded["no group"] == 1


def test_names_without_ending_and_absolute_paths_are_found(folder):
    table = write(folder, f"file,size\na,1\n{folder / 'b.png'},2\n")
    dataset, _ = read_measures(folder, table, **COLUMNS)
    assert [path.name for path in dataset.images] == ["a.png", "b.png"]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_and_a_byte_order_mark_are_understood(folder, separator):
    text = separator.join(["file", "size"]) + "\n" + separator.join(["a.png", "1"]) + "\n"
    dataset, _ = read_measures(folder, write(folder, text, encoding="utf-8-sig"), **COLUMNS)
    assert dataset.table.measure.tolist() == [1.0]


def test_the_digest_follows_pixels_and_measures_alone(folder):
    table = write(folder, "file,size\na.png,1\n")
    first = read_measures(folder, table, **COLUMNS)[0].digest
    table.write_text("size,file\n1.0,a\n")
    assert read_measures(folder, table, **COLUMNS)[0].digest == first
    table.write_text("file,size\na.png,2\n")
    assert read_measures(folder, table, **COLUMNS)[0].digest != first
    table.write_text("file,size\nb.png,1\n")
    assert read_measures(folder, table, **COLUMNS)[0].digest != first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,sise\na.png,1\n", "(?s)no column 'size'.*Did you mean 'sise'"),
        ("", "(?s)no column 'file'.*columns none"),
        ("file,size\n", "(?s)no row .* is left.*the folder holds 'a.png'"),
        ("file,size\nx.png,1\n", r"(?s)1 × no such image file.*names 'x.png'; the folder holds 'a.png'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_with_both_sides(folder, text, message):
    with pytest.raises(DataError, match=message):
        read_measures(folder, write(folder, text), **COLUMNS)


def test_a_table_that_is_no_text_or_not_there_is_refused(folder):
    (folder.parent / "sizes.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="CSV in UTF-8"):
        read_measures(folder, folder.parent / "sizes.csv", **COLUMNS)
    with pytest.raises(DataError, match="cannot read the measures"):
        read_measures(folder, folder / "none.csv", **COLUMNS)
