"""Text files to lines: unpacked, decoded, and none so long that it fills the memory."""

import codecs
import itertools
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from celebface.indexing import storage

LONGEST = 1 << 20  # bytes of a line
_CHUNK = 1 << 16
_GZIP = b"\x1f\x8b"


class BadRest(Exception):
    """A file cannot be read on."""


def open_bytes(place: str) -> BinaryIO:
    """Opens a file, local or of a store."""
    return storage.open_stream(place) if "://" in place else open(place, "rb")


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def unpacked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Unpacks what is gzipped, in pieces of bounded size; files that were joined after packing are one."""
    first = next(chunks, b"")
    if not first.startswith(_GZIP):
        yield first
        yield from chunks
        return
    unpacker = zlib.decompressobj(31)
    try:
        for chunk in itertools.chain([first], chunks):
            while chunk:
                yield unpacker.decompress(chunk, _CHUNK)
                chunk = unpacker.unconsumed_tail
                if unpacker.eof:
                    chunk = unpacker.unused_data.lstrip(b"\0")
                    unpacker = zlib.decompressobj(31) if chunk else unpacker
        yield unpacker.flush()
    except zlib.error as error:
        raise BadRest("what follows is damaged and cannot be unpacked") from error
    if not unpacker.eof:
        raise BadRest("the file ends in the middle")


def utf8(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Takes off a byte order mark; UTF-16 becomes UTF-8."""
    first = b""
    for chunk in chunks:
        first += chunk
        if len(first) >= len(codecs.BOM_UTF8):
            break
    if not first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield first.removeprefix(codecs.BOM_UTF8)
        yield from chunks
        return
    decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")  # halves of characters are told by their rows
    for chunk in itertools.chain([first], chunks):
        yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
    if decoder.getstate()[0]:
        raise BadRest("the file ends in the middle of a character")


Line = tuple[int, str, str]  # number from 1, text without its end, fault


def lines_of(file: BinaryIO) -> Iterator[Line]:
    """The lines of a text file, plain or gzipped, UTF-8 or UTF-16, few at a time in memory."""
    return cut(utf8(unpacked(_chunks(file))))


def cut(chunks: Iterable[bytes]) -> Iterator[Line]:
    """Cuts at line ends; of a line that is too long nothing is kept but that. Ends where the bytes cannot be had."""
    number, pending, too_long = 1, bytearray(), False
    try:
        for chunk in chunks:
            *ended, last = chunk.split(b"\n")
            for piece in ended:
                yield _line(number, bytes(pending) + piece, too_long)
                number, pending, too_long = number + 1, bytearray(), False
            if not too_long:
                pending += last
            if len(pending) > LONGEST:
                pending, too_long = bytearray(), True
    except BadRest as rest:
        yield number, "", str(rest)
        return
    if pending or too_long:
        yield _line(number, bytes(pending), too_long)


def _line(number: int, line: bytes, too_long: bool) -> Line:
    if too_long or len(line) > LONGEST:
        return number, "", f"a line of more than {LONGEST} bytes"
    try:
        return number, line.removesuffix(b"\r").decode(), ""
    except UnicodeDecodeError:
        return number, "", "not UTF-8"
