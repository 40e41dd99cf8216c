"""Reading photos' bytes: every fault a row, no file that blocks, no more bytes than allowed."""

import hashlib
import io
import os
import threading

import fakes
import pytest
from apache_beam import Create, Map
from apache_beam.testing.util import assert_that, equal_to

from celebface.indexing import storage
from celebface.indexing.schemas import Reason
from celebface.transforms import files
from celebface.transforms.files import UnreadableFile
from celebface.transforms.read import ReadPhotos
from celebface.transforms.records import EncodedPhoto, Outcome
from celebface.transforms.staged import write_photos

LIMIT = 100


def fault(path) -> tuple[Reason, str]:
    with pytest.raises(UnreadableFile) as caught:
        files.read_file(str(path), LIMIT)
    return caught.value.reason, str(caught.value)


def object_fault(uri: str) -> tuple[Reason, str]:
    with pytest.raises(UnreadableFile) as caught:
        files.read_object(uri, LIMIT)
    return caught.value.reason, str(caught.value)


def photo(encoded: EncodedPhoto) -> tuple[str, bytes, str]:
    return encoded.ref.uri, encoded.data, encoded.ref.content_sha256


def loss(outcome: Outcome) -> tuple[str, str, str, str, str]:
    return outcome.ref.uri, str(outcome.status), outcome.stage, str(outcome.reason), outcome.detail


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Bucket:
    """A store of objects; each is bytes, or the fault that it gives."""

    def __init__(self, objects: dict[str, bytes | Exception]):
        self.objects = objects
        self.asked: list[str] = []

    def open_input(self, uri: str) -> io.BytesIO:
        self.asked.append(uri)
        found = self.objects.get(uri, FileNotFoundError(uri))
        if isinstance(found, Exception):
            raise found
        return io.BytesIO(found)


@pytest.fixture
def bucket(monkeypatch) -> Bucket:
    """What is behind every URI."""
    store = Bucket({})
    monkeypatch.setattr(storage, "open_input", store.open_input)
    return store


# --- one file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contents", [b"", b"\xff\xd8 a photo", bytes(100)], ids=["empty", "photo", "at the limit"])
def test_a_file_is_read_whole(tmp_path, contents):
    (tmp_path / "a.jpg").write_bytes(contents)
    assert files.read_file(str(tmp_path / "a.jpg"), LIMIT) == contents


def test_a_link_is_read_as_what_it_leads_to(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a photo")
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    assert files.read_file(str(tmp_path / "link.jpg"), LIMIT) == b"a photo"


def test_a_missing_file(tmp_path):
    assert fault(tmp_path / "a.jpg") == (Reason.NOT_FOUND, "there is no such file")


def test_a_link_that_leads_nowhere(tmp_path):
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    assert fault(tmp_path / "link.jpg") == (Reason.NOT_FOUND, "a link that leads nowhere")


def test_a_link_to_itself(tmp_path):
    (tmp_path / "link.jpg").symlink_to("link.jpg")
    assert fault(tmp_path / "link.jpg") == (Reason.UNREADABLE, "Too many levels of symbolic links")


def test_a_folder(tmp_path):
    assert fault(tmp_path) == (Reason.UNREADABLE, "not a regular file")


@pytest.mark.timeout(10)
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    assert fault(tmp_path / "a.jpg") == (Reason.UNREADABLE, "not a regular file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a photo")
    (tmp_path / "a.jpg").chmod(0)
    assert fault(tmp_path / "a.jpg") == (Reason.UNREADABLE, "Permission denied")


def test_a_file_that_the_system_does_not_give(tmp_path, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", path)

    (tmp_path / "a.jpg").write_bytes(b"a photo")
    monkeypatch.setattr(files, "open", refuse, raising=False)
    assert fault(tmp_path / "a.jpg") == (Reason.UNREADABLE, "Permission denied")


def test_a_file_over_the_limit_is_not_opened(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(bytes(101))
    monkeypatch.setattr(files, "open", None, raising=False)
    assert fault(tmp_path / "a.jpg") == (Reason.TOO_MANY_BYTES, "101 bytes, the limit is 100")


def test_a_file_that_grows_is_read_no_further_than_the_limit(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"small when it was looked at")
    grown = io.BytesIO(bytes(10_000))
    grown.close = lambda: None
    monkeypatch.setattr(files, "open", lambda path, mode: grown, raising=False)
    assert fault(tmp_path / "a.jpg") == (Reason.TOO_MANY_BYTES, "the limit is 100 bytes")
    assert grown.tell() == 101


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_must_allow_something(limit):
    with pytest.raises(ValueError, match=f"max_bytes must be positive, not {limit}"):
        ReadPhotos(limit)


# --- one object -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contents", [b"", b"\xff\xd8 a photo", bytes(100)], ids=["empty", "photo", "at the limit"])
def test_an_object_is_read_whole(bucket, contents):
    bucket.objects["gs://bucket/a.jpg"] = contents
    assert files.read_object("gs://bucket/a.jpg", LIMIT) == contents


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileNotFoundError("gs://bucket/a.jpg"), (Reason.NOT_FOUND, "there is no such object")),
        (PermissionError(13, "Forbidden"), (Reason.UNREADABLE, "the store does not give it")),
        (OSError("no answer from 169.254.0.1"), (Reason.UNREADABLE, "the store does not give it")),
        (storage.StorageError("az:// is not a place"), (Reason.UNREADABLE, "the store does not give it")),
    ],
)
def test_an_object_that_cannot_be_had(bucket, error, expected):
    bucket.objects["gs://bucket/a.jpg"] = error
    assert object_fault("gs://bucket/a.jpg") == expected


