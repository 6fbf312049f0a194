import io
import struct
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import UInt8
from PIL import Image, ImageCms, ImageDraw

from zero123.images import ImageError, Limits, Photo, read_image

RED, GREEN, BLUE = (200, 30, 40), (20, 180, 60), (10, 40, 220)


def _scene() -> Image.Image:
    """Nothing about it is symmetric; flat patches, so that JPEG keeps it."""
    picture = Image.new("RGB", (64, 48), RED)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, 31, 15), fill=GREEN)
    draw.rectangle((0, 32, 15, 47), fill=BLUE)
    return picture


def _scene_with_alpha() -> Image.Image:
    picture = _scene().convert("RGBA")
    picture.putalpha(Image.fromarray(_alpha()))
    return picture


def _alpha() -> UInt8[np.ndarray, "48 64"]:
    alpha = np.full((48, 64), 255, np.uint8)
    alpha[:, 32:] = 0
    return alpha


def _grey() -> UInt8[np.ndarray, "48 64"]:
    return np.asarray(_scene().convert("L"))


def _with_hidden_colour(mode: str) -> Image.Image:
    """A palette, grey or RGB picture in which one colour stands for transparency."""
    picture = _scene()
    draw = ImageDraw.Draw(picture)
    draw.rectangle((32, 0, 63, 47), fill=(0, 0, 0))
    return picture.quantize(8) if mode == "P" else picture.convert(mode)


def _hidden(mode: str) -> int | tuple[int, ...]:
    if mode == "RGB":
        return (0, 0, 0)
    corner = _with_hidden_colour(mode).getpixel((63, 0))
    assert isinstance(corner, int)
    return corner


def _animation(path: Path) -> None:
    _scene().save(path, save_all=True, append_images=[Image.new("RGB", (64, 48))], lossless=True)


def _scene_in_lab() -> Image.Image:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    picture = ImageCms.applyTransform(_scene(), ImageCms.buildTransform(srgb, lab, "RGB", "LAB"))
    assert picture is not None
    return picture


MODES: dict[str, tuple[str, Callable[[Path], None], int]] = {
    "RGB": ("a.png", lambda p: _scene().save(p), 0),
    "RGB JPEG": ("a.jpg", lambda p: _scene().save(p, quality=100, subsampling=0), 2),
    "RGB BMP": ("a.bmp", lambda p: _scene().save(p), 0),
    "RGB WebP": ("a.webp", lambda p: _scene().save(p, lossless=True), 0),
    "RGB TGA": ("a.tga", lambda p: _scene().save(p), 0),
    "palette": ("a.png", lambda p: _scene().quantize(8).save(p), 0),
    "GIF": ("a.gif", lambda p: _scene().save(p), 0),
    "CMYK": ("a.jpg", lambda p: _scene().convert("CMYK").save(p, quality=100, subsampling=0), 3),
    "CMYK TIFF": ("a.tif", lambda p: _scene().convert("CMYK").save(p), 0),
    "YCbCr TIFF": ("a.tif", lambda p: _scene().convert("YCbCr").save(p, compression="tiff_lzw"), 2),
    "LAB TIFF": ("a.tif", lambda p: _scene_in_lab().save(p), 15),  # 8 bits of it are coarse
    "RGBX TIFF": ("a.tif", lambda p: _scene().convert("RGBX").save(p), 0),
    "animated WebP": ("a.webp", _animation, 0),
    "animated GIF": ("a.gif", _animation, 0),
    "animated PNG": ("a.png", lambda p: _animation(p), 0),
    "two-page TIFF": ("a.tif", _animation, 0),
    "suffix that lies": ("a.jpg", lambda p: _scene().save(p, "PNG"), 0),
}


@pytest.mark.parametrize("mode", MODES)
def test_opaque_pictures_of_every_mode_give_the_same_pixels(mode: str, tmp_path: Path) -> None:
    name, write, levels = MODES[mode]
    write(tmp_path / name)
    photo = read_image(tmp_path / name)
    assert not photo.has_alpha
    assert (photo.rgba[3] == 1).all()
    _assert_pixels(photo, np.asarray(_scene()), levels)


GREYS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "8 bits": ("a.png", lambda p: Image.fromarray(_grey()).save(p)),
    "16 bits": ("a.png", lambda p: Image.fromarray(_grey().astype(np.uint16) * 257).save(p)),
    "16 bits, big-endian": (
        "a.tif",
        lambda p: Image.frombytes(
            "I;16B", (64, 48), (_grey().astype(np.uint16) * 257).astype(">u2").tobytes()
        ).save(p),
    ),
    "16 bits, PGM": (
        "a.pgm",
        lambda p: _write_bytes(
            p, b"P5 64 48 65535\n" + (_grey().astype(np.uint16) * 257).astype(">u2").tobytes()
        ),
    ),
    "32 bits": ("a.tif", lambda p: Image.fromarray(_grey().astype(np.int32) * 257).save(p)),
    "floats": ("a.tif", lambda p: Image.fromarray(_grey().astype(np.float32) / 255).save(p)),
}


