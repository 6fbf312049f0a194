import math
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from zero123.images import (
    ImageError,
    Photo,
    animate,
    check_film,
    contact_sheet,
    read_image,
    save_picture,
    square_picture,
    to_pil,
    to_u8,
    write_text,
)


def _noise(channels: int = 3, height: int = 24, width: int = 32) -> torch.Tensor:
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(0))


def _film(count: int = 5, width: int = 48, height: int = 32) -> list[Image.Image]:
    """A grey that brightens from frame to frame, with a red corner."""
    frames = []
    for number in range(count):
        frame = Image.new("RGB", (width, height), (40 * number, 40 * number, 40 * number))
        frame.paste((200, 30, 40), (0, 0, 16, 16))
        frames.append(frame)
    return frames


@contextmanager
def _full_disk(size: int = 2000) -> Iterator[None]:
    """No file can grow beyond some bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- pixels ---------------------------------------------------------------------------------


def test_bytes_survive_the_way_to_floats_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_u8(levels / 255), levels)


def test_pixels_are_rounded_and_clipped_or_cut_like_the_original() -> None:
    values = torch.tensor([-1.0, 0.0, 0.7 / 255, 254.7 / 255, 1.0, 7.0])
    assert to_u8(values).tolist() == [0, 0, 1, 255, 255, 255]
    assert to_u8(values, truncated=True).tolist() == [0, 0, 0, 254, 255, 255]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_picture_that_overflowed_is_never_shown_as_black(value: float) -> None:
    image = _noise()
    image[0, 3, 3] = value
    with pytest.raises(ImageError, match="holds NaN or infinity"):
        to_pil(image)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_channels_decide_the_mode(channels: int, mode: str) -> None:
    picture = to_pil(_noise(channels))
    assert (picture.mode, picture.size) == (mode, (32, 24))
    with pytest.raises(ImageError, match=r"1, 3 or 4 channels, .* got \(2, 24, 32\)"):
        to_pil(_noise(2))


# --- files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".webp"])
def test_a_written_picture_is_read_back(suffix: str, tmp_path: Path) -> None:
    picture = to_pil(torch.linspace(0, 1, 32).expand(3, 24, 32))
    path = tmp_path / "new" / f"a{suffix}"
    save_picture(picture, path)
    difference = read_image(path).rgba - Photo.from_pil(picture).rgba
    assert difference.abs().max() <= (0 if suffix == ".png" else 6 / 255)
    assert list(path.parent.iterdir()) == [path]


def test_transparency_goes_into_png_and_webp_only(tmp_path: Path) -> None:
    picture = to_pil(_noise(4))
    save_picture(picture, tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").has_alpha
    with pytest.raises(ImageError, match=r"JPEG holds no transparency, write \.png or \.webp"):
        save_picture(picture, tmp_path / "a.jpg")
    with pytest.raises(ImageError, match=r"pictures are written as \.png, \.jpg, \.jpeg, \.webp"):
        save_picture(picture, tmp_path / "a.bmp")


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    save_picture(to_pil(torch.zeros(3, 8, 8)), path)
    old = path.read_bytes()
    with (
        _full_disk(),
        pytest.raises(
            OSError, match=r"a\.png: not written, and nothing left behind: File too large"
        ),
    ):
        save_picture(to_pil(_noise(3, 100, 100)), path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    write_text("{}", tmp_path / "file")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "{}"
    with pytest.raises(OSError, match=r"file/a\.txt: not written"):
        write_text("{}", tmp_path / "file" / "a.txt")
    with pytest.raises(OSError, match="not written, and nothing left behind: Is a directory"):
        write_text("{}", tmp_path)


# --- sheets ---------------------------------------------------------------------------------


def test_a_sheet_shows_every_picture_and_caption() -> None:
    colours = [(200, 30, 40), (20, 180, 60), (10, 40, 220)]
    pictures = [Image.new("RGB", (96, 64), colour) for colour in colours]
    sheet = contact_sheet(pictures, ["azimuth +30°", "a caption of far too many words " * 9, ""], 2)
    assert sheet.width == pytest.approx(2 * 96, abs=40)
    counts = {colour: count for count, colour in sheet.getcolors(1 << 20) or []}
    assert all(counts[colour] == 96 * 64 for colour in colours)
    assert np.asarray(sheet).min(axis=-1).min() == 0  # ink


def test_sizes_and_modes_may_be_mixed_on_a_sheet() -> None:
    clear = Image.new("RGBA", (20, 80), (0, 0, 0, 0))
    sheet = contact_sheet([clear, Image.new("L", (60, 10), 7)], ["", ""], columns=9)
    assert {colour for _, colour in sheet.getcolors() or []} == {(255, 255, 255), (7, 7, 7)}


def test_captions_must_match_the_pictures() -> None:
    with pytest.raises(ValueError, match="1 pictures have 2 captions"):
        contact_sheet([Image.new("L", (9, 9))], ["a", "b"], 1)
    with pytest.raises(ValueError, match="needs pictures and columns, got 0 and 1"):
        contact_sheet([], [], 1)


# --- films ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_an_animation_loops_over_all_frames(suffix: str, tmp_path: Path) -> None:
    path = animate(_film(), tmp_path / f"a{suffix}", fps=10.0)
    with Image.open(path) as film:
        assert film.n_frames == 5  # type: ignore[attr-defined]
        assert film.info["loop"] == 0
        for number in range(5):
            film.seek(number)
            film.load()
            assert film.info["duration"] == 100
            shown = film.convert("RGB")
            assert np.abs(np.array(shown.getpixel((40, 24))) - 40 * number).max() <= 6
            assert np.abs(np.array(shown.getpixel((4, 4))) - (200, 30, 40)).max() <= 12


@pytest.mark.parametrize(("width", "height"), [(48, 32), (47, 33)])
def test_a_video_holds_all_frames_in_their_colours(width: int, height: int, tmp_path: Path) -> None:
    path = animate(_film(5, width, height), tmp_path / "a.mp4", fps=12.5)
    program = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24"]
    done = subprocess.run([*program, "-"], capture_output=True, check=True)
    even = (width + width % 2, height + height % 2)
    frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, even[1], even[0], 3)
    described = done.stderr.decode()
    assert "yuv420p" in described
    assert "12.50 fps" in described
    assert len(frames) == 5
    for number, frame in enumerate(frames):
        assert np.abs(frame[24, 40].astype(int) - 40 * number).max() <= 8
        assert np.abs(frame[5, 5].astype(int) - (200, 30, 40)).max() <= 14


def test_one_frame_makes_a_film_too(tmp_path: Path) -> None:
    for name in ("a.webp", "a.gif", "a.mp4"):
        assert animate(_film(1), tmp_path / name).stat().st_size > 0


def test_a_name_without_suffix_is_a_folder_of_pictures(tmp_path: Path) -> None:
    folder = animate(_film(3), tmp_path / "views")
    assert sorted(path.name for path in folder.iterdir()) == ["000.png", "001.png", "002.png"]
    with pytest.raises(ImageError, match="is a folder with something in it"):
        check_film(folder, 12.0)


def test_transparent_frames_are_put_on_white(tmp_path: Path) -> None:
    clear = [Image.new("RGBA", (16, 16), (0, 0, 0, 0))] * 2
    with Image.open(animate(clear, tmp_path / "a.webp")) as film:
        assert film.convert("RGB").getpixel((8, 8)) == (255, 255, 255)


def test_what_is_no_film_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"written as \.webp, \.gif, \.mp4, or into a folder"):
        animate(_film(), tmp_path / "a.avi")
    with pytest.raises(ValueError, match=r"fps must be in \(0, 50\], got 0"):
        animate(_film(), tmp_path / "a.gif", fps=0.0)
    with pytest.raises(ValueError, match="frames of one size"):
        animate([*_film(1), Image.new("RGB", (9, 9))], tmp_path / "a.gif")
    with pytest.raises(ValueError, match="frames of one size"):
        animate([], tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.mp4"])
def test_a_full_disk_leaves_no_half_film(name: str, tmp_path: Path) -> None:
    frames = [to_pil(_noise(3, 64, 64)) for _ in range(4)]
    with _full_disk(), pytest.raises(OSError, match=f"{name}: not written"):
        animate(frames, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_without_ffmpeg_a_video_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", none)
    with pytest.raises(ImageError, match="needs ffmpeg: pip install imageio-ffmpeg"):
        animate(_film(), tmp_path / "a.mp4")


def test_what_ffmpeg_complains_about_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = subprocess.CompletedProcess("", 1, b"", b"first\n[out#0 @ 0x5] no encoder\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: said)
    with pytest.raises(OSError, match=r"a\.mp4: not written, .*: ffmpeg says no encoder"):
        animate(_film(), tmp_path / "a.mp4")


# --- squares --------------------------------------------------------------------------------


def test_a_square_passes_unchanged_whatever_it_is_given_as() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    floats = levels.astype(np.float32) / 255
    expected = torch.from_numpy(floats).permute(2, 0, 1)
    for picture in (levels, floats, floats.astype(np.float64), Image.fromarray(levels), expected):
        assert torch.equal(square_picture(picture, 16), expected)


def test_a_square_of_another_size_is_scaled() -> None:
    assert square_picture(_noise(3, 20, 20), 16).shape == (3, 16, 16)


@pytest.mark.parametrize("size", [16, 24])
def test_transparency_is_put_on_white(size: int) -> None:
    clear = torch.zeros(4, 16, 16)
    assert torch.equal(square_picture(clear, size), torch.ones(3, size, size))


@pytest.mark.parametrize(
    ("picture", "sentence"),
    [
        (torch.zeros(3, 16, 20), "must be square, got 20×16 pixels: frame it first"),
        (torch.full((3, 16, 16), 255.0), r"in \[0, 1\], got 255 to 255; 8-bit"),
        (torch.full((3, 16, 16), -1.0), r"got -1 to -1; 8-bit values, or \[-1, 1\]\?"),
        (torch.full((3, 16, 16), math.nan), r"in \[0, 1\]"),
        (torch.zeros(3, 0, 0), "the picture is empty: it has no pixels"),
        (np.zeros((0, 0, 3), np.uint8), "the picture is empty"),
        (torch.zeros(16, 16, 3), r"a tensor must be \(3 or 4, H, W\), got \(16, 16, 3\)"),
        (np.zeros((3, 16, 16)), r"an array must be \(H, W, 3 or 4\), got \(3, 16, 16\)"),
    ],
)
def test_what_is_no_square_picture_is_refused(
    picture: torch.Tensor | np.ndarray, sentence: str
) -> None:
    with pytest.raises(ImageError, match=sentence):
        square_picture(picture, 16)
