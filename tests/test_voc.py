"""PASCAL VOC and CUB-200-2011: the rule, the measures against written-out arithmetic, and every reason to leave an image out."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from scalelib.datasets import load_dataset
from scalelib.datasets.voc import load_voc
from scalelib.errors import DataError

BOX = (11, 21, 60, 60)  # 50 wide and 40 high in an image of 100 x 80
SIDES = ("xmin", "ymin", "xmax", "ymax")


def thing(name: str = "bird", box: tuple[object, ...] = BOX, *, extra: str = "") -> str:
    sides = "".join(f"<{side}>{at}</{side}>" for side, at in zip(SIDES, box, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{sides}</bndbox></object>"


def annotation(*things: str, size: tuple[int, int] = (100, 80)) -> str:
    width, height = size
    size_xml = f"<size><width>{width}</width><height>{height}</height></size>"
    return f"<annotation>{size_xml}{''.join(things)}</annotation>"


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    for part in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (tmp_path / "VOCdevkit" / "VOC2007" / part).mkdir(parents=True)
    return tmp_path


def add(devkit: Path, name: str, xml: str | bytes | None, *, image: bytes | None = b"good") -> None:
    """Add one image with its annotation to the split ``test``."""
    folder = devkit / "VOCdevkit" / "VOC2007"
    with (folder / "ImageSets" / "Main" / "test.txt").open("a") as split:
        split.write(f"{name}\n")
    if xml is not None:
        text = xml if isinstance(xml, bytes) else xml.encode()
        (folder / "Annotations" / f"{name}.xml").write_bytes(text)
    path = folder / "JPEGImages" / f"{name}.jpg"
    if image == b"good":
        Image.new("RGB", (100, 80), (90, 120, 30)).save(path)
    elif image is not None:
        path.write_bytes(image)


def test_measures_follow_the_one_based_inclusive_boxes(devkit):
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"  # is no object
    add(devkit, "000001", annotation(thing(extra=f"<truncated>1</truncated><difficult>0</difficult>{part}")))
    add(devkit, "000002", annotation(thing("car", (1, 1, 100, 80), extra="<difficult>1</difficult>")))
    add(devkit, "000003", annotation(thing("car", (7, 9, 7, 9))))
    add(devkit, "000004", annotation(thing("car", ("10.5", 1, "30.25", 80))))
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
    assert table[["width", "height"]].drop_duplicates().to_numpy().tolist() == [[100, 80]]
    assert dataset.excluded == {}
    assert "Everingham" in dataset.source
    assert dataset.name == "VOC2007 test"


ENTITY = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "1"><!ENTITY y SYSTEM "file:///etc/passwd">]>'
NO_ANNOTATION = "no usable annotation"
OFF = [(60, 21, 11, 60), (11, 60, 60, 21), (11, 21, 101, 60), (11, 21, 60, 81), (0, 21, 60, 60)]
OFF += [(1, 1, side, 9) for side in ("wide", "nan", "inf")]
UNUSABLE = [
    ("several objects", annotation(thing(), thing("car", extra="<difficult>1</difficult>"))),
    ("other class", annotation(thing("cat"))),
    ("no object", annotation()),
    (NO_ANNOTATION, None),
    (NO_ANNOTATION, b""),
    (NO_ANNOTATION, b"\xff\xfe\x00rubbish"),
    (NO_ANNOTATION, annotation(thing())[:-20]),
    (NO_ANNOTATION, annotation(thing()).replace("width", "breadth")),
    (NO_ANNOTATION, annotation("<object><name>bird</name></object>")),
    (NO_ANNOTATION, ENTITY + annotation(thing(box=("&x;", 1, 9, 9)))),
    (NO_ANNOTATION, ENTITY + annotation(thing("&y;"))),
    *((NO_ANNOTATION, annotation(thing(box=box))) for box in OFF),
    (NO_ANNOTATION, annotation(thing(), size=(0, 0))),
    (NO_ANNOTATION, annotation(thing(), size=("inf", 80))),  # type: ignore[arg-type]
    (NO_ANNOTATION, '<?xml version="1.0" encoding="none"?>' + annotation(thing())),
    ("no usable image", annotation(thing(), size=(100, 90))),
]


@pytest.mark.parametrize(("reason", "xml"), UNUSABLE)
def test_every_unusable_annotation_is_left_out_and_counted(devkit, reason, xml):
    add(devkit, "good", annotation(thing()))
    add(devkit, "bad", xml)
    dataset = load_voc(root=devkit, classes=["bird"])
    assert dataset.table.image.tolist() == ["good"]
    assert dataset.excluded == {reason: 1}


def test_a_list_of_images_that_is_no_text_is_refused_and_a_name_that_no_file_has_is_left_out(devkit):
    add(devkit, "good", annotation(thing()))
    split = devkit / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / "test.txt"
    split.write_bytes(b"good\n" + b"x" * 300 + b"\na\0b\n")
    assert load_voc(root=devkit).excluded == {NO_ANNOTATION: 2}
    split.write_bytes(b"good\n\xff\n")
    with pytest.raises(DataError, match="cannot read the split 'test'"):
        load_voc(root=devkit)


def test_unusable_images_are_left_out_and_counted(devkit):
    for name, image in (("good", b"good"), ("gone", None), ("empty", b""), ("text", b"no picture")):
        add(devkit, name, annotation(thing()), image=image)
    add(devkit, "good", annotation(thing()))
    dataset = load_voc(root=devkit)
    assert dataset.table.image.tolist() == ["good"], "and one that is listed twice counts once"
    assert dataset.excluded == {"no usable image": 3}


def test_the_largest_rule_describes_the_largest_box(devkit):
    small, cat = thing("cat", (1, 1, 10, 10)), thing("cat", (5, 5, 20, 20))
    add(devkit, "000001", annotation(small, thing("dog"), cat))
    add(devkit, "000002", annotation(small))
    dataset = load_voc(root=devkit, rule="largest")
    assert dataset.table.object_class.tolist() == ["dog", "cat"]
    assert dataset.table.n_objects.tolist() == [3, 1]
    np.testing.assert_allclose(dataset.table.area_ratio, [0.25, 100 / 8000])
    cats = load_voc(root=devkit, rule="largest", classes=["cat"])
    assert cats.table.image.tolist() == ["000002"]
    assert cats.excluded == {"other class": 1}


def test_the_digest_depends_on_pixels_and_boxes_alone(devkit, tmp_path_factory):
    add(devkit, "000001", annotation(thing()))
    digests = [load_voc(root=devkit).digest]
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(devkit, elsewhere, dirs_exist_ok=True)
    digests.append(load_voc(root=elsewhere).digest)
    folder = elsewhere / "VOCdevkit" / "VOC2007"
    (folder / "Annotations" / "000001.xml").write_text(annotation(thing(box=(11, 21, 61, 60))))
    digests.append(load_voc(root=elsewhere).digest)
    (folder / "Annotations" / "000001.xml").write_text(annotation(thing()))
    Image.new("RGB", (100, 80), (91, 120, 30)).save(folder / "JPEGImages" / "000001.jpg")
    digests.append(load_voc(root=elsewhere).digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": ["aeroplan"]}, "Did you mean 'aeroplane'"),
        ({"classes": ["zebra"]}, "aeroplane, person"),
        ({"classes": "person"}, "left out: {'other class': 1"),
        ({"classes": ["person"]}, "left out: {'other class': 1, 'several objects': 1}"),
        ({"classes": []}, "no image of VOC2007 test is left"),
        ({"rule": "biggest"}, "single, largest"),
        ({"split": "tset"}, "Did you mean 'test'"),
        ({"year": 2012, "split": "val"}, "scalelib fetch voc2012-trainval"),
        ({"root": "nowhere"}, "scalelib fetch voc2007-test"),
    ],
)
def test_errors_say_what_would_work(devkit, options, words):
    add(devkit, "000001", annotation(thing("aeroplane")))
    add(devkit, "000002", annotation(thing("person"), thing("person")))
    with pytest.raises(DataError, match="Received: ") as error:
        load_voc(**{"root": devkit, **options})
    assert words in str(error.value)


@pytest.mark.data
def test_real_annotations_recounted_without_the_loader(voc_root):
    folder = voc_root / "VOCdevkit" / "VOC2007"
    expected: Counter[str] = Counter()
    areas = {}
    for name in (folder / "ImageSets" / "Main" / "test.txt").read_text().split():
        objects = ElementTree.parse(folder / "Annotations" / f"{name}.xml").findall("./object")
        if len(objects) != 1:
            expected["several"] += 1
            continue
        expected[objects[0].find("name").text] += 1
        x0, y0, x1, y1 = (int(objects[0].find(f"bndbox/{side}").text) for side in SIDES)
        with Image.open(folder / "JPEGImages" / f"{name}.jpg") as picture:
            areas[name] = (x1 - x0 + 1) * (y1 - y0 + 1) / (picture.width * picture.height)
    dataset = load_voc(root=voc_root)
    assert dataset.excluded == {"several objects": expected.pop("several")}
    assert dataset.table.object_class.value_counts().to_dict() == expected
    assert dataset.table.set_index("image").area_ratio.to_dict() == pytest.approx(areas)
    assert expected == {"bird": 188, "aeroplane": 129, "car": 268, "dog": 215}, "as the data sheet states"


# --- CUB-200-2011 ----------------------------------------------------------------------------------

SPECIES = ["Laysan_Albatross", "Sooty_Albatross", "Fish_Crow"]


def add_birds(root: Path, **changed: str | None) -> Path:
    """A folder in the official layout with three birds, each list as given where it is; None: not there."""
    folder = root / "CUB_200_2011"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for k in (1, 2, 3):
        Image.new("RGB", (100, 80), (k, 120, 30)).save(folder / "images" / f"bird_{k}.jpg")
    lists = {
        "images": "".join(f"{k} bird_{k}.jpg\n" for k in (1, 2, 3)),
        "image_class_labels": "1 1\n2 2\n3 3\n",
        "bounding_boxes": "1 10.0 20.0 50.0 40.0\n2 0.0 0.0 101.0 80.0\n3 0.0 0.0 10.0 8.0\n",
        "classes": "".join(f"{k} 00{k}.{name}\n" for k, name in enumerate(SPECIES, start=1)),
        **changed,
    }
    for name, text in lists.items():
        if text is not None:
            (folder / f"{name}.txt").write_text(text)
    return root


def test_birds_are_measured_like_voc_and_species_make_one_class_by_their_last_word(tmp_path, devkit):
    dataset = load_dataset("cub", root=add_birds(tmp_path))
    assert dataset.table.object_class.tolist() == SPECIES
    np.testing.assert_allclose(
        dataset.table.area_ratio, [0.25, 1, 0.01]
    )  # the second by a pixel over its edge
    np.testing.assert_allclose(dataset.table.sqrt_area_ratio, [0.5, 1, 0.1])
    assert dataset.table[["box_x0", "box_y0", "box_x1", "box_y1"]].iloc[0].tolist() == [10, 20, 60, 60]
    assert [path.stem for path in dataset.images] == dataset.table.image.tolist()
    add(devkit, "000001", annotation(thing()))
    assert list(dataset.table) == list(load_voc(root=devkit).table)
    albatrosses = load_dataset("cub", root=tmp_path, classes=["albatross"])
    assert albatrosses.table.object_class.tolist() == ["albatross"] * 2
    assert albatrosses.excluded == {"other class": 1}
    assert load_dataset("cub", root=tmp_path, classes="Fish_Crow").table.object_class.tolist() == [
        "Fish_Crow"
    ]
    parts = [{"name": "voc", "root": devkit}, {"name": "cub", "root": tmp_path, "classes": ["albatross"]}]
    both = load_dataset("joined", parts=parts)
    assert both.table.object_class.tolist() == ["bird", "albatross", "albatross"]
    assert [path.stem for path in both.images] == both.table.image.tolist()
    assert (both.name, both.excluded) == ("VOC2007 test and CUB-200-2011", {"CUB-200-2011: other class": 1})


@pytest.mark.parametrize(
    ("changed", "excluded"),
    [
        ({"bounding_boxes": "1 10 20 50 40\n2 0 0 103 80\n3 9 9 -1 5\n"}, {"box outside its image": 2}),
        ({"bounding_boxes": "1 10 20 50 40\n2 0 0 wide 80\n"}, {"no usable annotation": 2}),
        ({"bounding_boxes": "1 10 20 50 40\n8 1 1 5 5\n"}, {"no usable annotation": 3}),
        ({"image_class_labels": "1 1\n2 9\n"}, {"no usable annotation": 2}),
        ({"images": "1 bird_1.jpg\n2 gone.jpg\n3 ../classes.txt\n"}, {"no usable image": 2}),
    ],
)
def test_what_is_wrong_with_a_bird_is_counted(tmp_path, changed, excluded):
    dataset = load_dataset("cub", root=add_birds(tmp_path, **changed))
    assert (dataset.table.image.tolist(), dataset.excluded) == (["bird_1"], excluded)


@pytest.mark.parametrize(
    ("changed", "options", "words"),
    [
        ({"bounding_boxes": None}, {}, r"not there in its official layout[\s\S]*bounding_boxes\.txt"),
        ({"bounding_boxes": ""}, {}, r"no image of CUB-200-2011 is left[\s\S]*'no usable annotation': 3"),
        ({"bounding_boxes": "1 0 0 900 900\n"}, {}, r"no image of CUB-200-2011 is left[\s\S]*'box outside its image': 1"),
        ({}, {"classes": ["albatros"]}, r"no species 'albatros'[\s\S]*Did you mean"),
        ({}, {"classes": []}, r"left out: {'other class': 3}"),
    ],
)  # fmt: skip
def test_a_folder_without_usable_birds_is_refused(tmp_path, changed, options, words):
    with pytest.raises(DataError, match=words):
        load_dataset("cub", root=add_birds(tmp_path, **changed), **options)


@pytest.mark.data
def test_the_albatrosses_recounted_without_the_loader(data_root):
    folder = data_root / "CUB_200_2011"
    if not folder.is_dir():
        pytest.skip("real data wanted: SCALELIB_DATA has no CUB_200_2011")
    boxes, paths = ([line.split() for line in (folder / f"{name}.txt").read_text().splitlines()] for name in ("bounding_boxes", "images"))  # fmt: skip
    ratios = {}
    for (_, _, _, width, height), (_, path) in zip(boxes, paths, strict=True):
        with Image.open(folder / "images" / path) as picture:
            ratios[Path(path).stem] = float(width) * float(height) / (picture.width * picture.height)
    table = load_dataset("cub", classes=["albatross"]).table
    assert len(table) == 178
    assert table.set_index("image").area_ratio.to_dict() == pytest.approx(ratios, rel=0.01)
