"""Whatever is uploaded or asked, the answer is one sentence, and nothing outside is touched."""

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image


def saved(picture, kind, **options):
    held = io.BytesIO()
    picture.save(held, kind, **options)
    return held.getvalue()


def chunk(name, data, crc=None):
    checked = zlib.crc32(name + data) if crc is None else crc
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checked)


def png(width, height, *extra, crc=None):
    """A PNG whose header says a size that its one row does not have."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(3 * min(width, 1000) + 1))
    parts = [chunk(b"IHDR", header, crc), *extra, chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def cup(side=64):
    picture = Image.new("RGB", (side, side), "white")
    picture.paste((180, 40, 20), (side // 4, side // 4, 3 * side // 4, 3 * side // 4))
    return picture


def zipped():
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("../../x.png", b"x")
    return held.getvalue()


GOOD = saved(cup(), "PNG")
NOTHING_TO_SEE = Image.new("RGB", (64, 64), "white")
NAN = Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32))
SCRIPT = "<img src=x onerror=alert(1)>.png"

REFUSED = {
    "zero bytes": ("a.png", b"", "is empty"),
    "text": ("a.png", b"hello", "is text, not a picture"),
    "a page": ("a.png", b"<html><script>alert(1)</script></html>", "is text"),
    "a page by name": ("a.html", b"<html></html>", "is text"),
    "a drawing": ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG drawing"),
    "a drawing that lies": ("a.png", b"<svg onload='alert(1)'/>", "SVG drawing"),
    "a drawing that reads files": (
        "a.svg",
        b'<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
        "SVG drawing",
    ),
    "a document": ("a.jpg", b"%PDF-1.7\n", "is a document"),
    "a program for printers": ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n", "is a document"),
    "an archive": ("a.png", zipped(), "is no picture of a known kind"),
    "a program": ("a.png", b"\x7fELF\x02\x01\x01" + bytes(64), "is no picture of a known kind"),
    "a pickle": ("a.png", b"\x80\x04cos\nsystem\n(S'true'\ntR.", "is no picture"),
    "an icon": ("a.ico", saved(cup(), "ICO"), "is no picture of a known kind"),
    "a photo of another kind": ("a.heic", b"\0\0\0\x18ftypheic" + bytes(32), "HEIC"),
    "cut short": ("a.png", GOOD[:90], "is damaged or cut short"),
    "cut JPEG": ("a.jpg", saved(cup(), "JPEG")[:300], "is damaged or cut short"),
    "bomb": ("a.png", png(30_000, 30_000), "more than 25 million pixels"),
    "bomb by name": ("a.jpg", png(2**31 - 1, 2**31 - 1), "more than"),
    "long": ("a.png", png(20_000, 1), "20000×1 pixels, more than"),
    "bomb of text": (
        "a.png",
        png(8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80_000_000), 9))),
        "is damaged or cut short",
    ),
    "too few rows": ("a.png", png(64, 64), "nothing stands out"),
    "wrong sum": ("a.png", png(64, 64, crc=7), "is"),
    "not a number": ("a.tiff", saved(NAN, "TIFF"), "NaN or infinity"),
    "nothing to see": ("a.png", saved(NOTHING_TO_SEE, "PNG"), ""),
    "all transparent": ("a.png", saved(Image.new("RGBA", (64, 64)), "PNG"), "there is no object"),
    "one pixel": ("a.png", saved(cup(1), "PNG"), ""),
    "a hair": ("a.png", saved(Image.new("RGBA", (1, 5000), "red"), "PNG"), ""),
    "a name that is a script": (SCRIPT, b"hello", "is text"),
    "a way up that is empty": ("../../../../etc/passwd", b"", "is empty"),
    "the folder above": ("..", GOOD, "Invalid file name"),
    "200 MB": ("a.png", bytes(200_000_000), "more than the 20 MB that are taken"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_upload_is_answered_by_one_sentence(person, server, case):
    name, content, sentence = REFUSED[case]
    answer = person.give(name, content)
    assert not answer.fine, answer
    assert sentence in answer.said
    assert answer.said.strip()
    assert "\n" not in answer.said
    assert "Traceback" not in answer.said
    assert "<" not in answer.said
    assert str(server.folder) not in answer.said
    assert server.process.poll() is None


@pytest.mark.parametrize(
    "name",
    ["../../../../tmp/evil.png", "/etc/cron.d/evil.png", "a.exe", "\\..\\evil.png", SCRIPT,
     "a" * 300 + ".png", ".hidden.png", "con.png", "é\u202egnp.png"],
)  # fmt: skip
def test_a_bad_name_does_not_lead_out_of_the_folder(person, server, name):
    sent = person.upload(name, GOOD)
    assert sent.fine
    assert sent.said.startswith(str(server.folder))
    assert "/../" not in sent.said
    assert person.give(name, GOOD).fine


def test_the_first_frame_of_an_animation_is_the_photo(person):
    frames = [Image.new("RGB", (64, 64), "white") for _ in range(3)]
    film = saved(cup(), "GIF", save_all=True, append_images=frames)
    assert person.give("a.gif", film).fine


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "http://127.0.0.1:9/a.png", "http://169.254.169.254/", "../a.png"]
)
def test_no_path_and_no_url_stands_for_an_upload(person, path):
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    answer = person.ask("photo", file, "auto", 0.66, 0.0, 0.0)
    assert answer == type(answer)(False, "only files of this page's own folder are given or taken")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.png", "file:///etc/passwd", "data:,x"])
def test_a_url_beside_an_upload_is_not_looked_at(person, url):
    path = person.upload("a.png", GOOD).said
    file = {"path": path, "url": url, "meta": {"_type": "gradio.FileData"}}
    assert person.ask("photo", file, "auto", 0.66, 0.0, 0.0).fine


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("photo", [None, "auto", 0.66, 0, 0], "there is no photo yet"),
        ("place", ["auto", 0.66, 0, 0], "there is no photo yet"),
        ("preview", [0, 0, 0], "there is no photo yet"),
        ("bundle", [], "there is no photo yet"),
        ("object", [], "there is no object yet"),
        ("mesh", [0, None], "there is no photo yet"),
        ("place", ["magic", 0.66, 0, 0], "magic"),
        ("place", ["auto", 66, 0, 0], "66"),
    ],
)
def test_a_wish_without_a_photo_is_answered_by_one_sentence(person, name, data, sentence):
    answer = person.ask(name, *data)
    assert not answer.fine
    assert sentence in answer.said
    assert "\n" not in answer.said


@pytest.mark.parametrize(
    ("pose", "sentence"),
    [
        ((1e9, 0, 0), "1"),
        ((0, 91, 0), "90"),
        ((0, 0, -5), "-0.7"),
        ((1.5707963, 0, 0), "write 90"),
        (("left", 0, 0), ""),
    ],
)
def test_an_impossible_pose_is_answered_by_one_sentence(person, pose, sentence):
    person.give("a.png", GOOD)
    answer = person.ask("preview", *pose)
    assert not answer.fine
    assert answer.said is None or sentence in answer.said


def test_others_files_cannot_be_named_without_knowing_them(person):
    assert person.http.get("gradio_api/file=/etc/passwd").status_code == 403
    for path in ("gradio_api/file=..%2f..%2fetc/passwd", "gradio_api/file=uploads"):
        assert person.http.get(path).status_code == 403
