"""An opened gallery: ranks over people, and refuses to answer from files that are not its own."""

import dataclasses
import pathlib
import shutil

import fakes
import numpy as np
import pytest

from celebface import indexing
from celebface.indexing import annoy_index, exact_index, open_gallery, publish, search, storage, upkeep
from celebface.indexing.gallery import Gallery
from celebface.indexing.manifest import BadBundle, Manifest
from celebface.indexing.searcher import Neighbour
from celebface.transforms.records import Person

# People with 1 to 39 photos each, 780 faces in all: many more than are looked at for one answer.
VECTORS, PEOPLE = fakes.crowds(range(1, 40), 24, 0.6)
EVERY_NODE = 1_000_000  # makes the index search exhaustively, so that answers are exact on any machine

FILES = ["index/vectors.npy", "index/labels.parquet", "index/faces.ann", "index/calibration.json"]


def neighbour(who: str | Person, distance: float, number: int) -> Neighbour:
    """A person by the face of vector `number`."""
    person = fakes.person(who)
    face = fakes.face_id_of(who, number)
    return Neighbour(person.name, person.identity_id, distance, face, fakes.photo_of(who, number))


def slow_nearest_people(query: np.ndarray, vectors: np.ndarray, people: list[str]) -> list[Neighbour]:
    """Everybody's nearest face, nearest person first."""
    best: dict[str, tuple[float, int]] = {}
    for number, (person, vector) in enumerate(zip(people, vectors.astype(np.float64), strict=True)):
        distance = float(np.sum((vector - query) ** 2))
        best[person] = min(best.get(person, (5.0, 0)), (distance, number))
    return [
        neighbour(person, distance, number)
        for person, (distance, number) in sorted(best.items(), key=lambda entry: entry[1])
    ]


def check_same(answers: list[list[Neighbour]], expected: list[list[Neighbour]]) -> None:
    def names(neighbours):
        return [(each.identity, each.identity_id, each.face_id, each.uri) for each in neighbours]

    assert [names(answer) for answer in answers] == [names(neighbours) for neighbours in expected]
    for answer, neighbours in zip(answers, expected, strict=True):
        distances = [neighbour.distance for neighbour in neighbours]
        assert [neighbour.distance for neighbour in answer] == pytest.approx(distances, abs=1e-5)


def manifest_of(version: str) -> bytes:
    return storage.read_bytes(storage.join(version, "manifest.json"))


def write_manifest(version: str, **changes: object) -> None:
    name = storage.join(version, "manifest.json")
    manifest = Manifest.from_json(storage.read_bytes(name))
    storage.write_bytes(name, dataclasses.replace(manifest, **changes).to_json())


@pytest.fixture(scope="module")
def version(tmp_path_factory) -> str:
    return fakes.gallery(str(tmp_path_factory.mktemp("galleries")), VECTORS, PEOPLE, effort=EVERY_NODE)


@pytest.fixture
def copy(version, tmp_path) -> str:
    """A version that may be damaged."""
    shutil.copytree(version, tmp_path / "copy")
    return str(tmp_path / "copy")


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    """Faces of people who are in the gallery, and of some who are not."""
    random = np.random.default_rng(1)
    near = fakes.unit(VECTORS[::40] + 0.3 * fakes.unit(random.normal(size=VECTORS[::40].shape)))
    return np.concatenate([near, fakes.unit_vectors(20, 24, seed=2)])


@pytest.fixture(params=["product", "index"])
def way(request, monkeypatch) -> str:
    """How an opened gallery looks for faces."""
    monkeypatch.setattr(annoy_index, "FACES_PER_EFFORT", 0 if request.param == "index" else 10**9)
    return request.param


# --- ranking ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_people_are_ranked_as_by_a_slow_search(version, queries, count):
    answers = Gallery.open(version).nearest_people(queries, count)
    check_same(answers, [slow_nearest_people(query, VECTORS, PEOPLE)[:count] for query in queries])


def test_with_the_effort_measured_the_nearest_person_is_found(version, queries, tmp_path):
    measured = Gallery.open(fakes.gallery(str(tmp_path), VECTORS, PEOPLE))
    assert measured.manifest.index["recall_at_10"] >= 0.99
    assert measured.manifest.index["effort"] == annoy_index.FIRST_EFFORT
    first = [answer[0].identity for answer in measured.nearest_people(queries[:20], 1)]
    assert first == [slow_nearest_people(query, VECTORS, PEOPLE)[0].identity for query in queries[:20]]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("others", [60, 2000])  # the crowd fills the whole search, or a part of it
