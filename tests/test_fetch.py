"""Reading photos' bytes: every fault a row, no file that blocks, no more bytes than allowed."""

import hashlib
import io
import os

import fakes
import pytest
from apache_beam import Create, Map
from apache_beam.testing.util import assert_that, equal_to

from celebface.indexing.schemas import Reason
from celebface.transforms import fetch
from celebface.transforms.fetch import FetchPhotos, FetchPolicy, UnreadableFile
from celebface.transforms.records import EncodedPhoto, Outcome, PhotoRef

POLICY = FetchPolicy(max_bytes=100)


def fault(path) -> tuple[Reason, str]:
    with pytest.raises(UnreadableFile) as caught:
        fetch.read_photo(str(path), POLICY)
    return caught.value.reason, str(caught.value)


def photo(encoded: EncodedPhoto) -> tuple[str, bytes, str]:
    return encoded.ref.uri, encoded.data, encoded.content_sha256


def loss(outcome: Outcome) -> tuple[str, str, str, str, str]:
    return outcome.ref.uri, str(outcome.status), outcome.stage, str(outcome.reason), outcome.detail


# --- one file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contents", [b"", b"\xff\xd8 a photo", bytes(100)], ids=["empty", "photo", "at the limit"])
def test_a_file_is_read_whole(tmp_path, contents):
    (tmp_path / "a.jpg").write_bytes(contents)
    assert fetch.read_photo(str(tmp_path / "a.jpg"), POLICY) == contents


def test_a_link_is_read_as_what_it_leads_to(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a photo")
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    assert fetch.read_photo(str(tmp_path / "link.jpg"), POLICY) == b"a photo"


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
    monkeypatch.setattr(fetch, "open", refuse, raising=False)
    assert fault(tmp_path / "a.jpg") == (Reason.UNREADABLE, "Permission denied")


def test_a_file_over_the_limit_is_not_opened(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(bytes(101))
    monkeypatch.setattr(fetch, "open", None, raising=False)
    assert fault(tmp_path / "a.jpg") == (Reason.TOO_MANY_BYTES, "101 bytes, the limit is 100")


def test_a_file_that_grows_is_read_no_further_than_the_limit(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"small when it was looked at")
    grown = io.BytesIO(bytes(10_000))
    grown.close = lambda: None
    monkeypatch.setattr(fetch, "open", lambda path, mode: grown, raising=False)
    assert fault(tmp_path / "a.jpg") == (Reason.TOO_MANY_BYTES, "the limit is 100 bytes")
    assert grown.tell() == 101


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_must_allow_something(limit):
    with pytest.raises(ValueError, match=f"max_bytes must be positive, not {limit}"):
        FetchPolicy(max_bytes=limit)


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
        photos, lost = pipeline | Create([PhotoRef.of(place(name), "ann") for name in names]) | FetchPhotos(POLICY)
        good = [
            (place("good.jpg"), b"a photo", hashlib.sha256(b"a photo").hexdigest()),
            (place("empty.jpg"), b"", hashlib.sha256(b"").hexdigest()),
        ]
        losses = [
            (place("large.jpg"), "rejected", "fetch", "too_many_bytes", "101 bytes, the limit is 100"),
            (place("folder.jpg"), "rejected", "fetch", "unreadable", "not a regular file"),
            (place("link.jpg"), "rejected", "fetch", "not_found", "a link that leads nowhere"),
            (place("pipe.jpg"), "rejected", "fetch", "unreadable", "not a regular file"),
            (place("missing.jpg"), "rejected", "fetch", "not_found", "there is no such file"),
        ]
        assert_that(photos | "Photo" >> Map(photo), equal_to(good), "Good")
        assert_that(lost | "Loss" >> Map(loss), equal_to(losses), "Lost")

    counted = fakes.counters(pipeline.result, "fetch")
    assert counted == {
        "items_in": 7,
        "items_out": 2,
        "lost_too_many_bytes": 1,
        "lost_unreadable": 2,
        "lost_not_found": 2,
    }
