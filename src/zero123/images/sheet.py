"""Many pictures on one page, each with its caption."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_GAP = 8  # pixels
_TALLEST_TEXT = 3  # lines
_IN_THE_FONT = str.maketrans({"−": "-", "×": "x", "…": "..."})  # Pillow's own lacks these


def contact_sheet(
    pictures: Sequence[Image.Image], captions: Sequence[str], columns: int
) -> Image.Image:
    """Lay pictures out in rows on white, a caption below each.

    Args:
        pictures: of any sizes and modes; transparent ones are put on white.
        captions: one a picture; wrapped at the picture's width, cut off after three lines.
        columns: pictures in a row.
    """
    if len(pictures) != len(captions):
        raise ValueError(f"{len(pictures)} pictures have {len(captions)} captions")
    if not pictures or columns < 1:
        raise ValueError(f"a sheet needs pictures and columns, got {len(pictures)} and {columns}")
    columns = min(columns, len(pictures))
    width = max(picture.width for picture in pictures)
    height = max(picture.height for picture in pictures)
    font = ImageFont.load_default(size=min(max(width / 14, 11), 28))
    texts = [
        "\n".join(_wrapped(caption.translate(_IN_THE_FONT), width, font)) for caption in captions
    ]
    line = math.ceil(font.getbbox("Ág")[3] * 1.25)
    text_height = line * max(text.count("\n") + 1 for text in texts)
    step_x, step_y = width + _GAP, height + text_height + _GAP
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * step_x + _GAP, rows * step_y + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
        row, column = divmod(index, columns)
        left, top = _GAP + column * step_x, _GAP + row * step_y
        corner = (left + (width - picture.width) // 2, top + (height - picture.height) // 2)
        rgba = picture.convert("RGBA")
        sheet.paste(rgba, corner, mask=rgba)
        draw.text(
            (left + width / 2, top + height), text, "black", font, anchor="ma", align="center"
        )
    return sheet


def _wrapped(
    caption: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> list[str]:
    lines: list[str] = []
    for word in caption.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    shown = lines[:_TALLEST_TEXT]
    if len(lines) > len(shown):
        shown[-1] += " ..."
    return [_fitted(text, width, font) for text in shown]


def _fitted(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
