"""Files at a URI: whole or not at all, whatever they are called."""

import hashlib
import os
import pathlib

import pyarrow.fs
import pytest

from celebface.indexing import storage

NAMES = ["plain.bin", "with space.bin", "Zoë à la carte.bin", "Zoe\u0308.bin", "two\nlines.bin", "50%20#?.bin"]


class DyingSystem:
    """A file system whose streams fail when some bytes have already gone through."""

    def __init__(self, system: pyarrow.fs.FileSystem):
        self._system = system

    def __getattr__(self, name: str):
        return getattr(self._system, name)

    def open_output_stream(self, path: str, **options):
        return DyingStream(self._system.open_output_stream(path, **options))


class DyingStream:
    def __init__(self, stream: pyarrow.NativeFile):
        self._stream = stream

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._stream.close()

    def write(self, data: bytes):
        self._stream.write(data[: len(data) // 2])
        self._stream.flush()
        raise OSError("no space left on device")


def break_streams(monkeypatch) -> None:
    resolve = storage.resolve

    def resolve_to_dying(uri):
        system, path = resolve(uri)
        return DyingSystem(system), path

    monkeypatch.setattr(storage, "resolve", resolve_to_dying)


def lines_of_a_dying_writer():
    yield "half\n"
    raise OSError("the writer died")


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    return tmp_path / "folder"


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_names_are_taken_as_they_are(folder, name):
    uri = storage.join(str(folder), "below", name)
    storage.write_bytes(uri, b"\x00contents\xff")
    assert os.listdir(folder / "below") == [name]
    assert storage.read_bytes(uri) == b"\x00contents\xff"
    assert list(storage.list_files(str(folder))) == [f"below/{name}"]
    assert storage.exists(uri)
    assert storage.local_path(uri) == uri
    storage.delete_file(uri)
    assert not storage.exists(uri)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_uri_is_the_path_that_it_names(folder, name):
    storage.write_bytes((folder / name).as_uri(), b"contents")
    assert (folder / name).read_bytes() == b"contents"
    assert storage.local_path((folder / name).as_uri()) == str(folder / name)


@pytest.mark.parametrize("uri", ["gs://bucket/faces", "s3://bucket/faces", "https://example.org/faces"])
@pytest.mark.parametrize(
    "use", [storage.resolve, storage.read_bytes, storage.exists, lambda uri: storage.write_bytes(uri, b"")]
)
def test_other_places_are_refused_by_name(uri, use, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(storage.StorageError, match=f"^{uri.split(':', maxsplit=1)[0]}:// is not a place .*{uri}$"):
        use(uri)
    assert os.listdir(tmp_path) == []  # no folder called "gs:"


@pytest.mark.parametrize("uri", ["caf\udce9/faces", "file:///caf\udce9"])
def test_a_name_that_is_no_utf_8_is_refused(uri):
    with pytest.raises(storage.StorageError, match=r"no UTF-8 cannot be used here: '.*caf\\udce9.*'") as refusal:
        storage.resolve(uri)
    assert str(refusal.value).isprintable()


def test_what_is_no_uri_is_refused():
    with pytest.raises(storage.StorageError, match="not a URI: file://a b/faces"):
        storage.resolve("file://a b/faces")


def test_only_local_paths_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("faces") == str(tmp_path / "faces")
    assert storage.absolute("/faces") == "/faces"
    assert storage.absolute("gs://bucket/faces") == "gs://bucket/faces"


# --- whole or not at all ----------------------------------------------------------------------------------------------


def write_and_die(folder: pathlib.Path, monkeypatch) -> None:
    break_streams(monkeypatch)
    storage.write_bytes(str(folder / "file"), b"new contents")


def write_lines_and_die(folder: pathlib.Path, monkeypatch) -> None:
    storage.write_text_lines(str(folder / "file"), lines_of_a_dying_writer())


def copy_and_die(folder: pathlib.Path, monkeypatch) -> None:
    def half_copy(source, destination, **systems):
        pathlib.Path(destination).write_bytes(pathlib.Path(source).read_bytes()[:5])
        raise OSError("no space left on device")

    monkeypatch.setattr(pyarrow.fs, "copy_files", half_copy)
    source = folder.parent / "source"
    source.write_bytes(b"new contents")
    storage.copy_file(str(source), str(folder / "file"))


@pytest.mark.parametrize("write", [write_and_die, write_lines_and_die, copy_and_die])
def test_a_write_that_fails_midway_leaves_the_old_contents(folder, monkeypatch, write):
    storage.write_bytes(str(folder / "file"), b"old")
    with monkeypatch.context() as broken, pytest.raises(OSError, match=r"no space left|died"):
        write(folder, broken)
    assert storage.read_bytes(str(folder / "file")) == b"old"
    assert list(storage.list_files(str(folder))) == ["file"]


@pytest.mark.parametrize("write", [write_and_die, write_lines_and_die, copy_and_die])
def test_a_first_write_that_fails_midway_leaves_no_file(folder, monkeypatch, write):
    with monkeypatch.context() as broken, pytest.raises(OSError, match=r"no space left|died"):
        write(folder, broken)
    assert not storage.exists(str(folder / "file"))
    assert list(storage.list_files(str(folder))) == []  # the half that was written is taken for no file


def test_a_writer_that_starts_again_finishes(folder, monkeypatch):
    with monkeypatch.context() as broken, pytest.raises(OSError, match="no space left"):
        write_and_die(folder, broken)
    storage.write_bytes(str(folder / "file"), b"new contents")
    assert storage.read_bytes(str(folder / "file")) == b"new contents"


def test_a_shorter_file_replaces_a_longer_one(folder):
    storage.write_bytes(str(folder / "file"), b"long contents")
    storage.write_bytes(str(folder / "file"), b"short")
    assert (folder / "file").read_bytes() == b"short"
    assert os.listdir(folder) == ["file"]


def test_text_lines_are_written_as_utf_8(folder):
    storage.write_text_lines(str(folder / "file"), iter(["Zoë\n", "two\n"]))
    assert (folder / "file").read_bytes() == "Zoë\ntwo\n".encode()


def test_a_compressed_file_is_not_unpacked(folder):
    storage.write_bytes(str(folder / "lines.csv.gz"), b"no gzip at all")  # pyarrow would guess by the name
    assert storage.read_bytes(str(folder / "lines.csv.gz")) == b"no gzip at all"
    assert (folder / "lines.csv.gz").read_bytes() == b"no gzip at all"


def test_a_missing_file_is_not_found(folder):
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(str(folder / "file"))


# --- places to write to -----------------------------------------------------------------------------------------------


def test_a_place_that_can_be_written_to_is_made_and_left_empty(folder):
    storage.check_writable(str(folder / "below"))
    assert os.listdir(folder / "below") == []


def test_a_place_in_a_file_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_bytes(b"contents")
    with pytest.raises(storage.StorageError, match=f"cannot write to {tmp_path}/file/below: "):
        storage.check_writable(str(tmp_path / "file" / "below"))
    assert (tmp_path / "file").read_bytes() == b"contents"


# --- copies, checksums, lists -----------------------------------------------------------------------------------------


def test_a_copy_is_the_same_and_makes_its_folder(folder, tmp_path):
    (tmp_path / "source").write_bytes(b"\x00\xff" * 1000)
    storage.copy_file(str(tmp_path / "source"), str(folder / "a" / "b" / "copy"))
    assert (folder / "a" / "b" / "copy").read_bytes() == b"\x00\xff" * 1000
    assert os.listdir(folder / "a" / "b") == ["copy"]


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 3_000_000])
def test_checksum_is_over_the_whole_file(folder, size):
    contents = bytes(range(256)) * (size // 256 + 1)
    storage.write_bytes(str(folder / "file"), contents[:size])
    assert storage.checksum(str(folder / "file")) == (hashlib.sha256(contents[:size]).hexdigest(), size)


def test_files_are_listed_sorted_and_from_all_folders_below(folder):
    for name in ("b.txt", "a/z.txt", "a/b/c.txt", "a.txt", ".hidden", "Z.txt", "faces.deadbeef.tmp.parquet"):
        storage.write_bytes(storage.join(str(folder), name), b"")
    (folder / "empty").mkdir()
    names = [".hidden", "Z.txt", "a.txt", "a/b/c.txt", "a/z.txt", "b.txt", "faces.deadbeef.tmp.parquet"]
    assert list(storage.list_files(str(folder))) == names
    assert list(storage.list_files(str(folder / "a"))) == ["b/c.txt", "z.txt"]
    assert list(storage.list_names(str(folder / "a"))) == ["b", "z.txt"]


def test_a_folder_that_is_not_there_holds_nothing(folder):
    assert list(storage.list_files(str(folder))) == []
    assert list(storage.list_names(str(folder))) == []


def test_deleting_what_is_not_there_is_no_fault(folder):
    storage.delete_file(str(folder / "file"))
    storage.delete_tree(str(folder))
    storage.write_bytes(str(folder / "a" / "file"), b"")
    storage.delete_tree(str(folder))
    assert not folder.exists()
