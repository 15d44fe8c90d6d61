"""Readers of files that others write, a small good file for each, and what must hold of whatever they read from a damaged one.

Used by tests/test_hostile.py, and by itself as a campaign: ``python checks/hostile.py 10000 checks/hostile.csv`` mutates the good files at random,
each in a process of its own with bounded time and memory, and counts how they end.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from scalelib.errors import ScalelibError

SECONDS, BYTES = 20, 2 * 10**9
# Where, as a share of the content; how many bytes go; what comes in their stead.
Edit = tuple[float, int, bytes]
# What parsers stumble over, beside random bytes.
TOKENS = [
    b"", b"\0", b"\xff", b"\xfe\xff", b"nan", b"NaN", b"inf", b"-1e999", b"1e400", b"1_0", b"null", b"true", b"[[]]", b"{}", b"[" * 5000,
    b"9" * 5000, b"\"", b"'", b",", b";", b"\n", b"\t", b": ", b"- ", b"&a [", b"*a", b"<<: ", b"!!python/object/apply:os.system [x]", b"=",
    b"2024-99-99", b"../../x.csv", b"a/b.csv", b"x" * 300, b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"encoding='none'", b"<a>", b"</a>",
    "é".encode("utf-16"), struct.pack("<i", -1), struct.pack("<i", 2**31 - 1), struct.pack("<q", 2**62), b"PK\x05\x06",
]  # fmt: skip


def edited(content: bytes, edits: Iterable[Edit]) -> bytes:
    """The content after some edits."""
    for where, gone, new in edits:
        start = int(where * len(content))
        content = content[:start] + new + content[start + gone :]
    return content


def random_edits(rng: random.Random) -> list[Edit]:
    """Bits, bytes, tokens and stretches, a few at a time."""
    kinds: list[Callable[[], Edit]] = [
        lambda: (rng.random(), 1, rng.randbytes(1)),
        lambda: (rng.random(), rng.choice((0, 1, 4)), rng.choice(TOKENS)),
        lambda: (rng.random(), rng.randrange(64), b""),
        lambda: (rng.random(), 10**9, b""),
        lambda: (rng.random(), 0, rng.randbytes(rng.randrange(1, 64))),
    ]
    weights = (4, 6, 2, 1, 1)
    return [rng.choices(kinds, weights)[0]() for _ in range(rng.choice((1, 1, 1, 2, 3)))]


class Reader(NamedTuple):
    """A good file, and a function that reads a file in its stead and asserts what must hold of what it got."""

    name: str
    good: bytes
    read: Callable[[Path], object]
    keras: bool = False


def finite(*values: Any) -> None:
    assert all(np.isfinite(np.asarray(value, np.float64)).all() for value in values)


# measures and annotations


def picture(kind: str, mode: str = "RGB", side: int = 16) -> bytes:
    rng, stream = np.random.default_rng(0), io.BytesIO()
    pixels = rng.integers(0, 256, (side, side, 4), np.uint8)
    image = Image.fromarray(pixels[..., :3]) if mode == "RGB" else Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    image.save(stream, kind)
    return stream.getvalue()


def read_measures_strictly(path: Path) -> None:
    """Every measure read is the number that stands in its row, as the csv module splits it."""
    from scalelib.datasets.own import read_measures

    for name in "abc":
        (path.parent / f"{name}.png").write_bytes(picture("png"))
    dataset, left_out = read_measures(path.parent, path, "file", "size")
    text = path.read_text("utf-8-sig")
    separator = max(",;\t", key=text.partition("\n")[0].count)
    header, *rows = [row for row in csv.reader(io.StringIO(text), delimiter=separator) if any(row)]
    where = header.index("file"), header.index("size")
    assert all(len(row) <= len(header) for row in rows)
    said = {tuple(row[i].strip() if i < len(row) else "" for i in where) for row in rows}
    for image, measure in zip(dataset.table.image, dataset.table.measure, strict=True):
        assert any(
            name == image and "_" not in text and float(text) == measure
            for name, text in said
            if is_number(text)
        )
    finite(dataset.table.measure)
    assert len(dataset.table) + len(left_out) == len(rows)


def is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def read_card(path: Path) -> None:
    from scalelib.results import read_results

    path.with_name("r2.csv").write_bytes(b"tap,r2_test\na,0.5\n")
    (path.parent.parent / "x.csv").write_bytes(b"outside")
    path.replace(path.with_name("card.json"))
    found = read_results(path.parent)
    assert all(Path(name).name == name for name in found.card.data["tables"])
    for name in found.card.data["tables"]:
        assert found.table(name).r2_test.tolist() == [0.5]
    assert isinstance(repr(found.card), str)


def read_profile(path: Path) -> None:
    from scalebook.profiles import load_profile

    profile = load_profile(path.replace(path.with_name("mine.yaml")))
    assert all(
        isinstance(block, dict) for block in (profile.needs, profile.notebooks, *profile.notebooks.values())
    )
    assert len(repr(profile)) < 10**6


def read_records(path: Path) -> None:
    from scalelib.datasets import sources

    path.replace(path.with_name(sources.DIGESTS))
    assert isinstance(sources.read_records(path.parent), dict)


def read_outlined(path: Path) -> None:
    from scalelib.slides.nuclei import areas_in_patch, read_outlines

    found = read_outlines(path)
    finite(found.areas, found.boxes)
    assert (found.areas > 0).all()
    finite(areas_in_patch(found, 0, 0, 64, factor=1.0, border="clip"))


def read_voc(path: Path) -> None:
    """The damaged annotation, or list of images, costs its own image at most."""
    from scalelib.datasets.voc import load_voc

    folder = path.parent / "VOCdevkit" / "VOC2007"
    for part in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    names = b"a\nb\n" if path.suffix == ".xml" else path.read_bytes()
    (folder / "ImageSets" / "Main" / "test.txt").write_bytes(names)
    for name in "ab":
        (folder / "JPEGImages" / f"{name}.jpg").write_bytes(picture("jpeg"))
        (folder / "Annotations" / f"{name}.xml").write_bytes(VOC)
    if path.suffix == ".xml":
        (folder / "Annotations" / "b.xml").write_bytes(path.read_bytes())
    table = load_voc(root=path.parent).table
    assert path.suffix != ".xml" or "a" in set(table.image)
    assert ((table.area_ratio > 0) & (table.area_ratio <= 1)).all()


def read_figure(path: Path) -> None:
    from scalelib.images import read_image

    pixels = read_image(path)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3


def read_slide(path: Path) -> None:
    from scalelib.slides.slide import open_slide, stated_scale

    str(stated_scale(path))
    with open_slide(path, power=40.0) as slide:
        assert slide.overview().dtype == np.uint8


# arrays


def read_rcv(path: Path) -> None:
    from scalelib.concepts import RCV

    rcv = RCV.load(path)
    finite(rcv.predict(np.ones((2, len(rcv.direction)))), rcv.direction)
    assert isinstance(rcv.tap, str)


def read_estimator(path: Path) -> None:
    from scalelib.slides.magnification import load_estimator

    found = load_estimator(path)
    seen = found.estimate(np.ones((3, len(found.centre))))
    assert seen.refused or seen.low <= seen.magnification <= seen.high


def read_part(path: Path) -> None:
    """A damaged part of the cache gives nothing; what it gives is what was stored."""
    import warnings

    from scalelib.activations import _read_part

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = _read_part(path)
    found.pop("arr_0", None)
    assert all(np.array_equal(array, np.ones((2, 3), np.float32)) for array in found.values())


def read_state(path: Path) -> None:
    sys.path.append(str(Path(__file__).parents[1] / "notebooks"))
    from studies.training import _read

    history, arrays = _read(path, "a run", {"run": "a"})
    assert all(isinstance(row, dict) for row in history)
    assert all(np.array_equal(array, np.ones(3, np.float32)) for array in arrays)


def read_weights(path: Path) -> None:
    from scalelib.networks import load_network

    finite(*load_network(tiny(), weights=path).model.get_weights())


def read_model(path: Path) -> None:
    from scalelib.networks import load_network

    net = load_network(path)
    finite(*net.model.get_weights())


@cache
def tiny() -> Any:
    from scalelib.graph import keras

    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3, name="one")(image))
    return keras.Model(image, layers.Dense(2, name="two")(x))


def archive(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def saved(suffix: str, save: Callable[[str], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        save(f"{folder}/good{suffix}")
        return Path(f"{folder}/good{suffix}").read_bytes()


VOC = (
    b"<annotation><size><width>16</width><height>16</height></size><object><name>bird</name><truncated>0</truncated><bndbox>"
    b"<xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>12</ymax></bndbox></object></annotation>"
)
APERIO = (
    b'<?xml version="1.0" encoding="utf-8"?><Annotations MicronsPerPixel="0.25"><Annotation><Regions>'
    + b'<Region Type="0"><Vertices>%s</Vertices></Region>'
    * 2
    % ((b'<Vertex X="1.5" Y="2"/><Vertex X="9" Y="2"/><Vertex X="9" Y="11.25"/>',) * 2)
    + b"</Regions></Annotation></Annotations>"
)
RING = [[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]
GEOJSON = {
    "type": "FeatureCollection",
    "features": [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [RING]}, "properties": {}},
        {
            "type": "Feature",
            "geometry": {"type": "MultiPolygon", "coordinates": [[RING], [RING]]},
            "properties": {},
        },
    ],
}
PROFILE = b"""description: Mine.
needs: {datasets: [voc2007-test], weights: [{name: MobileNet, alpha: 0.25}]}
notebooks:
  04_x: {repeats: 20, rate: 1.0e-4, taps: [a, b]}
  01_y:
