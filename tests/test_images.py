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
from scalelib.images import read_image, resize_image


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


@pytest.mark.parametrize(
    ("ending", "options"),
    [
        ("png", {}),
        ("tif", {}),
        ("tif", {"compression": "tiff_lzw"}),
        ("webp", {"lossless": True}),
        ("bmp", {}),
        ("ppm", {}),
    ],
)
def test_lossless_formats_give_their_pixels_exactly(tmp_path, rgb, ending, options):
    path = saved(tmp_path / f"a.{ending}", Image.fromarray(rgb), **options)
    for given in (path, str(path)):
        image = read_image(given)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, rgb)


@pytest.mark.parametrize(("ending", "options"), [("jpg", {"quality": 95}), ("webp", {"quality": 95})])
def test_lossy_formats_come_close(tmp_path, ending, options):
    ramp = np.repeat(np.arange(0, 256, 4, dtype=np.uint8)[None, :, None], 32, 0).repeat(3, 2)
    path = saved(tmp_path / f"a.{ending}", Image.fromarray(ramp), **options)
    assert np.abs(read_image(path).astype(int) - ramp).max() <= 8


def test_the_ending_of_the_name_does_not_matter(tmp_path, rgb):
    (tmp_path / "b.jpg").write_bytes(saved(tmp_path / "a.png", Image.fromarray(rgb)).read_bytes())
    np.testing.assert_array_equal(read_image(tmp_path / "b.jpg"), rgb)


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


def test_grey_with_alpha_and_transparent_palette_entries_turn_white(tmp_path, rgb):
    both = np.stack([rgb[..., 0], np.where(np.arange(30) < 7, 0, 255) + 0 * rgb[..., 0]], -1).astype(np.uint8)
    image = read_image(saved(tmp_path / "la.png", Image.fromarray(both, "LA")))
    assert (image[:, :7] == 255).all()
    np.testing.assert_array_equal(image[:, 7:, 1], rgb[:, 7:, 0])
    picture = Image.fromarray((np.arange(64) % 2).astype(np.uint8).reshape(8, 8), "P")
    picture.putpalette([10, 20, 30, 200, 100, 50])
    solid = read_image(saved(tmp_path / "p.png", picture))
    np.testing.assert_array_equal(solid[0, :2], [[10, 20, 30], [200, 100, 50]])
    seen_through = read_image(saved(tmp_path / "pt.png", picture, transparency=0))
    np.testing.assert_array_equal(seen_through[0, :2], [[255, 255, 255], [200, 100, 50]])
    still = read_image(saved(tmp_path / "p.gif", picture))
    np.testing.assert_array_equal(still, solid)


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
    path = saved(tmp_path / f"d.{ending}", Image.fromarray(deep))
    for given in (path, deep):
        image = read_image(given)
        np.testing.assert_allclose(image[..., 0], deep / 257, atol=1)
        assert len(np.unique(image)) == 256


def test_sixteen_bit_colour_is_scaled_and_not_clipped(tmp_path):
    deep = np.linspace(0, 65535, 16 * 32 * 3).astype(">u2").reshape(16, 32, 3)
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    path = tmp_path / "rgb16.png"
    path.write_bytes(png_file(32, 16, rows, depth=16))
    np.testing.assert_allclose(read_image(path), deep / 257, atol=1)
    np.testing.assert_array_equal(read_image(path), read_image(deep.astype(np.uint16)))


def png_file(width: int, height: int, rows: bytes, *, depth: int = 8) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path, rgb, orientation):
    stored = {  # how a camera stores an upright picture under each tag (EXIF 2.3, table 6)
        1: rgb,
        2: rgb[:, ::-1],
        3: rgb[::-1, ::-1],
        4: rgb[::-1],
        5: rgb.transpose(1, 0, 2),
        6: np.rot90(rgb),
        7: np.rot90(rgb, 2).transpose(1, 0, 2),
        8: np.rot90(rgb, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    np.testing.assert_array_equal(read_image(path), rgb)


def test_arrays_of_every_allowed_form(rgb):
    np.testing.assert_array_equal(read_image(rgb), rgb)
    np.testing.assert_array_equal(read_image(rgb.astype(np.float32) + 0.3), rgb)
    np.testing.assert_array_equal(read_image(rgb[..., 0]), rgb[..., :1].repeat(3, -1))
    np.testing.assert_array_equal(read_image(rgb[..., :1]), rgb[..., :1].repeat(3, -1))
    np.testing.assert_array_equal(read_image(rgb[::-1, ::2]), rgb[::-1, ::2])
    assert read_image(np.zeros((9, 9))).max() == 0


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((8, 8, 3)) * 0.5, "Multiply 0..1 images by 255"),
        (np.full((8, 8, 3), -1.0), "0..255"),
        (np.full((8, 8, 3), 256.0), "0..255"),
        (np.full((8, 8, 3), np.nan), "finite"),
        (np.full((8, 8, 3), np.inf), "finite"),
        (np.ones((8, 8, 3), np.int64), "uint8, uint16 or floating"),
        (np.ones((8, 8), bool), "uint8, uint16 or floating"),
        (np.ones((2, 8, 8, 3), np.uint8), "channels come last"),
        (np.ones((3, 8, 8), np.uint8), "channels come last"),
        (np.ones((1, 1, 3), np.uint8), "pixels a side"),
        (np.ones((0, 8, 3), np.uint8), "pixels a side"),
        (np.ones((8, 30_000, 3), np.uint8), "narrower"),
    ],
)
def test_arrays_that_are_no_image_are_refused(array, words):
    with pytest.raises(DataError, match="Received: an array of shape") as error:
        read_image(array)
    assert words in str(error.value)