@pytest.mark.parametrize("depth", GREYS)
def test_greys_of_every_depth_give_the_same_pixels(depth: str, tmp_path: Path) -> None:
    name, write = GREYS[depth]
    write(tmp_path / name)
    photo = read_image(tmp_path / name)
    assert not photo.has_alpha
    _assert_pixels(photo, np.stack([_grey()] * 3, axis=-1), levels=0)


def test_a_one_bit_picture_is_black_and_white(tmp_path: Path) -> None:
    bits = _scene().convert("L").point(lambda grey: grey > 100, mode="1")
    bits.save(tmp_path / "a.png")
    photo = read_image(tmp_path / "a.png")
    assert torch.equal(photo.rgba[0], torch.from_numpy(_grey() > 100).float())


TRANSPARENT: dict[str, tuple[str, Callable[[Path], None]]] = {
    "RGBA": ("a.png", lambda p: _scene_with_alpha().save(p)),
    "RGBA WebP": ("a.webp", lambda p: _scene_with_alpha().save(p, lossless=True, exact=True)),
    "RGBA TIFF": ("a.tif", lambda p: _scene_with_alpha().save(p)),
    "LA": ("a.png", lambda p: _scene_with_alpha().convert("LA").save(p)),
    "palette": (
        "a.png",
        lambda p: _with_hidden_colour("P").save(p, transparency=_hidden("P")),
    ),
    "palette GIF": (
        "a.gif",
        lambda p: _with_hidden_colour("P").save(p, transparency=_hidden("P")),
    ),
    "grey": ("a.png", lambda p: _with_hidden_colour("L").save(p, transparency=_hidden("L"))),
    "RGB": ("a.png", lambda p: _with_hidden_colour("RGB").save(p, transparency=_hidden("RGB"))),
    "16-bit grey": (
        "a.png",
        lambda p: Image.fromarray((256 - _alpha().astype(np.uint16)) * 9).save(
            p, transparency=256 * 9
        ),
    ),
}


@pytest.mark.parametrize("mode", TRANSPARENT)
def test_transparency_of_every_kind_becomes_alpha(mode: str, tmp_path: Path) -> None:
    name, write = TRANSPARENT[mode]
    write(tmp_path / name)
    photo = read_image(tmp_path / name)
    assert photo.has_alpha
    assert torch.equal(photo.rgba[3], torch.from_numpy(_alpha()) / 255)


def test_colours_under_transparent_pixels_are_kept(tmp_path: Path) -> None:
    _scene_with_alpha().save(tmp_path / "a.png")
    _assert_pixels(read_image(tmp_path / "a.png"), np.asarray(_scene()), levels=0)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(
    orientation: int, suffix: str, tmp_path: Path
) -> None:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = _scene().transpose(turns[orientation]) if orientation > 1 else _scene()
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"a.{suffix}"
    stored.save(path, exif=exif, quality=100, **_lossless(suffix))
    _assert_pixels(read_image(path), np.asarray(_scene()), levels=2)


