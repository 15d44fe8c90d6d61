"""Reading pictures of every kind, refusing what is none, and resizing against independent computations."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from scalelib.errors import DataError
from scalelib.images import check_resizing, read_image, resize_image

Y, X = np.mgrid[:20, :30]
RGB = np.stack([X * 8, Y * 12, (X + Y) * 5], axis=-1).astype(np.uint8)
GREY = RGB[..., :1]
DEEP = np.linspace(0, 65535, RGB.size).astype(np.uint16).reshape(RGB.shape)
ALPHA = np.where(X < 10, 0, np.where(X < 20, 51, 255))[..., None].astype(np.uint8)  # 51 = a fifth
RGBA, OVER_WHITE = np.concatenate([RGB, ALPHA], -1), RGB * (ALPHA / 255) + 255 * (1 - ALPHA / 255)
CYAN = Image.new("CMYK", (30, 20), (255, 0, 0, 0))
PALETTE = Image.fromarray((X % 2).astype(np.uint8), "P")
PALETTE.putpalette([10, 20, 30, 200, 100, 50])
TURNED = Image.Exif()
TURNED[0x0112] = 6  # the camera was held upright


def other_pages() -> dict[str, object]:
    return {"save_all": True, "append_images": [Image.fromarray(255 - RGB)]}


FILES = {
    **{f"colours.{ending}": (Image.fromarray(RGB), {}, RGB, 0) for ending in ("png", "tif", "bmp", "ppm")},
    "colours.webp": (Image.fromarray(RGB), {"lossless": True}, RGB, 0),
    "png_inside.jpg": (Image.fromarray(RGB), {"format": "PNG"}, RGB, 0),
    "grey.png": (Image.fromarray(RGB[..., 0]), {}, GREY, 0),
    "bits.png": (Image.fromarray(RGB[..., 0] > 100), {}, 255 * (GREY > 100), 0),
    "alpha.png": (Image.fromarray(RGBA), {}, OVER_WHITE, 1),
    "alpha.tif": (Image.fromarray(RGBA), {}, OVER_WHITE, 1),
    "alpha.webp": (Image.fromarray(RGBA), {"lossless": True, "exact": True}, OVER_WHITE, 1),
    "palette.png": (PALETTE, {}, np.array([[10, 20, 30], [200, 100, 50]])[X % 2], 0),
    "clear_palette.png": (PALETTE, {"transparency": 0}, np.array([[255] * 3, [200, 100, 50]])[X % 2], 0),
    "ink.tif": (CYAN, {}, [0, 255, 255], 0),
    "ink.jpg": (CYAN, {}, [0, 255, 255], 6),  # not inverted
    "deep.png": (Image.fromarray(DEEP[..., 0]), {}, DEEP[..., :1] / 257, 1),  # scaled, not clipped
    "deep.tif": (Image.fromarray(DEEP[..., 0]), {}, DEEP[..., :1] / 257, 1),
    "deep_colours.tif": (DEEP, {}, DEEP / 257, 1),
    "turned.png": (Image.fromarray(np.rot90(RGB)), {"exif": TURNED}, RGB, 0),
    "phone.jpg": (Image.new("RGB", (30, 20), (9, 9, 9)), {"format": "MPO", **other_pages()}, [9, 9, 9], 2),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_give_their_upright_colours_on_white(tmp_path, name):
    picture, options, expected, tolerance = FILES[name]
    path = tmp_path / name
    if isinstance(picture, Image.Image):
        picture.save(path, **options)
    else:
        pytest.importorskip("tifffile").imwrite(path, picture)
    for given in (path, str(path)):
        image = read_image(given)
        assert (image.dtype, image.shape) == (np.uint8, RGB.shape)
        np.testing.assert_allclose(image.astype(float) - expected, 0, atol=tolerance)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (RGB, RGB),
        (RGB.astype(np.float32) + 0.3, RGB),
        (RGB[..., 0], GREY.repeat(3, -1)),
        (GREY, GREY.repeat(3, -1)),
        (RGB[::-1, ::2], RGB[::-1, ::2]),
        (RGBA, OVER_WHITE),
        (DEEP, DEEP / 257),
        (np.zeros((9, 9)), np.zeros((9, 9, 3))),
    ],
)
def test_arrays_of_every_allowed_form(array, expected):
    exact = np.asarray(expected).dtype == np.uint8
    np.testing.assert_allclose(read_image(array).astype(float), expected, rtol=0, atol=0 if exact else 1)


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
    with pytest.raises(DataError, match=rf"{words}[\s\S]*Received: |Received: [\s\S]*{words}"):
        read_image(image)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_truncated_and_damaged_files_are_refused(tmp_path, kind):
    noisy = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer, path = io.BytesIO(), tmp_path / "cut.img"
    Image.fromarray(noisy).save(buffer, kind)
    whole = buffer.getvalue()
    contents = [whole[: int(len(whole) * share)] for share in (0.02, 0.5, 0.95)]
    if kind == "PNG":  # has checksums
        middle = len(whole) // 2
        contents.append(whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :])
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cut\.img: [\s\S]*cut\.img"):
            read_image(path)


def test_files_that_are_no_still_picture_are_refused(tmp_path):
    for name, content in {
        "empty.jpg": "",
        "text.jpg": "not a picture",
        "vector.eps": "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    }.items():
        (tmp_path / name).write_text(content)
    Image.fromarray(np.ones((9, 9), np.float32)).save(tmp_path / "float.tif")
    for name, size in {"thin.png": (600, 8), "small.png": (3, 100), "vast.png": (9_000, 9_000)}.items():
        Image.new("1", size).save(tmp_path / name)
    pages = [f"two.{ending}" for ending in ("gif", "webp", "png", "tif")]
    for name in pages:
        Image.fromarray(RGB).save(tmp_path / name, **other_pages())
    for name, words in {
        "empty.jpg": "the file is empty",
        "text.jpg": "cannot identify",
        "vector.eps": "cannot identify",
        "missing.jpg": "no such file",
        ".": "irectory",
        "float.tif": "mode 'F'",
        "thin.png": "600 x 8 pixels",
        "small.png": "3 x 100 pixels",
        "vast.png": "more than",
        **dict.fromkeys(pages, r"several pages \(2\)"),
    }.items():
        with pytest.raises(DataError, match=words):
            read_image(tmp_path / name)


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
    with pytest.raises(DataError, match=words):
        check_resizing(*options)
