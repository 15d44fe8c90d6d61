"""Whatever the bytes: a right answer, or an error of our family, soon and without much memory."""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path

import pytest
from hostile import SECONDS, TOKENS, Edit, edited, judged, readers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalelib.errors import LINES, WIDTH, ScalelibError, WeightsError

# The same examples each time and a bounded number of them, so that a test run is a test run; the nightly one looks further.
often = int(os.environ.get("SCALELIB_HYPOTHESIS", "0"))
how = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("ci", settings(derandomize=True, max_examples=30, **how))
settings.register_profile("nightly", settings(max_examples=max(often, 1), **how))
settings.load_profile("nightly" if often else "ci")

READERS = readers()


def edits() -> st.SearchStrategy[list[Edit]]:
    new = st.sampled_from(TOKENS) | st.binary(max_size=32)
    gone = st.sampled_from((0, 1, 4, 64, 10**9))
    return st.lists(st.tuples(st.floats(0, 1), gone, new), min_size=1, max_size=3)


@pytest.mark.parametrize("name", READERS)
def test_a_good_file_is_read(name: str) -> None:
    assert judged(READERS[name], READERS[name].good) == "read"


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_a_damaged_file_is_read_rightly_or_refused(name: str, data: st.DataObject) -> None:
    content = edited(READERS[name].good, data.draw(edits()))
    started = time.monotonic()
    assert judged(READERS[name], content) in ("read", "refused")
    assert time.monotonic() - started < SECONDS


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6
)  # fmt: skip
STRUCTURED = ["card.json", "records.json", "outlines.geojson", "profile.yaml"]


@pytest.mark.parametrize("name", STRUCTURED)
@given(data=st.data())
def test_values_of_another_kind_in_the_right_place_are_refused_too(name: str, data: st.DataObject) -> None:
    import json

    import yaml

    content = yaml.safe_load(READERS[name].good)
    place = content
    while True:  # walk to somewhere in it, and put something else there
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(anything)
            break
        place = place[key]
    text = yaml.safe_dump(content) if name.endswith("yaml") else json.dumps(content)
    assert judged(READERS[name], text.encode()) in ("read", "refused")


BOMBS = {
    "profile.yaml": "needs: &a [1]\nnotebooks: {x: {" + ", ".join(f"k{i}: &b{i} [*a, *a]" for i in range(20)) + "}}",
    "card.json": "[" * 10**6,
    "outlines.geojson": '{"type": "Polygon", "coordinates": [[' + ",".join(f"[{i % 7919},{i * i % 7907}]" for i in range(20_000)) + "]]}",
    "measures.csv": "file,size\n" + "a.png," + "9" * 10**6,
    "outlines.xml": '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">' + "".join(f'<!ENTITY a{i} "{"&a;" * 10}">' for i in range(9)) + "]><Annotations>&a9;</Annotations>",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_takes_little_memory_and_makes_no_long_message(name: str) -> None:
    tracemalloc.start()
    assert judged(READERS[name], BOMBS[name].encode()) in ("read", "refused")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400e6


def test_no_message_is_longer_than_can_be_read() -> None:
    assert len(str(ScalelibError("x" * 10**7))) < 2 * WIDTH
    assert len(str(ScalelibError("x\n" * 10**6))) <= 2 * LINES


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_in_a_model_is_refused(tmp_path: Path, suffix: str) -> None:
    from scalelib.graph import keras
    from scalelib.networks import load_network

    image = keras.Input((8, 8, 3))
    doubled = keras.layers.Lambda(lambda x: x * 2, output_shape=(8, 8, 3))(image)
    keras.Model(image, keras.layers.Conv2D(2, 3)(doubled)).save(tmp_path / f"code{suffix}")
    with pytest.raises(WeightsError, match="Lambda"):
        load_network(tmp_path / f"code{suffix}")