def test_a_person_with_hundreds_of_near_faces_does_not_hide_the_others(tmp_path, others):
    centre = fakes.unit_vectors(1, 16)
    crowd = fakes.unit(centre + 0.01 * fakes.unit_vectors(450, 16, seed=1))
    vectors = np.concatenate([crowd, fakes.unit_vectors(others, 16, seed=2)])
    people = ["the crowd"] * 450 + [f"other {number:04d}" for number in range(others)]
    gallery = Gallery.open(fakes.gallery(str(tmp_path), vectors, people, effort=EVERY_NODE))
    answers = gallery.nearest_people(centre, 5)
    check_same(answers, [slow_nearest_people(centre[0], vectors, people)[:5]])
    assert [neighbour.identity == "the crowd" for neighbour in answers[0]] == [True, False, False, False, False]


@pytest.mark.usefixtures("way")
def test_more_people_wanted_than_there_are_gives_all_of_them(version, queries):
    answers = Gallery.open(version).nearest_people(queries[:3], 1000)
    check_same(answers, [slow_nearest_people(query, VECTORS, PEOPLE) for query in queries[:3]])
    assert [len(answer) for answer in answers] == [39, 39, 39]


@pytest.mark.usefixtures("way")
def test_one_person_is_a_gallery_too(tmp_path):
    vectors = fakes.unit_vectors(2, 8)
    gallery = Gallery.open(fakes.gallery(str(tmp_path), vectors, ["ann", "ann"]))
    (answer,) = gallery.nearest_people(vectors[1:], 2)
    assert answer == [neighbour("ann", 0.0, 1)]


@pytest.mark.usefixtures("way")
def test_people_of_one_name_are_ranked_apart(tmp_path):
    people = [Person.of("ann", "wikidata:Q1"), Person.of("ann", "wikidata:Q2"), Person.of("ann"), Person.of("bob")]
    centre, others = fakes.unit_vectors(1, 8), fakes.unit_vectors(8, 8, seed=1)
    vectors = fakes.unit(centre + np.linspace(0, 0.35, 8)[:, None] * others)
    on_each = [people[number] for number in (0, 0, 1, 0, 2, 1, 3, 2)]
    gallery = Gallery.open(fakes.gallery(str(tmp_path), vectors, on_each))
    (answer,) = gallery.nearest_people(centre, 9)
    assert [each.identity_id for each in answer] == [person.identity_id for person in people]
    nearest = (0, 2, 4, 6)
    distances = [((vectors[number] - centre) ** 2).sum() for number in nearest]
    expected = [neighbour(on_each[number], each, number) for each, number in zip(distances, nearest, strict=True)]
    check_same([answer], [expected])
    assert gallery.identities == ["ann", "bob"]
    assert gallery.manifest.index["identities"] == 4


@pytest.mark.usefixtures("way")
def test_people_at_the_same_distance_are_ordered_by_their_ids(tmp_path):
    people = ["ann", "bob", "eve"]
    vectors = np.repeat(fakes.unit_vectors(1, 8), 3, axis=0)
    gallery = Gallery.open(fakes.gallery(str(tmp_path), vectors, people))
    (answer,) = gallery.nearest_people(vectors[:1], 3)
    assert [neighbour.identity_id for neighbour in answer] == sorted(Person.of(person).identity_id for person in people)
    assert [neighbour.distance for neighbour in answer] == [0.0, 0.0, 0.0]


def test_no_queries_no_answers(version):
    assert Gallery.open(version).nearest_people(np.empty((0, 24), np.float32), 3) == []


@pytest.mark.usefixtures("way")
def test_answers_are_the_same_each_time(version, queries):
    first, second = Gallery.open(version), Gallery.open(version)
    answers = first.nearest_people(queries, 5)
    assert second.nearest_people(queries, 5) == answers
    assert first.nearest_people(queries[::-1], 5) == answers[::-1]  # one query's answer owes nothing to another's


def test_the_index_and_the_product_give_the_same_answers(version, queries, monkeypatch):
    answers = []
    for faces_per_node in (0, 10**9):
        monkeypatch.setattr(annoy_index, "FACES_PER_EFFORT", faces_per_node)
        answers.append(Gallery.open(version).nearest_people(queries, 5))
    assert answers[0] == answers[1]  # to the last bit