def test_an_object_over_the_limit_is_read_no_further(bucket, monkeypatch):
    large = io.BytesIO(bytes(10_000))
    large.close = lambda: None
    monkeypatch.setattr(storage, "open_input", lambda uri: large)
    assert object_fault("gs://bucket/a.jpg") == (Reason.TOO_MANY_BYTES, "the limit is 100 bytes")
    assert large.tell() == 101


def test_a_connection_lost_on_the_way(monkeypatch):
    class Broken(io.BytesIO):
        def read(self, size):
            raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(storage, "open_input", lambda uri: Broken())
    assert object_fault("gs://bucket/a.jpg") == (Reason.UNREADABLE, "the store does not give it")


# --- in a pipeline ----------------------------------------------------------------------------------------------------


def test_every_photo_is_handed_on_or_lost_with_a_reason(tmp_path):
    def place(name: str) -> str:
        return str(tmp_path / name)

    (tmp_path / "good.jpg").write_bytes(b"a photo")
    (tmp_path / "empty.jpg").write_bytes(b"")  # for the decoder to judge
    (tmp_path / "large.jpg").write_bytes(bytes(101))
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    names = ["good.jpg", "empty.jpg", "large.jpg", "folder.jpg", "link.jpg", "pipe.jpg", "missing.jpg"]

    with fakes.pipeline() as pipeline:
        items = pipeline | Create([(fakes.item(place(name), "ann"), None) for name in names])
        photos, lost = items | ReadPhotos(LIMIT)
        good = [
            (place("good.jpg"), b"a photo", sha256(b"a photo")),
            (place("empty.jpg"), b"", sha256(b"")),
        ]
        losses = [
            (place("large.jpg"), "rejected", "read", "too_many_bytes", "101 bytes, the limit is 100"),
            (place("folder.jpg"), "rejected", "read", "unreadable", "not a regular file"),
            (place("link.jpg"), "rejected", "read", "not_found", "a link that leads nowhere"),
            (place("pipe.jpg"), "rejected", "read", "unreadable", "not a regular file"),
            (place("missing.jpg"), "rejected", "read", "not_found", "there is no such file"),
        ]
        assert_that(photos | "Photo" >> Map(photo), equal_to(good), "Good")
        assert_that(lost | "Loss" >> Map(loss), equal_to(losses), "Lost")

    assert fakes.counters(pipeline.result, "read") == {
        "items_in": 7,
        "items_out": 2,
        "lost_too_many_bytes": 1,
        "lost_unreadable": 2,
        "lost_not_found": 2,
    }


