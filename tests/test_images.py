"""Reading pictures of every kind, refusing what is none, and resizing against independent computations."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scalelib.errors import DataError
from scalelib.images import check_resizing, read_image, resize_image


@pytest.fixture
def rgb() -> np.ndarray:
    """Smooth colours with one sharp corner, 20 high and 30 wide."""
    y, x = np.mgrid[:20, :30]
    image = np.stack([x * 8, y * 12, (x + y) * 5], axis=-1).astype(np.uint8)
    image[:5, :5] = 250
    return image


def saved(path: Path, picture: Image.Image, **options) -> Path:
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp", "a.bmp", "a.ppm", "png_inside.jpg"])
def test_lossless_formats_give_their_pixels_exactly(tmp_path, rgb, name):
    options = {"lossless": True} if name == "a.webp" else {"format": "PNG"} if name.endswith("jpg") else {}
    path = saved(tmp_path / name, Image.fromarray(rgb), **options)
    for given in (path, str(path)):
        image = read_image(given)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, rgb)


def test_grey_and_bilevel_are_repeated_over_three_channels(tmp_path, rgb):
    grey = saved(tmp_path / "g.png", Image.fromarray(rgb[..., 0]))
    np.testing.assert_array_equal(read_image(grey), rgb[..., :1].repeat(3, -1))
    bits = rgb[..., 0] > 100
    bilevel = saved(tmp_path / "b.png", Image.fromarray(bits))
    np.testing.assert_array_equal(read_image(bilevel), np.where(bits, 255, 0)[..., None].repeat(3, -1))


@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_transparency_is_composited_over_white(tmp_path, rgb, ending):
    alpha = np.full((20, 30, 1), 255, np.uint8)
    alpha[:, :10], alpha[:, 10:20] = 0, 51  # 51 = a fifth
    options = {"lossless": True, "exact": True} if ending == "webp" else {}
    path = saved(tmp_path / f"a.{ending}", Image.fromarray(np.concatenate([rgb, alpha], -1)), **options)
    expected = rgb * (alpha / 255) + 255 * (1 - alpha / 255)
    for given in (path, np.concatenate([rgb, alpha], -1)):
        np.testing.assert_allclose(read_image(given), expected, atol=1)


def test_transparent_palette_entries_turn_white(tmp_path):
    picture = Image.fromarray((np.arange(64) % 2).astype(np.uint8).reshape(8, 8), "P")
    picture.putpalette([10, 20, 30, 200, 100, 50])
    for name, options, first in (("p.png", {}, [10, 20, 30]), ("t.png", {"transparency": 0}, [255] * 3)):
        seen = read_image(saved(tmp_path / name, picture, **options))
        np.testing.assert_array_equal(seen[0, :2], [first, [200, 100, 50]])


def test_cmyk_is_not_inverted(tmp_path):
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[:, :8, 0] = 255  # cyan beside white paper
    for ending, tolerance in (("tif", 0), ("jpg", 6)):
        image = read_image(saved(tmp_path / f"c.{ending}", Image.fromarray(ink, "CMYK")))
        np.testing.assert_allclose(image[8, 2], [0, 255, 255], atol=tolerance)
        np.testing.assert_allclose(image[8, 13], [255, 255, 255], atol=tolerance)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path, ending):
    deep = np.linspace(0, 65535, 16 * 32).astype(np.uint16).reshape(16, 32)
    for given in (saved(tmp_path / f"d.{ending}", Image.fromarray(deep)), deep):
        image = read_image(given)
        np.testing.assert_allclose(image[..., 0], deep / 257, atol=1)
        assert len(np.unique(image)) == 256


def test_sixteen_bit_colour_is_scaled_and_not_clipped(tmp_path):
    deep = np.linspace(0, 65535, 16 * 32 * 3).astype(">u2").reshape(16, 32, 3)
    path = tmp_path / "rgb16.png"
    path.write_bytes(png_file(32, 16, b"".join(b"\0" + row.tobytes() for row in deep), depth=16))
    for given in (path, deep.astype(np.uint16)):
        np.testing.assert_allclose(read_image(given), deep / 257, atol=1)


def png_file(width: int, height: int, rows: bytes, *, depth: int = 8) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path, rgb, orientation):
    stored = {  # how a camera stores an upright picture under each tag (EXIF 2.3, table 6)
        1: rgb, 2: rgb[:, ::-1], 3: rgb[::-1, ::-1], 4: rgb[::-1], 5: rgb.transpose(1, 0, 2), 6: np.rot90(rgb),
        7: np.rot90(rgb, 2).transpose(1, 0, 2), 8: np.rot90(rgb, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "turned.png", Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    np.testing.assert_array_equal(read_image(path), rgb)


def test_arrays_of_every_allowed_form(rgb):
    np.testing.assert_array_equal(read_image(rgb), rgb)
    np.testing.assert_array_equal(read_image(rgb.astype(np.float32) + 0.3), rgb)
    np.testing.assert_array_equal(read_image(rgb[..., 0]), rgb[..., :1].repeat(3, -1))
    np.testing.assert_array_equal(read_image(rgb[..., :1]), rgb[..., :1].repeat(3, -1))
    np.testing.assert_array_equal(read_image(rgb[::-1, ::2]), rgb[::-1, ::2])
    assert read_image(np.zeros((9, 9))).max() == 0


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.ones((8, 8, 3)) * 0.5, "Multiply 0..1 images by 255"),
        (np.full((8, 8, 3), -1.0), "0..255"),
        (np.full((8, 8, 3), 256.0), "0..255"),
        (np.full((8, 8, 3), np.nan), "finite"),
        (np.full((8, 8, 3), np.inf), "finite"),
        (np.ones((8, 8, 3), np.int64), "uint8, uint16 or floating"),
        (np.ones((8, 8), bool), "uint8, uint16 or floating"),
        (np.ones((2, 8, 8, 3), np.uint8), "Channels come last"),
        (np.ones((3, 8, 8), np.uint8), "Channels come last"),
        (np.ones((1, 1, 3), np.uint8), "pixels a side"),
        (np.ones((0, 8, 3)), "pixels a side"),
        (np.ones((8, 30_000, 3), np.uint8), "narrower"),
        (12, "a path or a NumPy array"),
    ],
)
def test_what_is_no_image_is_refused(image, words):
    with pytest.raises(DataError, match="Received: ") as error:
        read_image(image)
    assert words in str(error.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_truncated_and_damaged_files_are_refused(tmp_path, kind):
    noisy = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, kind)
    whole = buffer.getvalue()
    hit = bytearray(whole)
    hit[len(whole) // 2] ^= 0xFF
    path = tmp_path / "cut.img"
    for content in [whole[: int(len(whole) * share)] for share in (0.02, 0.5, 0.95)] + [hit] * (
        kind == "PNG"
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cut\.img") as error:
            read_image(path)
        assert str(path) in str(error.value)


def test_files_that_are_no_still_picture_are_refused(tmp_path, rgb):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "vector.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    saved(tmp_path / "float.tif", Image.fromarray(np.ones((9, 9), np.float32)))
    saved(tmp_path / "thin.png", Image.new("RGB", (600, 8)))
    saved(tmp_path / "small.png", Image.new("RGB", (3, 100)))
    (tmp_path / "bomb.png").write_bytes(png_file(9_000, 9_000, b"\0" * 100))  # claims to be gigabytes
    for ending in ("gif", "webp", "png", "tif"):
        frames = [Image.fromarray(rgb), Image.fromarray(255 - rgb)]
        saved(tmp_path / f"two.{ending}", frames[0], save_all=True, append_images=frames[1:])
    for name, words in {
        "empty.jpg": "the file is empty",
        "text.jpg": "cannot identify",
        "vector.eps": "cannot identify",
        "missing.jpg": "no such file",
        ".": "irectory",
        "float.tif": "mode 'F'",
        "thin.png": "600 x 8 pixels",
        "small.png": "3 x 100 pixels",
        "bomb.png": "more than",
        **{f"two.{ending}": r"several pages \(2\)" for ending in ("gif", "webp", "png", "tif")},
    }.items():
        with pytest.raises(DataError, match=words):
            read_image(tmp_path / name)


def test_a_cameras_multi_picture_jpeg_gives_its_first_picture(tmp_path):
    dark, bright = (Image.fromarray(np.full((16, 16, 3), level, np.uint8)) for level in (40, 200))
    path = saved(tmp_path / "phone.jpg", dark, format="MPO", save_all=True, append_images=[bright])
    assert Image.open(path).format == "MPO"
    assert abs(read_image(path).mean() - 40) < 2


# Resizing


@pytest.mark.parametrize("policy", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest", "bicubic", "lanczos", "area", "points"])
def test_shape_and_flat_grey_are_kept(policy, interpolation):
    flat = np.full((21, 34, 3), 128, np.uint8)
    options = {"interpolation": interpolation} if interpolation != "points" else {"antialias": False}
    for size in ((9, 7), (50, 60), (21, 90), 16, (21, 34)):
        out = resize_image(flat, size, policy=policy, **options)
        assert out.shape == ((size, size, 3) if size == 16 else (*size, 3))
        assert out.dtype == np.uint8
        np.testing.assert_array_equal(out, 128)


def test_point_sampled_bilinear_matches_its_formula():
    image = np.random.default_rng(0).integers(0, 256, (40, 53, 3), dtype=np.uint8)
    out = resize_image(image, (11, 7), antialias=False)
    for i, j in np.ndindex(11, 7):
        y, x = (i + 0.5) * 40 / 11 - 0.5, (j + 0.5) * 53 / 7 - 0.5
        top, left = int(y), int(x)
        a, b = y - top, x - left
        corners = image[top : top + 2, left : left + 2].astype(float)
        above, below = ((1 - b) * row[0] + b * row[1] for row in corners)
        np.testing.assert_allclose(out[i, j], (1 - a) * above + a * below, atol=0.5 + 1e-9)


def test_point_sampling_folds_fine_stripes_back_and_antialiasing_removes_them():
    stripes = 127.5 + 127.5 * np.cos(2 * np.pi * 0.26 * np.arange(300))  # beyond a quarter cycle a pixel
    image = np.broadcast_to(stripes[None, :, None], (300, 300, 3)).astype(np.uint8)
    folded, smooth = (resize_image(image, (75, 75), antialias=on) for on in (False, True))
    assert folded[20, 10:-10, 0].std() > 40
    assert smooth[20, 10:-10, 0].std() < 3


@pytest.mark.parametrize("antialias", [True, False])
def test_crop_keeps_the_centre_and_pad_keeps_everything(antialias):
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, 20:40] = 200
    np.testing.assert_array_equal(resize_image(image, 20, policy="crop", antialias=antialias), 200)
    pad = resize_image(image, 60, policy="pad", antialias=antialias)
    np.testing.assert_array_equal(pad[20:40], image)
    assert (np.delete(pad, range(20, 40), axis=0) == 128).all()
    shrunk = resize_image(image, (30, 30), policy="pad", antialias=antialias)
    assert (shrunk[:10] == 128).all()
    assert (shrunk[14:16, 12:18] == 200).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("streched", "bilinear", True), "Did you mean 'stretch'"),
        (("stretch", "bicubi", True), "Did you mean 'bicubic'"),
        (("stretch", "area", False), "always anti-aliased"),
        (("stretch", "lanczos", False), "always anti-aliased"),
    ],
)
def test_bad_resizing_options_are_refused(options, words):
    with pytest.raises(DataError, match="Received: ") as error:
        check_resizing(*options)
    assert words in str(error.value)
