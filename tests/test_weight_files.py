"""The table of ImageNet weight files is what Keras itself would ask for."""

from __future__ import annotations

from typing import Any

import keras.src.utils.file_utils as keras_files
import pytest

from scalelib.errors import WeightsError
from scalelib.graph import keras
from scalelib.networks import application_names, imagenet_file

LIGHT = ("InceptionV3", "ResNet50", "VGG16", "Xception")


class AskedFor(Exception):
    """Carries what Keras wanted to download."""


def asked(monkeypatch: pytest.MonkeyPatch, name: str, **options: Any) -> tuple[str, str, str | None]:
    """File name, address and digest that Keras asks for."""

    def note(fname: str, origin: str, *, file_hash: str | None = None, **_: Any) -> None:
        raise AskedFor(fname, origin, file_hash)

    monkeypatch.setattr(keras_files, "get_file", note)
    with pytest.raises(AskedFor) as caught:
        getattr(keras.applications, name)(weights="imagenet", **options)
    return caught.value.args  # type: ignore[return-value]


def check(monkeypatch: pytest.MonkeyPatch, name: str, **options: Any) -> None:
    filename, url, digest = asked(monkeypatch, name, **options)
    shape = options.pop("input_shape", None)
    found = imagenet_file(name, input_size=shape and shape[:2], **options)
    assert (found.filename, found.url) == (filename, url)
    assert found.digest == (digest and f"{'md5' if len(digest) == 32 else 'sha256'}:{digest}")


@pytest.mark.parametrize("name", LIGHT)
def test_files_are_those_that_keras_asks_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for include_top in (True, False):
        check(monkeypatch, name, include_top=include_top)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [name for name in application_names() if name not in LIGHT])
def test_files_of_all_networks_are_those_that_keras_asks_for(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for include_top in (True, False):
        check(monkeypatch, name, include_top=include_top)


@pytest.mark.filterwarnings("ignore:`input_shape` is undefined")
@pytest.mark.parametrize(
    "alpha", [0.25, *(pytest.param(a, marks=pytest.mark.exhaustive) for a in (0.5, 0.75, 1.0))]
)
def test_files_of_mobilenet_depend_on_width_and_size(alpha: float, monkeypatch: pytest.MonkeyPatch) -> None:
    check(monkeypatch, "MobileNet", alpha=alpha)
    for size in (128, 192, 96):
        check(monkeypatch, "MobileNet", alpha=alpha, include_top=False, input_shape=(size, size, 3))


@pytest.mark.filterwarnings("ignore:`input_shape` is undefined")
@pytest.mark.parametrize(
    "alpha", [1.0, *(pytest.param(a, marks=pytest.mark.exhaustive) for a in (0.35, 0.5, 0.75, 1.3, 1.4))]
)
def test_files_of_mobilenet_v2_depend_on_width_and_size(
    alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(monkeypatch, "MobileNetV2", alpha=alpha)
    for size in (96, 192, 100):
        check(monkeypatch, "MobileNetV2", alpha=alpha, include_top=False, input_shape=(size, size, 3))


@pytest.mark.parametrize(
    "name", ["MobileNetV3Small", pytest.param("MobileNetV3Large", marks=pytest.mark.exhaustive)]
)
def test_files_of_mobilenet_v3_depend_on_width_and_kind(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ({"alpha": 0.75}, {"alpha": 1.0}, {"minimalistic": True}):
        check(monkeypatch, name, **options)
        check(monkeypatch, name, include_top=False, **options)


def test_widths_without_published_weights_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"alpha is one of \(0\.35"):
        imagenet_file("MobileNetV2", alpha=0.25)
    with pytest.raises(WeightsError, match=r"no published ImageNet weights for MobileNetV3Small"):
        imagenet_file("MobileNetV3Small", alpha=0.5)


def test_squeezenet_names_its_authors_file() -> None:
    file = imagenet_file("SqueezeNet")
    assert file.filename == "compressed_SqueezeNet.net"
    assert file.url.endswith("SqueezeNet-Deep-Compression/master/compressed_SqueezeNet.net")
    assert file.digest == "md5:9e65b2784de743985f605095d7412130"