def test_other_things_are_refused():
    with pytest.raises(DataError, match="a path or a NumPy array"):
        read_image(12)  # type: ignore[arg-type]


def encoded(rgb: np.ndarray, kind: str) -> bytes:
    noisy = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_truncated_files_are_refused(tmp_path, rgb, kind, share):
    whole = encoded(rgb, kind)
    path = tmp_path / "cut.img"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"cut\.img") as error:
        read_image(path)
    assert str(path) in str(error.value)


def test_a_damaged_png_is_refused(tmp_path, rgb):
    whole = bytearray(encoded(rgb, "PNG"))
    whole[len(whole) // 2] ^= 0xFF
    (tmp_path / "hit.png").write_bytes(whole)
    with pytest.raises(DataError, match=r"hit\.png"):
        read_image(tmp_path / "hit.png")


def test_empty_missing_folder_and_text_files_are_refused(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "vector.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for name, words in (
        ("empty.jpg", "the file is empty"),
        ("text.jpg", "cannot identify"),
        ("vector.eps", "cannot identify"),
        ("missing.jpg", "no such file"),
        (".", "irectory"),
    ):
        with pytest.raises(DataError, match=words):
            read_image(tmp_path / name)


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
def test_animations_and_several_pages_are_refused(tmp_path, rgb, ending):
    frames = [Image.fromarray(rgb), Image.fromarray(255 - rgb)]
    path = saved(tmp_path / f"two.{ending}", frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"several pages \(2\)"):
        read_image(path)


def test_a_cameras_multi_picture_jpeg_gives_its_first_picture(tmp_path):
    dark, bright = (Image.fromarray(np.full((16, 16, 3), level, np.uint8)) for level in (40, 200))
    path = saved(tmp_path / "phone.jpg", dark, format="MPO", save_all=True, append_images=[bright])
    assert Image.open(path).format == "MPO"
    assert abs(read_image(path).mean() - 40) < 2


@pytest.mark.parametrize(("width", "height"), [(1, 1), (30_000, 1), (3, 100), (600, 8)])
def test_degenerate_shapes_are_refused(tmp_path, width, height):
    path = saved(tmp_path / "thin.png", Image.new("RGB", (width, height)))
    with pytest.raises(DataError, match=rf"thin\.png: {width} x {height} pixels"):
        read_image(path)


@pytest.mark.parametrize(("width", "height"), [(9_000, 9_000), (10_000, 12_000), (100_000, 100_000)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs_are_refused_before_decoding(tmp_path, width, height):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_file(width, height, b"\0" * 100))  # a few bytes that claim to be gigabytes
    with pytest.raises(DataError, match=r"bomb\.png: .*(more than|exceeds limit)"):
        read_image(path)


def test_pixels_without_a_stated_range_are_refused(tmp_path):
    path = saved(tmp_path / "float.tif", Image.fromarray(np.ones((9, 9), np.float32)))
    with pytest.raises(DataError, match="mode 'F'"):
        read_image(path)


# Resizing


@pytest.mark.parametrize("policy", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest", "bicubic", "lanczos"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_shape_dtype_and_flat_grey_are_kept(policy, interpolation, antialias, dtype):
    flat = np.full((21, 34, 3), 128, dtype)
    options = {"policy": policy, "interpolation": interpolation, "antialias": antialias}
    for size in ((9, 7), (50, 60), (21, 90), 16):
        out = resize_image(flat, size, **options)
        assert out.shape == ((size, size, 3) if size == 16 else (*size, 3))
        assert out.dtype == dtype
        np.testing.assert_allclose(out, 128, atol=1e-3)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_without_shrinking_antialias_makes_no_difference(rgb, interpolation):
    smooth_part = rgb[6:, 6:]  # Pillow rounds and clips 8-bit pixels after each of its two passes
    for image, tolerance in ((smooth_part, 1), (rgb.astype(np.float32), 2e-3)):
        for policy in ("stretch", "crop"):
            size = (45, 47)
            smooth = resize_image(image, size, interpolation=interpolation, policy=policy)
            points = resize_image(image, size, interpolation=interpolation, policy=policy, antialias=False)
            np.testing.assert_allclose(
                np.clip(smooth, 0, 255), np.clip(points, 0, 255).astype(float), atol=tolerance
            )


def test_point_sampled_bilinear_matches_its_formula():
    image = np.random.default_rng(0).integers(0, 256, (40, 53, 3)).astype(np.float32)
    out = resize_image(image, (11, 7), antialias=False)
    for i, j in np.ndindex(11, 7):
        y, x = (i + 0.5) * 40 / 11 - 0.5, (j + 0.5) * 53 / 7 - 0.5
        top, left = int(y), int(x)
        a, b = y - top, x - left
        corners = image[top : top + 2, left : left + 2].astype(float)
        expected = (1 - a) * ((1 - b) * corners[0, 0] + b * corners[0, 1]) + a * (
            (1 - b) * corners[1, 0] + b * corners[1, 1]
        )
        np.testing.assert_allclose(out[i, j], expected, rtol=1e-6)


def test_point_sampling_folds_fine_stripes_back_and_antialiasing_removes_them():
    x = np.arange(300)
    stripes = (127.5 + 127.5 * np.cos(2 * np.pi * 0.26 * x)).astype(np.float32)  # beyond a quarter cycle
    image = np.broadcast_to(stripes[None, :, None], (300, 300, 3)).copy()
    folded = resize_image(image, (75, 75), antialias=False)
    smooth = resize_image(image, (75, 75), antialias=True)
    assert folded[20, 10:-10, 0].std() > 40
    assert smooth[20, 10:-10, 0].std() < 3


def test_area_is_the_mean_of_the_pixels_it_covers():
    image = np.random.default_rng(1).integers(0, 256, (24, 36, 3), dtype=np.uint8)
    blocks = image.reshape(6, 4, 9, 4, 3).mean((1, 3))
    np.testing.assert_allclose(resize_image(image, (6, 9), interpolation="area"), blocks, atol=1.0)
    exact = resize_image(image.astype(np.float32), (6, 9), interpolation="area")
    np.testing.assert_allclose(exact, blocks, rtol=1e-6)


def test_nearest_takes_the_pixel_under_each_centre():
    image = np.random.default_rng(2).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    rows, columns = ((np.arange(7) + 0.5) * 30 / 7).astype(int), ((np.arange(8) + 0.5) * 50 / 8).astype(int)
    out = resize_image(image, (7, 8), interpolation="nearest")
    np.testing.assert_array_equal(out, image[rows][:, columns])


@pytest.mark.parametrize("antialias", [True, False])
def test_crop_keeps_the_centre_and_pad_keeps_everything(antialias):
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, 20:40] = 200
    crop = resize_image(image, 20, policy="crop", antialias=antialias)
    np.testing.assert_array_equal(crop, 200)
    pad = resize_image(image, 60, policy="pad", antialias=antialias)
    np.testing.assert_array_equal(pad[20:40], image)
    assert (pad[:20] == 128).all()
    assert (pad[40:] == 128).all()
    shrunk = resize_image(image, (30, 30), policy="pad", antialias=antialias)
    assert (shrunk[:10] == 128).all()
    assert (shrunk[14:16, 12:18] == 200).all()


def test_an_image_of_the_wanted_size_is_left_alone(rgb):
    for policy in ("stretch", "crop", "pad"):
        np.testing.assert_array_equal(resize_image(rgb, (20, 30), policy=policy, antialias=False), rgb)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"policy": "streched"}, "Did you mean 'stretch'"),
        ({"interpolation": "bicubi"}, "Did you mean 'bicubic'"),
        ({"interpolation": "area", "antialias": False}, "cannot alias"),
        ({"size": 0}, "positive"),
        ({"size": (8, -1)}, "positive"),
        ({"size": (8, 8, 3)}, "positive"),
        ({"size": 2.5}, "positive"),
        ({"size": 100_000}, "pixels at most"),
    ],
)
def test_bad_resizing_options_are_refused(rgb, options, words):
    with pytest.raises(DataError, match="Received: ") as error:
        resize_image(rgb, **{"size": 8, **options})
    assert words in str(error.value)


def test_resizing_wants_rgb(rgb):
    for bad in (rgb[..., 0], rgb.astype(np.float64), rgb[None]):
        with pytest.raises(DataError, match="is RGB"):
            resize_image(bad, 8)
