"""A picture of two photos side by side, with the faces that were compared and what came of it."""

import functools
import io
import pathlib
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from celebface.models.faces import PhotoLimits
from celebface.models.photo import Photo
from celebface.pipelines.comparison import MainFace
from celebface.pipelines.text import plain

_PANEL = 480  # pixels, a side of the square that a photo is fitted into
_EDGE = 20
_LINE = 26
_LONGEST = 400  # characters of a line that are looked at
_PAGE, _TEXT, _QUIET = "#FFFFFF", "#1D1F21", "#5F6469"
_YES, _NO = "#0072B2", "#D55E00"  # Okabe and Ito's, which the colour-blind can tell apart
_SIZES = {"answer": 20, "line": 15}


def draw(photos: Sequence[tuple[MainFace, bytes]], answer: str, lines: Sequence[str], yes: bool) -> bytes:
    """Draws photos beside each other, a box around each face, and text below.

    Args:
      photos: The faces, and the bytes of their photos.
      answer: What came of it, in a line.
      lines: What else is to be said; long ones are broken.
      yes: Whether it is one person.

    Returns:
      A PNG; the same photos and text give the same bytes.
    """
    width = len(photos) * (_PANEL + _EDGE) + _EDGE
    broken = [part for line in lines for part in _broken(line, width - 2 * _EDGE)]
    answers = _broken(answer, width - 2 * _EDGE, "answer")  # never cut: its first words are what counts
    height = _EDGE + _PANEL + _LINE * (2 + len(answers) + len(broken)) + _EDGE
    page = Image.new("RGB", (width, height), _PAGE)
    pen = ImageDraw.Draw(page)
    colour = _YES if yes else _NO
    for number, (face, data) in enumerate(photos):
        left = _EDGE + number * (_PANEL + _EDGE)
        _paste(page, pen, face, data, left, colour)
        pen.text((left, _EDGE + _PANEL + 6), _fitted(face.photo, _PANEL), _QUIET, _font("line"))
    top = _EDGE + _PANEL + 6 + int(1.3 * _LINE)
    for number, line in enumerate(answers):
        pen.text((_EDGE, top + number * _LINE), line, colour, _font("answer"))
    top += int((len(answers) + 0.3) * _LINE)
    for number, line in enumerate(broken):
        pen.text((_EDGE, top + number * _LINE), line, _TEXT, _font("line"))
    stream = io.BytesIO()
    page.save(stream, "PNG")
    return stream.getvalue()


def _paste(page: Image.Image, pen: ImageDraw.ImageDraw, face: MainFace, data: bytes, left: int, colour: str) -> None:
    """Fits a photo into its panel and marks the face."""
    image = Photo(data, PhotoLimits()).decode(min_longer_side=_PANEL)
    scale = min(_PANEL / image.width, _PANEL / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    corner = (left + (_PANEL - size[0]) // 2, _EDGE + (_PANEL - size[1]) // 2)
    page.paste(image.resize(size, Image.Resampling.LANCZOS), corner)
    across, down = size[0] / face.found.width, size[1] / face.found.height
    x0, y0, x1, y1 = face.box
    box = (corner[0] + x0 * across, corner[1] + y0 * down, corner[0] + x1 * across, corner[1] + y1 * down)
    pen.rectangle(box, outline=_PAGE, width=5)  # seen on any ground
    pen.rectangle([box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1], outline=colour, width=3)


@functools.cache
def _font(kind: str) -> ImageFont.FreeTypeFont:
    """DejaVu, which comes with matplotlib and has more scripts than Pillow's own; what it lacks is shown as boxes."""
    import matplotlib  # here, as it takes its time to load

    path = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(path, _SIZES[kind], layout_engine=ImageFont.Layout.BASIC)


def _fitted(text: str, width: int, kind: str = "line") -> str:
    """One line, cut where it is too long; its end, which tells files apart, stays."""
    line = plain(text)[-_LONGEST:]
    if _font(kind).getlength(line) <= width:
        return line
    while line and _font(kind).getlength(f"…{line}") > width:
        line = line[1:]
    return f"…{line}"


def _broken(text: str, width: int, kind: str = "line") -> list[str]:
    """Lines that fit."""
    lines = [""]
    for word in plain(text)[:_LONGEST].split():
        longer = f"{lines[-1]} {word}".strip()
        if _font(kind).getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(_fitted(word, width, kind))
    return lines
