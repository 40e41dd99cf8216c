"""Pictures of a pair."""

import io

import images
import numpy as np
import pytest
from PIL import Image

from celebface.models.faces import FaceCrop, PhotoFaces
from celebface.pipelines import pair_picture
from celebface.pipelines.comparison import MainFace
from celebface.pipelines.photo_bytes import shown
from celebface.pipelines.text import plain

BOX = (20, 10, 50, 46)


def face(place: str, width: int, height: int) -> MainFace:
    crop = FaceCrop(np.array(BOX, np.int32), 0.9, np.zeros((5, 2)), 8.0, np.zeros((2, 2, 3), np.uint8))
    return MainFace(place, PhotoFaces(width, height, (crop,), 1), np.zeros(4, np.float32))


def draw(
    *places: str, answer: str = "the same person", lines: tuple[str, ...] = ("a rate",), yes: bool = True
) -> bytes:
    data = images.encoded(images.plain(64, 48, images.GREEN), "PNG")
    return pair_picture.draw([(face(place, 64, 48), data) for place in places], answer, lines, yes)


def test_photos_are_beside_each_other_with_boxes_where_the_faces_are():
    found = np.asarray(Image.open(io.BytesIO(draw("a.jpg", "b.jpg"))).convert("RGB")).astype(int)
    assert found.shape[1] == 2 * 480 + 3 * 20
    blue = (found == (0x00, 0x72, 0xB2)).all(axis=2)[20:500]
    scale, top = 480 / 64, 20 + (480 - 360) // 2  # each photo fills its panel's width
    for left in (20, 520):
        rows, columns = np.nonzero(blue[:, left : left + 480])
        marked = np.array([columns.min(), rows.min() + 20 - top, columns.max(), rows.max() + 20 - top]) / scale
        assert marked == pytest.approx(BOX, abs=0.5)
    assert (found[top + 5, [30, 530]] == images.GREEN).all()


def test_another_answer_has_another_colour():
    pictures = [Image.open(io.BytesIO(draw("a.jpg", "b.jpg", yes=yes))).convert("RGB") for yes in (True, False)]
    for picture, own, other in zip(pictures, ("#0072B2", "#D55E00"), ("#D55E00", "#0072B2"), strict=True):
        colours = {colour for _, colour in picture.getcolors(2**20)}
        as_rgb = [tuple(int(code[at : at + 2], 16) for at in (1, 3, 5)) for code in (own, other)]
        assert as_rgb[0] in colours and as_rgb[1] not in colours


def test_the_same_pair_gives_the_same_bytes_and_others_do_not():
    assert draw("a.jpg", "b.jpg") == draw("a.jpg", "b.jpg") != draw("a.jpg", "c.jpg")


HOSTILE = [
    "$\\frac{1}{0}$.jpg",
    "\x1b[31mred\x1b[0m.jpg",
    "two\nlines\tand\rmore.jpg",
    "evil\u202egpj.exe",
    "<script>alert(1)</script>.jpg",
    "no utf-8 \udcff.jpg",
    "梅艳芳 🤡 \u0301\u0301\u0301.jpg",
    "\x00.jpg",
    "x" * 100_000,
    "",
    "%s%n{0}\\.jpg",
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", HOSTILE, ids=map(ascii, (name[:20] for name in HOSTILE)))
def test_hostile_names_are_drawn_and_harmless(name, capfd):
    data = draw(name, "b.jpg", answer=name, lines=(name, name))
    harmless = plain(name)
    assert data == draw(plain(shown(name)), "b.jpg", answer=harmless, lines=(harmless, harmless))
    picture = Image.open(io.BytesIO(data))
    assert picture.width == 1020 and picture.height < 1200
    assert capfd.readouterr() == ("", "")


def test_what_is_too_long_for_a_line_keeps_its_end():
    assert pair_picture._fitted("x" * 1000 + "end.jpg", 200).endswith("end.jpg")
    assert pair_picture._fitted("short.jpg", 200) == "short.jpg"


def test_an_answer_is_never_cut():
    long = f"nobody for sure: {'n' * 25} at D 0.5 and {'m' * 25} at D 0.51 are too close to tell apart"
    lines = pair_picture._broken(long, 900, "answer")
    assert len(lines) == 2 and " ".join(lines) == long
    short, tall = (Image.open(io.BytesIO(draw("a.jpg", "b.jpg", answer=text))).size for text in ("nobody", long))
    assert tall[1] > short[1] and tall[0] == short[0]


def test_long_lines_are_broken_between_words():
    lines = pair_picture._broken("many words " * 20, 300)
    assert " ".join(lines).split() == ["many", "words"] * 20 and len(lines) > 3