"""
RECORD = b'{"voc2007-test": {"date": "2026-01-01", "sha256": "00", "url": "https://example.org"}}'


def readers(*, keras: bool = True) -> dict[str, Reader]:
    """All of them by name, or those that need no Keras."""
    from scalelib.concepts import RCV
    from scalelib.results import Run

    with tempfile.TemporaryDirectory() as folder:
        Run("quantify", "own data", {"repeats": 2}, folder).write(
            {"r2": pd.DataFrame({"tap": ["a"], "r2_test": [0.5]})}
        )
        card = (Path(folder) / "card.json").read_bytes()
    rcv = RCV(np.array([0.6, 0.8]), 1.0, 2.0, r2=0.9, angle=5.0, tap="mixed8", alpha=10.0)
    found = [
        Reader("measures.csv", b"file,size,kind\na.png,1.5,x\nb,2,y\nc.png,-3e2,z\n", read_measures_strictly),
        Reader("card.json", card, read_card),
        Reader("profile.yaml", PROFILE, read_profile),
        Reader("records.json", RECORD, read_records),
        Reader("outlines.xml", APERIO, read_outlined),
        Reader("outlines.geojson", json.dumps(GEOJSON).encode(), read_outlined),
        Reader("voc.xml", VOC, read_voc),
        Reader("voc.txt", b"a\nb\n", read_voc),
        Reader("rcv.npz", saved(".npz", rcv.save), read_rcv),
        Reader("figure.png", picture("png"), read_figure),
        Reader("figure16.png", picture("png", "I;16"), read_figure),
        Reader("figure.tif", picture("tiff", "RGBA"), read_figure),
        Reader("figure.jpg", picture("jpeg"), read_figure),
        Reader("figure.gif", picture("gif"), read_figure),
        Reader("figure.webp", picture("webp"), read_figure),
        Reader("figure.bmp", picture("bmp"), read_figure),
        Reader("slide.tif", slide(), read_slide),
        Reader("slide.png", picture("png", "RGBA"), read_slide),
    ]  # fmt: skip
    if keras:
        found += keras_readers()
    return {reader.name: reader for reader in found}


def slide() -> bytes:
    import tifffile

    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    tifffile.imwrite(stream, pixels, tile=(32, 32), photometric="rgb", metadata=None)
    return stream.getvalue()


def keras_readers() -> list[Reader]:
    from scalelib.slides.magnification import fit_magnification

    table = pd.DataFrame(
        {
            "split": ["train", "validation"] * 10,
            "slide": range(20),
            "magnification": [5.0, 5, 10, 10, 20, 20, 40, 40, 5, 5] * 2,
        }
    )
    values = np.log2(table.magnification.to_numpy())[:, None] + np.random.default_rng(0).normal(
        0, 0.1, (20, 4)
    )
    estimator = fit_magnification(values, table, patch_size=8, network={"name": "MobileNet", "tap": "x"})
    state = archive(
        meta=json.dumps({"identity": {"run": "a"}, "history": [{"epoch": 1, "loss": 0.5}]}),
        a=np.ones(3, np.float32),
    )
    part = archive(arr_0=np.zeros((2, 32), np.uint8), first=np.ones((2, 3), np.float32))
    return [
        Reader("estimator.npz", saved(".npz", estimator.save), read_estimator, keras=True),
        Reader("part.npz", part, read_part, keras=True),
        Reader("state.npz", state, read_state, keras=True),
        Reader("tiny.weights.h5", saved(".weights.h5", tiny().save_weights), read_weights, keras=True),
        Reader("tiny.keras", saved(".keras", tiny().save), read_model, keras=True),
    ]


# the campaign


def judged(reader: Reader, content: bytes) -> str:
    """How reading ends: ``read``, ``refused``, or what is wrong with that."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in" / reader.name
        path.parent.mkdir()
        path.write_bytes(content)
        try:
            reader.read(path)
        except ScalelibError as error:
            return "refused" if len(str(error)) < 10_000 else "message too long"
        except AssertionError:
            return "silently wrong"
        except Exception as error:
            return f"outside the family: {type(error).__name__}"
    return "read"


