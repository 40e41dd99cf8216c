"""Compare-and-swap: of writers who have read the same, one writes and the others are told; in folders and in stores."""

import concurrent.futures
import pathlib
import threading

import object_stores
import pytest

from celebface.indexing import storage, stores, swap
from celebface.pipelines import cli

WRITERS, ROUNDS = 4, 15


@pytest.fixture(scope="module", params=["local", *object_stores.SWAPPING])
def store(request):
    if request.param == "local":
        yield "local", ""
        return
    with object_stores.server(request.param) as address:
        yield request.param, address


@pytest.fixture
def place(store, monkeypatch, tmp_path) -> str:
    """A folder in which nothing is."""
    if store[0] == "local":
        return str(tmp_path / "gallery")
    object_stores.point_to(monkeypatch, *store)
    return f"{object_stores.make_bucket(*store).uri}/galleries/a b"


def test_what_is_not_there_is_nothing_and_can_be_made_once(place):
    name = storage.join(place, "LATEST")
    data, tag = storage.read_tagged(name)
    assert data is None
    storage.replace_tagged(name, b"v1\n", tag)
    assert storage.read_bytes(name) == b"v1\n"
    with pytest.raises(storage.Conflict, match=f"^{name} was changed by somebody else meanwhile$"):
        storage.replace_tagged(name, b"v2\n", tag)
    assert storage.read_bytes(name) == b"v1\n"


def test_what_is_still_there_is_replaced_and_what_has_changed_is_not(place):
    name = storage.join(place, "LATEST")
    storage.write_bytes(name, b"v1\n")
    data, first = storage.read_tagged(name)
    assert data == b"v1\n"
    storage.replace_tagged(name, b"v2\n", first)
    data, second = storage.read_tagged(name)
    assert (data, second != first) == (b"v2\n", True)
    with pytest.raises(storage.Conflict):
        storage.replace_tagged(name, b"v3\n", first)
    storage.replace_tagged(name, b"v3\n", second)
    assert storage.read_bytes(name) == b"v3\n"


def test_what_was_deleted_meanwhile_is_not_written(place):
    name = storage.join(place, "LATEST")
    storage.write_bytes(name, b"v1\n")
    _, tag = storage.read_tagged(name)
    storage.delete_file(name)
    with pytest.raises(storage.Conflict):
        storage.replace_tagged(name, b"v2\n", tag)
    assert storage.read_tagged(name)[0] is None


def test_an_empty_file_is_something(place):
    name = storage.join(place, "LATEST")
    storage.write_bytes(name, b"")
    data, tag = storage.read_tagged(name)
    assert data == b""
    storage.replace_tagged(name, b"v1\n", tag)
    assert storage.read_bytes(name) == b"v1\n"


def test_what_already_holds_the_same_is_no_conflict(place):
    """As if the answer to the first request had been lost, and it were sent again."""
    name = storage.join(place, "LATEST")
    _, tag = storage.read_tagged(name)
    storage.replace_tagged(name, b"v1\n", tag)
    storage.replace_tagged(name, b"v1\n", tag)
    assert storage.read_bytes(name) == b"v1\n"


def test_of_several_writers_at_once_one_wins(place):
    name = storage.join(place, "LATEST")
    gate = threading.Barrier(WRITERS)

    def write(number: int) -> bool:
        _, tag = storage.read_tagged(name)
        gate.wait()
        try:
            storage.replace_tagged(name, b"writer %d of round %d\n" % (number, turn), tag)
        except storage.Conflict:
            return False
        return True

    with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        for turn in range(ROUNDS):
            won = list(pool.map(write, range(WRITERS)))
            assert sum(won) == 1
            assert storage.read_bytes(name) == b"writer %d of round %d\n" % (won.index(True), turn)


def test_a_missing_bucket_is_told(store, monkeypatch):
    if store[0] == "local":
        pytest.skip("folders are made")
    object_stores.point_to(monkeypatch, *store)
    scheme = "s3" if store[0] == "s3" else "gs"
    with pytest.raises(storage.StorageError, match=f"{scheme}://no-such-bucket/LATEST$") as told:
        storage.replace_tagged(f"{scheme}://no-such-bucket/LATEST", b"v1\n", "")
    assert str(told.value).isprintable()


@pytest.mark.parametrize(("kind", "scheme"), [("s3", "s3"), ("fake-gcs", "gs")])
@pytest.mark.parametrize("use", [storage.read_tagged, lambda uri: storage.replace_tagged(uri, b"v1\n", "")])
def test_a_store_that_cannot_be_reached_is_told(kind, scheme, use, monkeypatch):
    object_stores.point_to(monkeypatch, kind, "http://127.0.0.1:1")  # where nobody listens
    monkeypatch.setattr(stores, "RETRY_SECONDS", 0.5)
    with pytest.raises(storage.StorageError, match=f"^the store cannot be reached: {scheme}://bucket/LATEST$"):
        use(f"{scheme}://bucket/LATEST")


@pytest.mark.parametrize(
    ("scheme", "library", "extra"), [("s3", "boto3", "aws"), ("gs", "google.cloud.storage", "gcp")]
)
def test_a_missing_library_is_told(scheme, library, extra, monkeypatch):
    monkeypatch.setattr(swap, "_is_installed", lambda module: False)
    told = rf"^to publish to {scheme}://bucket/x takes {library}: pip install '.\[{extra}\]' in celebface's folder$"
    for use in (storage.check_swappable, storage.read_tagged, lambda uri: storage.replace_tagged(uri, b"", "")):
        with pytest.raises(storage.StorageError, match=told):
            use(f"{scheme}://bucket/x")


def test_a_lock_ends_with_its_process(tmp_path):
    """The lock's file stays, and holds nobody up."""
    name = str(tmp_path / "LATEST")
    storage.replace_tagged(name, b"v1\n", "")
    assert {path.name for path in tmp_path.iterdir()} == {"LATEST"}
    storage.replace_tagged(name, b"v2\n", storage.read_tagged(name)[1])
    assert pathlib.Path(name).read_bytes() == b"v2\n"


def test_a_place_is_tried_whether_it_honours_conditions(place):
    assert storage.honours_conditions(place) is True
    assert list(storage.list_files(place)) == []


def test_a_store_that_ignores_conditions_is_found_out(monkeypatch):
    """As the emulator in Python does."""
    with object_stores.server("gs") as address:
        object_stores.point_to(monkeypatch, "gs", address)
        bucket = object_stores.make_bucket("gs", address)
        assert storage.honours_conditions(f"{bucket.uri}/galleries") is False
        assert bucket.names() == []


def test_a_build_tells_of_a_missing_library_before_it_starts(encoder, tmp_path, monkeypatch, capsys):
    object_stores.point_to(monkeypatch, "s3", "http://127.0.0.1:1")  # where nobody listens
    monkeypatch.setattr(swap, "_is_installed", lambda module: False)
    (tmp_path / "ann.jpg").write_bytes(b"x")
    assert cli.main(["build-gallery", f"--source={tmp_path}", "--output_root=s3://bucket/x"]) == 2
    told = "to publish to s3://bucket/x/celebrities takes boto3: pip install '.[aws]' in celebface's folder"
    assert capsys.readouterr().err == f"celebface build-gallery: {told}\n"