@pytest.mark.parametrize(("effort", "way"), [(24, "annoy"), (25, "exact")])  # 780 faces are 32 for each of 24.4
def test_the_index_is_asked_where_it_is_the_faster_way(version, queries, copy, monkeypatch, effort, way):
    asked = []

    def propose(name):
        def candidates(self, queries, count, effort):
            asked.append((name, effort))
            return np.broadcast_to(np.arange(780), (len(queries), 780)), np.full(len(queries), np.inf)

        return candidates

    write_manifest(copy, index={**Manifest.from_json(manifest_of(copy)).index, "effort": effort})
    gallery = Gallery.open(copy)
    monkeypatch.setattr(annoy_index.AnnoyFaces, "candidates", propose("annoy"))
    monkeypatch.setattr(exact_index.ExactIndex, "candidates", propose("exact"))
    answer = gallery.nearest_people(queries[:1], 2)
    assert asked == [(way, effort)]
    check_same(answer, [slow_nearest_people(queries[0], VECTORS, PEOPLE)[:2]])


def test_faces_that_a_product_cannot_tell_apart_are_ranked_alike_in_every_batch(tmp_path):
    """One face each of 900 people, in steps of 1e-9 around D 0.01: the products choose by their rounding."""
    random = np.random.default_rng(3)
    centre = fakes.unit_vectors(1, 128)
    aside = random.normal(size=(900, 128))
    aside = fakes.unit(aside - (aside @ centre.T) * centre)
    angles = 2 * np.arcsin(np.sqrt(0.01 + 1e-9 * random.permutation(900)[:, None]) / 2)
    vectors = (np.cos(angles) * centre + np.sin(angles) * aside).astype(np.float32)
    people = [f"person {number:03d}" for number in range(900)]
    gallery = Gallery.open(fakes.gallery(str(tmp_path), vectors, people))
    others = fakes.unit_vectors(70, 128, seed=4)
    together = gallery.nearest_people(np.concatenate([others, centre]), 5)
    assert gallery.nearest_people(centre, 5) == together[-1:]
    order = sorted(range(900), key=lambda number: Person.of(people[number]).identity_id)
    rows, distances = search.nearest_exact(centre, vectors[order], 5)
    assert [each.identity for each in together[-1]] == [people[order[row]] for row in rows[0]]
    assert [each.distance for each in together[-1]] == distances[0].tolist()


# --- opening ----------------------------------------------------------------------------------------------------------


def test_a_gallery_tells_what_it_holds(version):
    gallery = Gallery.open(version)
    assert gallery.uri == version
    assert len(gallery) == 780
    assert gallery.identities == [f"person {number:03d}" for number in range(39)]
    assert (gallery.calibration.people, gallery.calibration.strangers.count) == (39, 39)
    assert gallery.manifest.version == "v1"


def test_the_latest_version_is_opened(version):
    assert Gallery.open(str(pathlib.Path(version).parent)).uri == version


def test_a_version_may_move(version, queries, copy):
    assert Gallery.open(copy).nearest_people(queries, 2) == Gallery.open(version).nearest_people(queries, 2)