def in_a_process(reader: Reader, content: bytes) -> str:
    """The same in a process of its own, which is ended after `SECONDS`."""
    end, other = os.pipe()
    child = os.fork()
    if not child:
        sys.stderr = io.StringIO()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.alarm(SECONDS)
        if (status := Path("/proc/self/statm")).is_file():
            most = int(status.read_text().split()[0]) * resource.getpagesize() + 2 * BYTES
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = judged(reader, content)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        os.write(other, (f"over {BYTES} bytes" if grown > BYTES else found).encode())
        os._exit(0)
    os.close(other)
    with os.fdopen(end, "rb") as stream:
        said = stream.read().decode()
    _, status = os.waitpid(child, 0)
    return said or f"ended by signal {os.WTERMSIG(status)}"


def campaign(inputs: int, out: Path, *, names: str = "", seed: int = 0) -> int:
    """Mutate, read, count; write a line for each reader and keep what ended badly beside it."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    if names != "light":
        importlib.import_module("scalelib.slides.magnification")  # once, before processes are forked
    with get_context("spawn").Pool(1) as pool:  # elsewhere: threads that fitting starts survive no fork
        made = pool.apply(readers, kwds={"keras": names != "light"})
    chosen = [made[name] for name in made if names in ("", "light") or name in names.split(",")]
    rows, rng, bad = [], random.Random(seed), 0
    for reader in chosen:
        if not reader.keras:
            judged(reader, reader.good)  # what it imports is then there in every fork
        assert in_a_process(reader, reader.good) == "read", reader.name
        counts: Counter[str] = Counter()
        slowest = 0.0
        for i in range(inputs // len(chosen) + 1):
            content, started = edited(reader.good, random_edits(rng)), time.monotonic()
            found = in_a_process(reader, content)
            slowest = max(slowest, time.monotonic() - started)
            counts[found] += 1
            if found not in ("read", "refused"):
                bad += 1
                out.parent.joinpath(
                    f"{found[:60].replace(' ', '-').replace(':', '')}-{i}-{reader.name}"
                ).write_bytes(content)
        row = {
            "date": date.today(),
            "commit": commit,
            "reader": reader.name,
            "inputs": counts.total(),
            "read": counts["read"],
        }
        rows.append(
            row
            | {
                "refused": counts["refused"],
                "bad": counts.total() - counts["read"] - counts["refused"],
                "slowest_s": round(slowest, 1),
            }
        )
        print(
            *rows[-1].values(),
            {name: n for name, n in counts.items() if name not in ("read", "refused")} or "",
            flush=True,
        )
    pd.DataFrame(rows).to_csv(out, index=False, mode="a", header=not out.exists())
    return bad


if __name__ == "__main__":
    sys.exit(
        bool(campaign(int(sys.argv[1]), Path(sys.argv[2]), names=sys.argv[3] if len(sys.argv) > 3 else ""))
    )
