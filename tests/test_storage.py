"""Files at a URI: whole or not at all, whatever they are called, in folders and in object stores."""

import hashlib
import os
import pathlib
import socket

import object_stores
import pyarrow.fs
import pytest

from celebface.indexing import storage, stores

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


@pytest.mark.parametrize("uri", ["hdfs://bucket/faces", "https://example.org/faces"])
@pytest.mark.parametrize(
    "use", [storage.resolve, storage.read_bytes, storage.exists, lambda uri: storage.write_bytes(uri, b"")]
)
def test_other_places_are_refused_by_name(uri, use, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(storage.StorageError, match=f"^{uri.split(':', maxsplit=1)[0]}:// is not a place .*{uri}$"):
        use(uri)
    assert os.listdir(tmp_path) == []  # no folder called "hdfs:"


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


def test_a_name_that_is_too_long_is_told(tmp_path):
    """Whoever looks whether something is there has it from a user."""
    name = str(tmp_path / ("x" * 300))
    for look in (storage.exists, storage.type_of, storage.delete_tree):
        with pytest.raises(storage.StorageError, match=r"File name too long: .*x{300}\Z"):
            look(name)
    assert storage.revision(name) == ""


def test_a_file_appears_when_the_block_ends(folder):
    uri = str(folder / "a.bin")
    with storage.open_output(uri) as stream:
        stream.write(b"first ")
        assert not storage.exists(uri)
        stream.write(b"second")
    assert storage.read_bytes(uri) == b"first second"
    with pytest.raises(KeyError), storage.open_output(uri) as stream:
        stream.write(b"half")
        raise KeyError
    assert storage.read_bytes(uri) == b"first second"


def test_a_mapped_file_reads_like_an_opened_one(folder):
    uri = str(folder / "a.bin")
    storage.write_bytes(uri, bytes(range(256)))
    with storage.open_mapped(uri) as mapped:
        mapped.seek(100)
        assert mapped.read(3) == bytes([100, 101, 102])
    with pytest.raises(FileNotFoundError):
        storage.open_mapped(str(folder / "b.bin"))


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


def test_files_are_walked_folder_by_folder_with_their_state(folder):
    for name in ("b.txt", "a/z.txt", "a/b/c.txt", "a.txt", "\uff21.txt", "\U0001f600.txt"):
        storage.write_bytes(storage.join(str(folder), name), b"12345")
    os.utime(folder / "b.txt", ns=(0, 1_700_000_000_123_456_789))
    files = list(storage.walk(f"{folder}/"))
    names = ["a/b/c.txt", "a/z.txt", "a.txt", "b.txt", "\uff21.txt", "\U0001f600.txt"]
    assert [file.uri for file in files] == [f"{folder}/{name}" for name in names]
    assert files[3] == storage.StoredFile(f"{folder}/b.txt", 5, 1_700_000_000_123_456_789)
    assert files[3].revision == storage.revision(f"{folder}/b.txt") == "5-1700000000123456789"
    assert list(storage.walk(str(folder / "missing"))) == []


# --- object stores ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=object_stores.KINDS)
def store(request):
    with object_stores.server(request.param) as address:
        yield request.param, address


@pytest.fixture
def bucket(store, monkeypatch) -> object_stores.Bucket:
    object_stores.point_to(monkeypatch, *store)
    return object_stores.make_bucket(*store)


# Names with line ends are no names for the S3 server, though S3 takes them.
@pytest.mark.parametrize("name", [name for name in NAMES if "\n" not in name])
def test_names_of_objects_are_taken_as_they_are(bucket, name):
    uri = storage.join(bucket.uri, "below", name)
    storage.write_bytes(uri, b"\x00contents\xff")
    assert bucket.names() == [f"below/{name}"]  # and no object for the folder
    assert storage.read_bytes(uri) == b"\x00contents\xff"
    assert list(storage.list_files(bucket.uri)) == [f"below/{name}"]
    assert [file.uri for file in storage.walk(bucket.uri)] == [uri]
    assert storage.exists(uri)
    storage.delete_file(uri)
    assert not storage.exists(uri)


def test_objects_are_read_like_files(bucket):
    bucket.put("a/b/numbers.csv.gz", bytes(range(256)) * 5000)
    uri = f"{bucket.uri}/a/b/numbers.csv.gz"
    assert storage.read_bytes(uri) == bytes(range(256)) * 5000
    assert storage.checksum(uri) == (hashlib.sha256(bytes(range(256)) * 5000).hexdigest(), 1_280_000)
    with storage.open_input(uri) as file:
        assert file.size() == 1_280_000
        file.seek(1_279_998)
        assert file.read() == b"\xfe\xff"
    with storage.open_stream(uri) as file:
        assert file.read(3) == b"\x00\x01\x02"
        assert len(file.read(2_000_000)) == 1_279_997


def test_what_is_there_is_told(bucket):
    bucket.put("a/b/1.txt", b"1")
    assert [
        storage.type_of(f"{bucket.uri}{path}") for path in ("", "/", "/a", "/a/b/", "/a/b/1.txt", "/a/b/2.txt")
    ] == [
        "folder",
        "folder",
        "folder",
        "folder",
        "file",
        "",
    ]


def test_objects_are_listed_sorted_and_from_all_folders_below(bucket):
    for key in ("b.txt", "a/z.txt", "a/b/c.txt", "a.txt", "c/1.txt", "c/2.txt"):
        bucket.put(key, b"12345")
    assert list(storage.list_files(bucket.uri)) == ["a.txt", "a/b/c.txt", "a/z.txt", "b.txt", "c/1.txt", "c/2.txt"]
    assert list(storage.list_files(f"{bucket.uri}/a/")) == ["b/c.txt", "z.txt"]
    assert list(storage.list_names(bucket.uri)) == ["a", "a.txt", "b.txt", "c"]
    assert list(storage.list_names(f"{bucket.uri}/a")) == ["b", "z.txt"]
    assert list(storage.list_files(f"{bucket.uri}/missing")) == list(storage.list_names(f"{bucket.uri}/missing")) == []
    files = list(storage.walk(f"{bucket.uri}/"))
    names = ["a/b/c.txt", "a/z.txt", "a.txt", "b.txt", "c/1.txt", "c/2.txt"]
    assert [file.uri for file in files] == [f"{bucket.uri}/{name}" for name in names]
    assert {file.size for file in files} == {5}
    assert all(file.revision == storage.revision(file.uri) and file.mtime_ns > 0 for file in files)
    assert storage.revision(f"{bucket.uri}/a") == storage.revision(f"{bucket.uri}/missing") == ""


def test_many_folders_of_a_store_are_walked_in_order(bucket):
    keys = [f"{number:02d}/photo.jpg" for number in range(40)] + ["20.jpg", "x.jpg"]
    for key in keys:
        bucket.put(key, b"-")
    expected = sorted(keys, key=lambda key: key.split("/"))
    assert [file.uri for file in storage.walk(bucket.uri)] == [f"{bucket.uri}/{key}" for key in expected]


def test_folders_without_a_name_do_not_multiply(bucket):
    if bucket.kind == "gs":
        pytest.skip("this server takes off slashes")
    keys = ["/lead.jpg", "a//double.jpg", "a/1.jpg"]
    for key in keys:
        bucket.put(key, b"-")
    assert [file.uri for file in storage.walk(bucket.uri)] == [f"{bucket.uri}/{key}" for key in keys]
    with pytest.raises(storage.StorageError, match=f"a name with an empty part cannot be used: {bucket.uri}/a//double"):
        storage.read_bytes(f"{bucket.uri}/a//double.jpg")


@pytest.mark.parametrize("size", [0, 1, 20_000_000])
def test_objects_of_all_sizes_are_written_whole(bucket, size):
    contents = bytes(range(251)) * (size // 251 + 1)
    storage.write_bytes(f"{bucket.uri}/file", contents[:size])
    assert storage.checksum(f"{bucket.uri}/file") == (hashlib.sha256(contents[:size]).hexdigest(), size)


def test_an_object_appears_when_the_block_ends(bucket):
    uri = f"{bucket.uri}/a.bin"
    with storage.open_output(uri) as stream:
        stream.write(b"first ")
        assert not storage.exists(uri)
        stream.write(b"second")
    with storage.open_mapped(uri) as stream:
        assert stream.read() == b"first second"


def test_lines_that_a_dying_writer_began_are_no_object(bucket):
    with pytest.raises(OSError, match="the writer died"):
        storage.write_text_lines(f"{bucket.uri}/lines", lines_of_a_dying_writer())
    assert bucket.names() == []
    storage.write_text_lines(f"{bucket.uri}/lines", iter(["Zo\u00eb\n", "two\n"]))
    assert storage.read_bytes(f"{bucket.uri}/lines") == "Zo\u00eb\ntwo\n".encode()


def test_copies_between_all_places(bucket, folder):
    folder.mkdir()
    (folder / "here").write_bytes(b"\x00\xff" * 1000)
    storage.copy_file(str(folder / "here"), f"{bucket.uri}/a/there")
    storage.copy_file(f"{bucket.uri}/a/there", f"{bucket.uri}/b/\u00e9 #1")
    storage.copy_file(f"{bucket.uri}/b/\u00e9 #1", str(folder / "below" / "back"))
    assert sorted(bucket.names()) == ["a/there", "b/\u00e9 #1"]
    assert (folder / "below" / "back").read_bytes() == b"\x00\xff" * 1000
    assert os.listdir(folder / "below") == ["back"]


def test_a_copy_of_what_is_not_there_is_none(bucket, folder):
    for target in (f"{bucket.uri}/copy", str(folder / "copy")):
        with pytest.raises(FileNotFoundError):
            storage.copy_file(f"{bucket.uri}/missing", target)
    assert bucket.names() == []
    assert list(storage.list_files(str(folder))) == []


def test_trees_of_objects_are_deleted(bucket):
    for key in ("a/1", "a/b/2", "ab/3"):
        bucket.put(key, b"-")
    storage.delete_tree(f"{bucket.uri}/a")
    storage.delete_tree(f"{bucket.uri}/missing")
    storage.delete_file(f"{bucket.uri}/missing")
    assert list(storage.list_files(bucket.uri)) == ["ab/3"]


def test_a_bucket_can_be_written_to(bucket):
    storage.check_writable(f"{bucket.uri}/galleries")
    assert list(storage.list_files(bucket.uri)) == []


def test_an_object_is_not_on_this_machine(bucket):
    with pytest.raises(storage.StorageError, match="is not on this machine"):
        storage.local_path(f"{bucket.uri}/file")


def test_a_missing_object_is_not_found(bucket):
    for use in (storage.read_bytes, storage.open_input, storage.open_stream, storage.checksum):
        with pytest.raises(FileNotFoundError, match="there is no such object"):
            use(f"{bucket.uri}/missing")


def test_a_missing_bucket_is_told(bucket):
    missing = f"{bucket.kind}://no-such-bucket"
    assert not storage.exists(f"{missing}/file")
    assert list(storage.list_files(missing)) == list(storage.walk(missing)) == list(storage.list_names(missing)) == []
    with pytest.raises(storage.StorageError, match=f"^there is no such bucket: {missing}/file$"):
        storage.write_bytes(f"{missing}/file", b"")
    with pytest.raises(storage.StorageError, match=f"^cannot write to {missing}/a: there is no such bucket: "):
        storage.check_writable(f"{missing}/a")


@pytest.mark.parametrize("kind", object_stores.KINDS)
def test_a_uri_without_a_bucket_is_refused(kind):
    with pytest.raises(storage.StorageError, match=f"it names no bucket: {kind}:///faces"):
        storage.resolve(f"{kind}:///faces")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", object_stores.KINDS)
@pytest.mark.parametrize(
    "use",
    [
        storage.read_bytes,
        storage.type_of,
        lambda uri: list(storage.walk(uri)),
        lambda uri: storage.write_bytes(uri, b""),
    ],
)
def test_a_store_that_cannot_be_reached_is_told_soon(kind, use, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"  # nobody listens there any more
    object_stores.point_to(monkeypatch, kind, address)
    monkeypatch.setattr(stores, "RETRY_SECONDS", 1)
    with pytest.raises(storage.StorageError, match=f"^the store cannot be reached: {kind}://bucket/faces$"):
        use(f"{kind}://bucket/faces")


def test_missing_credentials_are_told(store, bucket, monkeypatch):
    if bucket.kind == "gs":
        pytest.skip("this server lets everybody in")
    bucket.put("file", b"-")
    for name in object_stores.CREDENTIALS:
        monkeypatch.delenv(name)
    with pytest.raises(
        storage.StorageError, match=r"^the store denies access; the credentials may be .*: s3://.*/file$"
    ):
        storage.read_bytes(f"{bucket.uri}/file")


def test_a_file_has_nothing_in_it_and_that_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(storage.StorageError, match="is a file, not a folder"):
        list(storage.list_names(str(tmp_path / "file")))
