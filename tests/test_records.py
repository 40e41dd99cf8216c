"""Ids that stay the same from run to run and machine to machine, and names that can be printed."""

import fakes
import numpy as np
import pytest

from celebface.indexing.schemas import LEDGER, Reason, Status
from celebface.models import faces
from celebface.models.faces import FaceCrop, PhotoFaces
from celebface.transforms import records
from celebface.transforms.records import PhotoRef

SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of b"abc"


# --- ids --------------------------------------------------------------------------------------------------------------


def test_ids_are_those_of_every_other_run():
    assert PhotoRef.of("/photos/ann/1.jpg", "ann").item_id == "8b8780efb1e2c133"
    assert records.image_id(SHA256) == "ba7816bf8f01cfea"
    assert records.face_id(SHA256, "ann", 0) == "73acb014ba7cade9"


def test_an_item_is_its_place_and_its_person():
    ref = PhotoRef.of("/photos/ann/1.jpg", "ann", "5-1", Reason.UNSUPPORTED_TYPE)
    assert (ref.uri, ref.identity, ref.revision, ref.listed) == (
        "/photos/ann/1.jpg",
        "ann",
        "5-1",
        Reason.UNSUPPORTED_TYPE,
    )
    assert PhotoRef.of("/photos/ann/1.jpg", "ann").item_id == ref.item_id  # the same item, in another state
    others = [("/photos/ann/1.jpg", ""), ("/photos/ann/1.jpg", "bob"), ("/photos/ann/2.jpg", "ann")]
    assert len({ref.item_id, *(PhotoRef.of(*other).item_id for other in others)}) == 4


def test_place_and_person_are_kept_apart():
    assert PhotoRef.of("/photos/a", "nn").item_id != PhotoRef.of("/photos/an", "n").item_id


def test_names_that_look_alike_are_different_items():
    assert PhotoRef.of("/photos/caf\udce9.jpg").item_id != PhotoRef.of("/photos/caf\\xe9.jpg").item_id
    assert PhotoRef.of("/photos/Zo\u00eb.jpg").item_id != PhotoRef.of("/photos/Zoe\u0308.jpg").item_id


def test_a_face_is_its_photo_its_person_and_its_place_in_the_photo():
    ids = {
        records.face_id(SHA256, "ann", 0),
        records.face_id(SHA256, "ann", 1),
        records.face_id(SHA256, "bob", 0),
        records.face_id(SHA256[::-1], "ann", 0),
        records.face_id(SHA256, "", 0),
    }
    assert len(ids) == 5
    assert {len(each) for each in ids} == {16}


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("/photos/ann/1.jpg", "/photos/ann/1.jpg"),
        ("/photos/Zoë/张伟.jpg", "/photos/Zoë/张伟.jpg"),
        ("/photos/caf\udce9.jpg", "/photos/caf\\xe9.jpg"),
        ("/photos/\udcff\udcfe", "/photos/\\xff\\xfe"),
        ("gs://bucket/a b.jpg", "gs://bucket/a b.jpg"),
    ],
)
def test_printable(uri, text):
    assert records.printable(uri) == text
    assert text.encode().decode() == text  # what goes into a table is UTF-8


# --- outcomes ---------------------------------------------------------------------------------------------------------


def test_the_ledger_row_of_a_photo_that_is_done():
    outcome = fakes.photo_outcome("/photos/caf\udce9.jpg", "ann", vectors=np.eye(2))
    row = outcome.ledger_row()
    assert row == {
        "item_id": outcome.ref.item_id,
        "uri": "/photos/caf\\xe9.jpg",
        "identity": "ann",
        "status": "done",
        "stage": "encode",
        "reason": "",
        "detail": "",
        "faces": 2,
    }
    assert list(row) == LEDGER.names


@pytest.mark.parametrize(("make", "status"), [(records.rejected, Status.REJECTED), (records.skipped, Status.SKIPPED)])
def test_the_ledger_row_of_a_photo_that_is_lost(make, status):
    ref = PhotoRef.of("/photos/ann/1.jpg", "ann")
    outcome = make(ref, "fetch", Reason.NOT_FOUND, "there is no such file")
    assert outcome.ledger_row() == {
        "item_id": ref.item_id,
        "uri": "/photos/ann/1.jpg",
        "identity": "ann",
        "status": str(status),
        "stage": "fetch",
        "reason": "not_found",
        "detail": "there is no such file",
        "faces": 0,
    }
    assert (outcome.rows, outcome.shard_key) == ((), ref.item_id)


@pytest.mark.parametrize(
    ("kept", "found", "detail"), [(2, 2, ""), (1, 3, "2 of 3 faces left out"), (100, 101, "1 of 101 faces left out")]
)
def test_faces_left_out_are_told(kept, found, detail):
    face = FaceCrop(np.zeros(4, np.int32), 0.9, np.zeros((5, 2), np.float32), 8.0, np.zeros((160, 160, 3), np.uint8))
    assert records.kept_faces(PhotoFaces(640, 480, (face,) * kept, found)) == detail


def test_every_fault_of_a_photo_has_a_reason_in_the_closed_list():
    faults = faces.PhotoFault.__subclasses__()
    assert len(faults) == 11
    assert len({Reason(fault.reason) for fault in faults} - {Reason.NONE}) == len(faults)
