"""Who and what of a gallery is meant by names, places and ids, and the tombstones that keep it out."""

import collections
import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from celebface.indexing import removal, tombstones
from celebface.indexing.tombstones import Key, Mark, Tombstones
from celebface.pipelines.arguments import UsageError
from celebface.transforms.folders import absolute_path
from celebface.transforms.records import Person, printable
from celebface.transforms.web.client import clean_url
from celebface.transforms.web.policy import WebFault

_ROWS_AT_ONCE = 4096
ID = re.compile(r"[0-9a-f]{16}")


@dataclasses.dataclass
class _Known:
    """A person of the gallery."""

    names: set[str] = dataclasses.field(default_factory=set)
    external_ids: set[str] = dataclasses.field(default_factory=set)
    aliases: set[str] = dataclasses.field(default_factory=set)
    contents: set[str] = dataclasses.field(default_factory=set)


class People:
    """What a version says of people, and of the photos and faces asked for.

    Args:
      version: URI of the version; empty if there is none.
      uris: Places of photos that are asked for.
      faces: Face ids that are.
    """

    def __init__(self, version: str, uris: Sequence[str] = (), faces: Sequence[str] = ()):
        self.people: dict[str, _Known] = collections.defaultdict(_Known)
        self.contents_of: dict[str, set[str]] = collections.defaultdict(set)
        self.faces: set[str] = set()
        self._audited = removal.read_audit(version) if version else removal.Audited()
        self._mistaken = set[str]().union(*self._audited.shown.values())
        self._photo_of: dict[str, tuple[str, str]] = {}  # of faces that show somebody else: who is said to be, content
        places, wanted = {place for text in uris for place in _places(text)}, set(faces)
        for row in _rows(version) if version else ():
            content, face = row.get("content_sha256") or "", row.get("face_id") or ""
            if face in wanted:
                self.faces.add(face)
            if row.get("uri") in places:
                self.contents_of[row["uri"]].add(content)
            if row.get("identity_id"):
                self._add_to_person(row, content, face)

    def _add_to_person(self, row: Mapping[str, Any], content: str, face: str) -> None:
        known = self.people[row["identity_id"]]
        known.names.add(row.get("identity") or "")
        known.external_ids.add(row.get("external_id") or "")
        known.aliases.update(row.get("aliases") or ())
        if face in self._mistaken and content:
            self._photo_of[face] = (row["identity_id"], content)
        if face and face not in self._audited.strangers:  # what was rejected may be anything, as a site's placeholder
            known.contents.add(content)

    def under_other_names(self, identity_id: str) -> Iterator[tuple[str, str]]:
        """Faces that the audit found to show somebody, under the names of others.

        Yields:
          Face id, and the sha256 of the photo, which is empty if it is also given for a third person.
        """
        for face in sorted(self._audited.shown.get(identity_id, ())):
            if face in self._photo_of:
                owner, content = self._photo_of[face]
                others = (known for who, known in self.people.items() if who not in (owner, identity_id))
                yield face, "" if any(content in known.contents for known in others) else content

    def find_person(self, who: str) -> list[str]:
        """Identity ids of whom a text may mean: by id, else by external id, else by name, else by alias."""
        if who in self.people:
            return [who]
        person = Person.of(who, who)
        for is_meant in (
            lambda known: person.external_id in known.external_ids,
            lambda known: person.name in known.names,
            lambda known: person.name in known.aliases,
        ):
            if meant := sorted(identity_id for identity_id, known in self.people.items() if is_meant(known)):
                return meant
        return []


def _rows(version: str) -> Iterator[dict[str, Any]]:
    """The rows of all tables, by what tells who or what they are of; few at a time in memory."""
    columns = ("identity", "identity_id", "external_id", "aliases", "uri", "content_sha256", "face_id")
    for name in removal.tables(version):
        for batch in removal.read_table(version, name, columns).to_batches(_ROWS_AT_ONCE):
            yield from batch.to_pylist()


@dataclasses.dataclass
class Asked:
    """What was asked for, as tombstones.

    Attributes:
      keys: The tombstones.
      unknown: What of it nobody knows.
      namesakes: Who else bears a name of somebody removed.
      under_other_names: Faces that go, as the audit found them to show who is removed.
    """

    keys: list[Key] = dataclasses.field(default_factory=list)
    unknown: list[str] = dataclasses.field(default_factory=list)
    namesakes: set[str] = dataclasses.field(default_factory=set)
    under_other_names: set[str] = dataclasses.field(default_factory=set)


def resolve(
    identities: Sequence[str], uris: Sequence[str], faces: Sequence[str], people: People, standing: Tombstones
) -> Asked:
    """Makes tombstones of what was asked for.

    Raises:
      UsageError: If several people may be meant.
    """
    asked = Asked()
    for who in identities:
        meant = people.find_person(who)
        if len(meant) > 1:
            raise UsageError(f"several people are called {who}; name one by its id: {', '.join(meant)}")
        ids = _ids_of(people.people[meant[0]]) if meant else _ids_of_text(who)
        if not meant and any(standing.has(Mark.IDENTITY, identity_id) for identity_id in ids):
            continue  # taken down before
        if not meant:
            asked.unknown.append(f"--identity {who}")
        namesakes = {identity_id for identity_id in ids if identity_id in people.people} - set(meant)
        asked.namesakes |= namesakes
        asked.keys += [(Mark.IDENTITY, identity_id) for identity_id in sorted({*ids, *meant} - namesakes)]
        if meant:
            asked.keys += [(Mark.PHOTO, content) for content in sorted(people.people[meant[0]].contents - {""})]
            for face, content in people.under_other_names(meant[0]):
                asked.under_other_names.add(face)
                asked.keys += [(Mark.FACE, face), *([(Mark.PHOTO, content)] if content else [])]
    for text in uris:
        places = _places(text)
        known = next((place for place in places if place in people.contents_of), "")
        if not known and not any(standing.has_uri(place) for place in places):
            asked.unknown.append(f"--uri {text}")
        asked.keys += [(Mark.URI, tombstones.uri_hash(place)) for place in ([known] if known else places)]
        asked.keys += [(Mark.PHOTO, content) for content in sorted(people.contents_of.get(known, set()) - {""})]
    for face in faces:
        if face not in people.faces and not standing.has(Mark.FACE, face):
            asked.unknown.append(f"--face {face}")
        asked.keys.append((Mark.FACE, face))
    asked.namesakes -= {value for mark, value in asked.keys if mark == Mark.IDENTITY}
    return asked


def _ids_of(known: _Known) -> set[str]:
    """The ids that a person would have under each of their names."""
    names, external_ids = sorted(known.names | known.aliases), sorted(known.external_ids)
    ids = {Person.of(name).identity_id for name in names}
    ids |= {Person.of("somebody", external_id).identity_id for external_id in external_ids if external_id}
    return ids - {""}


def _ids_of_text(who: str) -> set[str]:
    """The ids that somebody would have of whom only this text is known: a name, an external id, or an id itself."""
    ids = {Person.of(who).identity_id, Person.of("somebody", who).identity_id, who if ID.fullmatch(who) else ""}
    return ids - {""}


def _places(text: str) -> list[str]:
    """A place as it was given, and as sources would name it."""
    places = [text]
    if text.startswith(("http://", "https://")):
        with contextlib.suppress(WebFault):  # then it is none that a source could name
            places.append(clean_url(text))
    elif "://" not in text:
        places.append(printable(absolute_path(text)))
    return list(dict.fromkeys(places))
