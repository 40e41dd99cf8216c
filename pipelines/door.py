"""The door: people enrolled by a photo each, and who of them stands before it. Nothing is trained."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
from rich.progress import track

from celebface.indexing import calibrate, storage
from celebface.indexing.calibration import Calibration, Verdict, verdict
from celebface.indexing.rates import Tail
from celebface.indexing.roster import Roster
from celebface.indexing.schemas import Reason
from celebface.indexing.searcher import Neighbour
from celebface.models.encoder_card import EncoderCard
from celebface.models.faces import PhotoFault
from celebface.pipelines import terminal
from celebface.pipelines.comparison import MainFace, Threshold
from celebface.pipelines.embedder import Embedder, by_few
from celebface.pipelines.photo_bytes import read_photo, shown
from celebface.transforms import folders
from celebface.transforms.files import UnreadableFile
from celebface.transforms.folders import ListedFile, NoSuchSource
from celebface.transforms.records import Person, face_id, printable

_LISTED = 3  # people told of, nearest first


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A photo of the folder by which nobody is enrolled.

    Attributes:
      photo: Its place.
      reason: Why.
      detail: The same for people.
    """

    photo: str
    reason: str
    detail: str


@dataclasses.dataclass(frozen=True, eq=False)
class Enrolment:
    """Who is let in.

    Attributes:
      roster: Their faces.
      faces: The same by face id, with their photos.
      left_out: Photos without a usable face.
      calibration: How near strangers come to them.
    """

    roster: Roster
    faces: dict[str, MainFace]
    left_out: list[LeftOut]
    calibration: Calibration

    def threshold(self, tau: float | None = None, far: float | None = None) -> Threshold:
        """The threshold for so many people (1:N).

        Args:
          tau: It is given.
          far: Share of strangers, who are not enrolled, that may be let in; None for the usual one.

        Raises:
          Unstated: If the encoder's card does not say enough.
        """
        people = terminal.counted(self.calibration.people, "enrolled person", "enrolled people")
        of_what = f"for a stranger before {people}"
        return Threshold.of(self.calibration, of_what, tau, far)


@dataclasses.dataclass(frozen=True)
class Admission:
    """The door's answer.

    Attributes:
      opened: Whether it is somebody who is enrolled, and nobody else is as near.
      verdict: Of the nearest person.
      nearest: The nearest people, at most three.
      margin: How much farther the second is than the first; None if there is none.
      similarity: To the nearest, in per cent.
      threshold: What was judged by.
    """

    opened: bool
    verdict: Verdict
    nearest: list[Neighbour]
    margin: float | None
    similarity: float
    threshold: Threshold


def list_photos(folder: str) -> list[ListedFile]:
    """Photos of a folder of people, <name>.jpg or <name>/...jpg, local or in a store; other files are passed over.

    Raises:
      NoSuchSource: If there is no such folder, or no photo in it.
      StorageError: If the store does not answer.
    """
    if storage.type_of(folder) != "folder":
        raise NoSuchSource(f"there is no folder {shown(folder)}")
    listed = folders.list_folder(folder, folder, (), ())
    photos = [file for file in listed if file.fault != Reason.UNSUPPORTED_TYPE]
    if not photos:
        raise NoSuchSource(f"there is no photo in {shown(folder)}; people are enrolled as <name>.jpg or <name>/...jpg")
    return photos


def enroll(photos: Sequence[ListedFile], embedder: Embedder, card: EncoderCard) -> Enrolment:
    """Enrols the people of some photos by the largest, most central face of each.

    Raises:
      NoSuchSource: If no photo has a usable face.
    """
    labels: list[Neighbour] = []
    vectors: list[np.ndarray] = []
    faces: dict[str, MainFace] = {}
    left_out: list[LeftOut] = []
    for some in track(by_few(photos), "enrolling", console=terminal.error_console(), transient=True):
        files, data = [], []
        for file in some:
            try:
                data.append(read_photo(file.uri))
                files.append(file)
            except UnreadableFile as fault:
                left_out.append(LeftOut(shown(file.uri), str(fault.reason), str(fault)))
        for file, photo, embedded in zip(files, data, embedder.embed(data), strict=True):
            person = Person.of(printable(file.name))
            if not person.name:
                left_out.append(LeftOut(shown(file.uri), str(Reason.NO_IDENTITY), "its name is of nobody"))
                continue
            try:
                face = MainFace.of(file.uri, embedded)
            except PhotoFault as fault:
                left_out.append(LeftOut(shown(file.uri), fault.reason, str(fault)))
                continue
            number = face_id(hashlib.sha256(photo).hexdigest(), person.identity_id, 0)
            labels.append(Neighbour(person.name, person.identity_id, 0.0, number, face.photo))
            vectors.append(face.vector)
            faces[number] = face
    if not labels:
        raise NoSuchSource(
            f"nobody is enrolled: none of {terminal.counted(len(photos), 'photo')} has a usable face, the first is "
            f"{left_out[0].photo}: {left_out[0].detail}"
        )
    roster = Roster(np.stack(vectors), labels)
    people = roster.faces_of_people()
    calibration = calibrate.of_people(
        "a stranger against all who are enrolled",
        people,
        {who: len(theirs) for who, theirs in people.items()},
        roster.nearest_people,
        card.encoder_id,
        Tail.through([dataclasses.asdict(point) for point in card.operating_points], card.evidence),
    )
    return Enrolment(roster, faces, left_out, calibration)


def admit(face: MainFace, enrolled: Enrolment, threshold: Threshold) -> Admission:
    """Judges who stands before the door."""
    (nearest,) = enrolled.roster.nearest_people(face.vector[None], _LISTED)
    margin = nearest[1].distance - nearest[0].distance if len(nearest) > 1 else None
    judged = verdict(nearest[0].distance, margin, threshold.tau)
    similarity = enrolled.calibration.curve.percent(nearest[0].distance)
    return Admission(judged is Verdict.MATCH, judged, nearest, margin, similarity, threshold)