def test_photos_that_were_fetched_are_read_from_their_part(tmp_path):
    contents = [b"a photo", bytes(101)]  # the limit was that of the fetch
    refs = [
        fakes.item(f"https://example.org/{number}.jpg", "ann", etag='"7"', content_sha256=sha256(data))
        for number, data in enumerate(contents)
    ]
    photos = [(ref.item_id, ref.etag, "", ref.content_sha256, data) for ref, data in zip(refs, contents, strict=True)]
    items = list(zip(refs, write_photos(str(tmp_path), photos), strict=True))
    with fakes.pipeline() as pipeline:
        found, lost = pipeline | Create(items[::-1]) | ReadPhotos(LIMIT)
        expected = list(zip(refs, contents, strict=True))
        assert_that(found | "Photo" >> Map(lambda each: (each.ref, each.data)), equal_to(expected), "Good")
        assert_that(lost, equal_to([]), "Lost")
    assert fakes.counters(pipeline.result, "read") == {"items_in": 2, "items_out": 2}


@pytest.mark.timeout(60)
def test_objects_are_read_many_at_a_time(bucket, monkeypatch):
    together = threading.Barrier(16)  # opens when so many wait at it; else the reads never end

    def open_input(uri: str) -> io.BytesIO:
        together.wait(30)
        return bucket.open_input(uri)

    monkeypatch.setattr(storage, "open_input", open_input)
    bucket.objects = {f"gs://bucket/{number}.jpg": b"photo %d" % number for number in range(48)}
    items = [(fakes.item(uri, "ann", "1-1"), None) for uri in bucket.objects]
    with fakes.pipeline() as pipeline:
        photos, lost = pipeline | Create(items, reshuffle=False) | ReadPhotos(LIMIT)
        expected = [(uri, data, sha256(data)) for uri, data in bucket.objects.items()]
        assert_that(photos | "Photo" >> Map(photo), equal_to(expected), "Good")
        assert_that(lost, equal_to([]), "Lost")
    assert sorted(bucket.asked) == sorted(bucket.objects)
    assert fakes.counters(pipeline.result, "read") == {"items_in": 48, "items_out": 48}


@pytest.mark.parametrize("count", [1, 15, 16, 17, 40])
def test_every_object_is_handed_on_or_lost_with_a_reason(bucket, tmp_path, count):
    kinds = [b"a photo", OSError("no answer"), bytes(101), FileNotFoundError("gone")]
    uris = [f"s3://bucket/{number:02d}.jpg" for number in range(count)]
    bucket.objects = {uri: kinds[number % 4] for number, uri in enumerate(uris)}
    (tmp_path / "a.jpg").write_bytes(b"a file")  # among the objects, and not kept waiting by them
    items = [(fakes.item(uri, "ann", "1-1"), None) for uri in [*uris, str(tmp_path / "a.jpg")]]
    ends = [
        None,
        ("unreadable", "the store does not give it"),
        ("too_many_bytes", "the limit is 100 bytes"),
        ("not_found", "there is no such object"),
    ]
    with fakes.pipeline() as pipeline:
        photos, lost = pipeline | Create(items) | ReadPhotos(LIMIT)
        good = [(uri, b"a photo", sha256(b"a photo")) for uri in uris[::4]]
        good.append((str(tmp_path / "a.jpg"), b"a file", sha256(b"a file")))
        losses = [(uri, "rejected", "read", *ends[n % 4]) for n, uri in enumerate(uris) if n % 4]
        assert_that(photos | "Photo" >> Map(photo), equal_to(good), "Good")
        assert_that(lost | "Loss" >> Map(loss), equal_to(losses), "Lost")
    counted = {"items_in": count + 1, "items_out": len(good)}
    for *_, reason, _ in losses:
        counted[f"lost_{reason}"] = counted.get(f"lost_{reason}", 0) + 1
    assert fakes.counters(pipeline.result, "read") == counted
