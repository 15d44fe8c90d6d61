"""PASCAL VOC: the rule, the measures against written-out arithmetic, and every reason to leave an image out."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from scalelib.datasets.voc import load_voc
from scalelib.errors import DataError

BOX = (11, 21, 60, 60)  # 50 wide and 40 high in an image of 100 x 80


def thing(name: str = "bird", box: tuple[object, ...] = BOX, *, extra: str = "") -> str:
    sides = "".join(
        f"<{side}>{at}</{side}>" for side, at in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name>{extra}<bndbox>{sides}</bndbox></object>"


def annotation(*things: str, size: tuple[object, object] = (100, 80)) -> str:
    return (
        f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>"
        f"{''.join(things)}</annotation>"
    )


Adder = Callable[..., None]


@pytest.fixture
def devkit(tmp_path) -> Path:
    for part in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (tmp_path / "VOCdevkit" / "VOC2007" / part).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def add(devkit) -> Adder:
    """Add one image with its annotation to the split ``test``."""
    folder = devkit / "VOCdevkit" / "VOC2007"

    def add_image(name: str, xml: str | bytes | None, *, image: bytes | str | None = "good") -> None:
        with (folder / "ImageSets" / "Main" / "test.txt").open("a") as split:
            split.write(f"{name}\n")
        if xml is not None:
            text = xml if isinstance(xml, bytes) else xml.encode()
            (folder / "Annotations" / f"{name}.xml").write_bytes(text)
        path = folder / "JPEGImages" / f"{name}.jpg"
        if image == "good":
            Image.new("RGB", (100, 80), (90, 120, 30)).save(path)
        elif isinstance(image, bytes):
            path.write_bytes(image)

    return add_image


def test_measures_follow_the_one_based_inclusive_boxes(devkit, add):
    add("000001", annotation(thing(extra="<truncated>1</truncated><difficult>0</difficult>")))
    add("000002", annotation(thing("car", (1, 1, 100, 80), extra="<difficult>1</difficult>")))
    add("000003", annotation(thing("car", (7, 9, 7, 9))))
    add("000004", annotation(thing("car", ("10.5", 1, "30.25", 80))))
    dataset = load_voc(root=devkit)
    table = dataset.table.set_index("image")
    assert list(dataset.table.image) == [path.stem for path in dataset.images]
    assert table.object_class.tolist() == ["bird", "car", "car", "car"]
    np.testing.assert_allclose(table.box_width_ratio, [0.5, 1, 0.01, 0.2075])
    np.testing.assert_allclose(table.box_height_ratio, [0.5, 1, 1 / 80, 1])
    np.testing.assert_allclose(table.area_ratio, [0.25, 1, 1 / 8000, 0.2075])
    np.testing.assert_allclose(table.sqrt_area_ratio, [0.5, 1, math.sqrt(1 / 8000), math.sqrt(0.2075)])
    assert table.truncated.tolist() == [True, False, False, False]
    assert table.difficult.tolist() == [False, True, False, False]
    assert (table.width == 100).all()
    assert (table.height == 80).all()
    assert dataset.excluded == {}
    assert "Everingham" in dataset.source
    assert dataset.name == "VOC2007 test"


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;">]>'
    "<annotation><size><width>&y;</width></size></annotation>"
)
THIEF = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + annotation(
    thing("&x;")
)


NO_ANNOTATION = "no usable annotation"
UNUSABLE = [
    ("several objects", annotation(thing(), thing("car", extra="<difficult>1</difficult>"))),
    ("other class", annotation(thing("cat"))),
    ("no object", annotation()),
    (NO_ANNOTATION, None),
    (NO_ANNOTATION, annotation(thing())[:-20]),
    (NO_ANNOTATION, b""),
    (NO_ANNOTATION, b"\xff\xfe\x00rubbish"),
    (NO_ANNOTATION, annotation(thing(name=" "))),
    (NO_ANNOTATION, annotation(thing()).replace("width", "breadth")),
    (NO_ANNOTATION, annotation("<object><name>bird</name></object>")),
    (NO_ANNOTATION, BOMB),
    (NO_ANNOTATION, THIEF),
    *((NO_ANNOTATION, annotation(thing(box=(1, 1, side, 9)))) for side in ("wide", "nan", "inf")),
    *(
        (NO_ANNOTATION, annotation(thing(box=box)))
        for box in ((60, 21, 11, 60), (11, 60, 60, 21), (11, 21, 101, 60), (11, 21, 60, 81), (0, 21, 60, 60))
    ),
    (NO_ANNOTATION, annotation(thing(), size=(0, 0))),
    ("no usable image", annotation(thing(), size=(100, 90))),
]


@pytest.mark.parametrize(("reason", "xml"), UNUSABLE)
def test_every_unusable_annotation_is_left_out_and_counted(devkit, add, reason, xml):
    add("good", annotation(thing()))
    add("bad", xml)
    dataset = load_voc(root=devkit, classes=None if reason == NO_ANNOTATION else ["bird"])
    assert dataset.table.image.tolist() == ["good"]
    assert dataset.excluded == {reason: 1}


def test_unusable_images_are_left_out_and_counted(devkit, add):
    add("good", annotation(thing()))
    for name, image in (("gone", None), ("empty", b""), ("text", b"no picture"), ("good", "good")):
        add(name, annotation(thing()), image=image)
    dataset = load_voc(root=devkit)
    assert dataset.table.image.tolist() == ["good"], "and one that is listed twice counts once"
    assert dataset.excluded == {"no usable image": 3}


def test_the_parts_of_an_object_are_no_objects(devkit, add):
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    add("person", annotation(thing("person", extra=part)))
    assert load_voc(root=devkit).table.object_class.tolist() == ["person"]


def test_the_largest_rule_describes_the_largest_box(devkit, add):
    add("000001", annotation(thing("cat", (1, 1, 10, 10)), thing("dog"), thing("cat", (5, 5, 20, 20))))
    add("000002", annotation(thing("cat", (1, 1, 10, 10))))
    dataset = load_voc(root=devkit, rule="largest")
    assert dataset.table.object_class.tolist() == ["dog", "cat"]
    assert dataset.table.n_objects.tolist() == [3, 1]
    np.testing.assert_allclose(dataset.table.area_ratio, [0.25, 100 / 8000])
    cats = load_voc(root=devkit, rule="largest", classes=["cat"])
    assert cats.table.image.tolist() == ["000002"]
    assert cats.excluded == {"other class": 1}


def test_the_digest_depends_on_pixels_and_boxes_alone(devkit, add, tmp_path_factory):
    add("000001", annotation(thing()))
    first = load_voc(root=devkit).digest
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(devkit, elsewhere, dirs_exist_ok=True)
    assert load_voc(root=elsewhere).digest == first
    folder = elsewhere / "VOCdevkit" / "VOC2007"
    (folder / "Annotations" / "000001.xml").write_text(annotation(thing(box=(11, 21, 61, 60))))
    moved = load_voc(root=elsewhere).digest
    (folder / "Annotations" / "000001.xml").write_text(annotation(thing()))
    Image.new("RGB", (100, 80), (91, 120, 30)).save(folder / "JPEGImages" / "000001.jpg")
    repainted = load_voc(root=elsewhere).digest
    assert len({first, moved, repainted}) == 3
    assert len(first) == 64


def test_errors_say_what_would_work(devkit, add):
    add("000001", annotation(thing("aeroplane")))
    add("000002", annotation(thing("person"), thing("person")))
    for options, words in (
        ({"classes": ["aeroplan"]}, "Did you mean 'aeroplane'"),
        ({"classes": ["zebra"]}, "aeroplane, person"),
        ({"classes": "aeroplane"}, "['aeroplane']"),
        ({"classes": ["person"]}, "left out: {'other class': 1, 'several objects': 1}"),
        ({"classes": []}, "no image of VOC2007 test is left"),
        ({"rule": "biggest"}, "single, largest"),
        ({"split": "tset"}, "Did you mean 'test'"),
        ({"year": 2012}, "scalelib fetch voc2012"),
        ({"root": devkit / "nowhere"}, "scalelib fetch voc2007"),
    ):
        with pytest.raises(DataError, match="Received: ") as error:
            load_voc(**{"root": devkit, **options})
        assert words in str(error.value)


def test_another_year_and_split_is_only_another_folder(devkit, add):
    add("2008_000001", annotation(thing()))
    (devkit / "VOCdevkit" / "VOC2007").rename(devkit / "VOCdevkit" / "VOC2012")
    main = devkit / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main"
    (main / "test.txt").rename(main / "trainval.txt")
    assert load_voc(root=devkit, year=2012, split="trainval").name == "VOC2012 trainval"


@pytest.mark.data
def test_real_annotations_recounted_without_the_loader(voc_root):
    folder = voc_root / "VOCdevkit" / "VOC2007"
    expected: Counter[str] = Counter()
    areas = {}
    for name in (folder / "ImageSets" / "Main" / "test.txt").read_text().split():
        tree = ElementTree.parse(folder / "Annotations" / f"{name}.xml")
        objects = tree.findall("./object")
        if len(objects) != 1:
            expected["several"] += 1
            continue
        expected[objects[0].find("name").text] += 1
        x0, y0, x1, y1 = (int(objects[0].find(f"bndbox/{s}").text) for s in ("xmin", "ymin", "xmax", "ymax"))
        with Image.open(folder / "JPEGImages" / f"{name}.jpg") as picture:
            areas[name] = (x1 - x0 + 1) * (y1 - y0 + 1) / (picture.width * picture.height)
    dataset = load_voc(root=voc_root)
    assert dataset.excluded == {"several objects": expected.pop("several")}
    assert dataset.table.object_class.value_counts().to_dict() == expected
    assert dataset.table.set_index("image").area_ratio.to_dict() == pytest.approx(areas)
    assert dataset.table.area_ratio.between(0, 1, inclusive="right").all()


@pytest.mark.data
def test_the_four_classes_at_hand_have_the_counts_that_the_data_sheet_states(voc_root):
    counts = {"bird": 188, "aeroplane": 129, "car": 268, "dog": 215}
    dataset = load_voc(root=voc_root, classes=list(counts))
    assert dataset.table.object_class.value_counts().to_dict() == counts
    assert dataset.excluded == {"several objects": 40}
