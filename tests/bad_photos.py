"""A folder of all that goes wrong with photos, and what the ledger must say of each."""

import os
import pathlib

import images
import numpy as np
from PIL import Image

DONE = ("done", "")


def write_folder(folder: pathlib.Path, portrait: pathlib.Path) -> dict[str, tuple[str, str]]:
    """Fills a folder.

    Args:
      folder: Empty folder.
      portrait: A JPEG with one clear face.

    Returns:
      Status and reason of each file, by the name the ledger gives it.
    """
    data, face = portrait.read_bytes(), Image.open(portrait).convert("RGB")
    grey16 = np.asarray(face.convert("L")).astype(np.uint16) * 257
    files = {
        "text.jpg": (b"I am a text file\n", ("rejected", "not_an_image")),
        "empty.jpg": (b"", ("rejected", "empty")),
        "truncated.jpg": (data[: len(data) // 2], ("rejected", "truncated")),
        "one pixel.png": (images.encoded(images.plain(1, 1), "PNG"), ("rejected", "too_few_pixels")),
        "bomb.png": (images.png_announcing(50_000, 50_000), ("rejected", "too_many_pixels")),
        "bomb.jpg": (images.jpeg_announcing(50_000, 50_000), ("rejected", "too_many_pixels")),
        "wall.png": (images.encoded(images.plain(200, 200), "PNG"), ("rejected", "no_face")),
        "notes.txt": (b"x", ("skipped", "unsupported_type")),
        "cmyk.jpg": (images.encoded(face.convert("CMYK"), "JPEG"), DONE),
        "sixteen bits.png": (images.encoded(Image.fromarray(grey16), "PNG"), DONE),
        "rotated.jpg": (images.oriented(face, 6, "JPEG"), DONE),
        "animated.gif": (images.animated("GIF", face, images.plain(*face.size)), DONE),
        "phone.heic": (images.encoded(face, "HEIF"), DONE),
        "web.webp": (images.encoded(face, "WEBP"), DONE),
        "web.avif": (images.encoded(face, "AVIF"), DONE),
        "no suffix": (data, DONE),
        "Beyoncé  and a\nnew line.jpg": (data, DONE),
        '=1+1, "quoted".jpg': (data, DONE),
    }
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    pathlib.Path(os.fsdecode(os.fsencode(folder) + b"/not \xff utf-8.jpg")).write_bytes(data)
    (folder / "dangling.jpg").symlink_to("/nowhere/photo.jpg")
    (folder / ".hidden.jpg").write_bytes(data)
    expected = {name: ending for name, (_, ending) in files.items()}
    return expected | {"not \\xff utf-8.jpg": DONE, "dangling.jpg": ("rejected", "not_found")}