def _lossless(suffix: str) -> dict[str, bool | int]:
    return {"jpg": {"subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})


def test_a_file_and_its_picture_in_memory_are_read_alike(tmp_path: Path) -> None:
    _scene_with_alpha().save(tmp_path / "a.png")
    in_memory = Photo.from_pil(_scene_with_alpha())
    assert torch.equal(in_memory.rgba, read_image(tmp_path / "a.png").rgba)


@pytest.mark.parametrize("white", ["nan", "inf"])
def test_floats_that_are_no_numbers_are_refused(white: str, tmp_path: Path) -> None:
    pixels = np.full((8, 8), 0.5, np.float32)
    pixels[3, 3] = float(white)
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=r"a\.tif: the picture holds NaN or infinity"):
        read_image(tmp_path / "a.tif")


def test_floats_up_to_255_are_refused_with_their_range(tmp_path: Path) -> None:
    Image.fromarray(np.linspace(0, 255, 64, dtype=np.float32).reshape(8, 8)).save(
        tmp_path / "a.tif"
    )
    with pytest.raises(ImageError, match=r"must be in \[0, 1\], got 0 to 255"):
        read_image(tmp_path / "a.tif")


# --- what is no picture ---------------------------------------------------------------------


def _png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG that claims a size: its pixels would follow."""
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", size) + struct.pack(">I", 99) + b"IDAT"


def _png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _png_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


def _jpeg_bytes() -> bytes:
    buffer = io.BytesIO()
    _scene().resize((640, 480)).save(buffer, "JPEG")
    return buffer.getvalue()


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


FAULTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty: was it downloaded completely"),
    "text": ("Grüße, hier ist kein Bild.\n".encode(), "is text, not a picture"),
    "SVG": (b'<?xml version="1.0"?>\n<svg width="9" height="9"></svg>', "is an SVG drawing"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "is a document"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is a document"),
    "HEIC": (
        struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(200),
        "is a HEIC photo: save it as JPEG",
    ),
    "noise": (np.random.default_rng(0).bytes(4000), "is no picture of a known kind"),
    "header without pixels": (_png_header(64, 64), "is damaged or cut short"),
    "half a PNG": (_png_bytes()[: len(_png_bytes()) // 2], "is damaged or cut short"),
    "half a JPEG": (_jpeg_bytes()[: len(_jpeg_bytes()) // 2], "is damaged or cut short"),
    "a flipped byte": (
        _png_bytes()[:200] + bytes([_png_bytes()[200] ^ 255]) + _png_bytes()[201:],
        "is damaged or cut short",
    ),
    "too wide": (_png_header(16_385, 1), "is 16385×1 pixels, more than"),
    "too many pixels": (_png_header(6400, 6400), "is 6400×6400 pixels, more than"),
    "20,000 squared": (_png_header(20_000, 20_000), "has more than 40 million pixels"),
    "2 billion squared": (_png_header(2**31 - 1, 2**31 - 1), "has more than 40 million pixels"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_picture_gets_one_sentence_naming_file_and_cause(
    fault: str, tmp_path: Path
) -> None:
    content, sentence = FAULTS[fault]
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=sentence) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)


def test_an_endless_device_is_not_opened() -> None:
    with pytest.raises(ImageError, match="no ordinary file"):
        read_image(Path("/dev/zero"))


def test_a_heavy_file_is_not_opened(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(20_000_001)
    with pytest.raises(ImageError, match=r"takes 20\.0 MB on disk, more than the 20 MB"):
        read_image(tmp_path / "a.png")


def test_limits_are_the_callers_choice(tmp_path: Path) -> None:
    _scene().save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", Limits(pixels=64 * 48, side=64)).rgba.shape[1:] == (
        48,
        64,
    )
    with pytest.raises(ImageError, match="64×48 pixels"):
        read_image(tmp_path / "a.png", Limits(pixels=64 * 48 - 1))
    with pytest.raises(ImageError, match="63 on a side"):
        read_image(tmp_path / "a.png", Limits(side=63))
    with pytest.raises(ValueError, match="side must be positive, got 0"):
        Limits(side=0)


def test_a_bomb_is_refused_from_its_header_in_no_time_and_no_memory(tmp_path: Path) -> None:
    side = 9000
    pack = zlib.compressobj(9)
    row = bytes(1 + 3 * side)
    pixels = b"".join([*(pack.compress(row) for _ in range(side)), pack.flush()])
    bomb = _png_header(side, side)[:-8] + _png_chunk(b"IDAT", pixels) + _png_chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    (tmp_path / "claim.png").write_bytes(_png_header(20_000, 20_000))
    assert len(bomb) < 300_000  # 81 million pixels
    program = textwrap.dedent("""
        import resource, sys, time
        from pathlib import Path
        from zero123.images import ImageError, read_image
        for name in sys.argv[1:]:
            start, peak = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            try:
                read_image(Path(name))
            except ImageError:
                seconds = time.perf_counter() - start
                growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
                print(seconds, growth / 1024)
    """)
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "bomb.png", tmp_path / "claim.png"],
        capture_output=True,
        check=True,
        text=True,
    )
    costs = [[float(word) for word in line.split()] for line in done.stdout.splitlines()]
    assert len(costs) == 2
    for seconds, megabytes in costs:
        assert seconds < 0.2
        assert megabytes < 50


def test_pillows_own_settings_stay_as_they_are(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    (tmp_path / "a.png").write_bytes(_png_header(10_000, 10_000))
    with pytest.raises(ImageError):
        read_image(tmp_path / "a.png")
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tif", "bmp"])
def test_a_damaged_file_is_read_or_refused_but_nothing_else(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[274] = 6
    _scene().resize((24, 20)).save(path, **({} if suffix in ("gif", "bmp") else {"exif": exif}))
    healthy, random = path.read_bytes(), np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(healthy)
        for place in random.integers(0, len(healthy), 3):
            damaged[place] = random.integers(256)
        path.write_bytes(bytes(damaged[: random.integers(1, len(healthy) + 1)]))
        try:
            rgba = read_image(path).rgba
        except ImageError:
            continue
        assert bool(((rgba >= 0) & (rgba <= 1)).all())


def _assert_pixels(photo: Photo, expected: UInt8[np.ndarray, "h w 3"], levels: int) -> None:
    found = (photo.rgba[:3].permute(1, 2, 0).numpy() * 255).round().astype(int)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= levels