def flip_a_bit(path: pathlib.Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "first bit": lambda path: flip_a_bit(path, 0),
    "middle bit": lambda path: flip_a_bit(path, path.stat().st_size // 2),
    "last bit": lambda path: flip_a_bit(path, -1),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_refused(copy, name, damage):
    damage(pathlib.Path(copy, name))
    with pytest.raises(BadBundle, match=f"the gallery's {name} is not what its manifest says: {copy}"):
        Gallery.open(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(copy, name):
    pathlib.Path(copy, name).unlink()
    with pytest.raises(BadBundle, match=f"the gallery lacks its {name}: {copy}"):
        Gallery.open(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_the_manifest_does_not_vouch_for_is_refused(copy, name):
    files = Manifest.from_json(storage.read_bytes(storage.join(copy, "manifest.json"))).files
    write_manifest(copy, files={other: entry for other, entry in files.items() if other != name})
    with pytest.raises(BadBundle, match=f"the gallery's {name} is not in its manifest: {copy}"):
        Gallery.open(copy)
    pathlib.Path(copy, name).unlink()
    with pytest.raises(BadBundle, match=f"the gallery's manifest lacks {name}"):
        Gallery.open(copy)


def test_a_manifest_that_is_cut_short_is_refused(copy):
    manifest = pathlib.Path(copy, "manifest.json")
    manifest.write_bytes(manifest.read_bytes()[:-100])
    with pytest.raises(BadBundle, match="the gallery's manifest cannot be read"):
        Gallery.open(copy)


def test_a_version_of_a_newer_format_is_refused(copy):
    manifest = pathlib.Path(copy, "manifest.json")
    manifest.write_text(manifest.read_text().replace("celebface-gallery/", "celebface-gallery/9"))
    with pytest.raises(
        BadBundle, match=r"the gallery has the format celebface-gallery/9\d+, this version of celebface"
    ):
        Gallery.open(copy)


def test_a_version_without_its_manifest_is_refused(copy):
    pathlib.Path(copy, "manifest.json").unlink()
    with pytest.raises(BadBundle, match=f"there is no gallery at {copy}"):
        Gallery.open(copy)


def test_a_manifest_that_cannot_be_read_is_refused(copy):
    pathlib.Path(copy, "manifest.json").write_bytes(b"{}")
    with pytest.raises(BadBundle, match="manifest cannot be read"):
        Gallery.open(copy)


def test_an_index_of_other_vectors_is_refused_though_its_checksum_is_right(version, tmp_path):
    others = fakes.gallery(str(tmp_path), VECTORS[::-1], PEOPLE)
    shutil.copy(storage.join(version, "index/faces.ann"), storage.join(others, "index/faces.ann"))
    files = fakes.manifest(others, "v1").files
    write_manifest(others, files={name: entry for name, entry in files.items() if name != "manifest.json"})
    with pytest.raises(BadBundle, match="does not find its own vectors"):
        Gallery.open(others)


def test_publishing_another_version_leaves_an_opened_gallery_alone(version, queries, tmp_path):
    old = fakes.gallery(str(tmp_path), VECTORS, PEOPLE, effort=EVERY_NODE)
    gallery = Gallery.open(str(tmp_path / "gallery"))
    before = gallery.nearest_people(queries, 3)
    folder = str(tmp_path / "assembled")
    publish.publish(folder, str(tmp_path / "gallery"), dataclasses.replace(gallery.manifest, version="v2"))
    assert gallery.uri == old
    assert gallery.nearest_people(queries, 3) == before
    assert Gallery.open(str(tmp_path / "gallery")).uri == str(tmp_path / "gallery" / "v2")
    upkeep.rollback(str(tmp_path / "gallery"))
    publish.publish(folder, str(tmp_path / "gallery"), dataclasses.replace(gallery.manifest, version="v3"))
    assert gallery.nearest_people(queries, 3) == before


# --- the public door --------------------------------------------------------------------------------------------------


def test_a_gallery_answers_vectors_from_elsewhere(version, queries):
    gallery = open_gallery(pathlib.Path(version))
    assert (type(gallery), gallery.uri) == (Gallery, version)
    assert gallery.nearest(queries, k=3) == gallery.nearest_people(queries, 3)
    assert gallery.nearest(queries.astype(np.float64)[:2]) == gallery.nearest_people(queries[:2], 5)
    assert gallery.nearest(np.empty((0, 24), np.float32)) == []


@pytest.mark.parametrize(
    ("vectors", "why"),
    [
        (np.zeros((2, 24), np.float32), "length 1"),
        (np.full((2, 24), np.nan), "length 1"),
        (np.eye(24, dtype=np.float32) * 1.01, "length 1"),
        (np.eye(23, dtype=np.float32), r"\[N, 24\], not float32 \[23, 23\]"),
        (np.eye(24, dtype=np.float32)[0], r"\[N, 24\], not float32 \[24\]"),
        (np.eye(24, dtype=np.int64), r"\[N, 24\], not int64 \[24, 24\]"),
    ],
)
def test_what_are_no_vectors_is_refused(version, vectors, why):
    with pytest.raises(ValueError, match=why):
        open_gallery(version).nearest(vectors)


def test_nobody_is_asked_for_in_vain(version, queries):
    with pytest.raises(ValueError, match="k must be at least 1"):
        open_gallery(version).nearest(queries, k=0)


def test_the_package_hands_out_its_parts_and_no_others():
    assert indexing.open_gallery is open_gallery and indexing.Gallery is Gallery and indexing.Neighbour is Neighbour
    with pytest.raises(AttributeError, match="nothing"):
        _ = indexing.nothing
