"""celebface build-gallery, whole, into a gallery that somebody was taken out of; and one that is added to."""

import collections
import dataclasses
import hashlib
import json
import pathlib
import shutil

import pyarrow.parquet as pq
import pytest
from web_site import Content, WebSite, photo

from celebface.indexing import publish, tombstones
from celebface.indexing.tombstones import Mark
from celebface.models.encoder_card import PREPROCESSING, EncoderCard
from celebface.models.networks import INCEPTION_RESNET_V1
from celebface.pipelines import build_gallery, bundle, cli, take_down
from celebface.transforms.records import Person

HOST = "photos.test"
WEB = ("--contact=tests@example.org", "--allow_private_hosts", f"--resolve={HOST}:127.0.0.1", "--host_rate=0")
MADONNA = Person.of("Madonna")


@pytest.fixture(scope="module")
def photos(sample) -> dict[str, list[bytes]]:
    """Three small photos of each person of the sample."""
    found = {}
    for person in ("ben_afflek", "elton_john", "jerry_seinfeld", "madonna", "mindy_kaling"):
        files = [path.read_bytes() for path in sorted(sample.glob(f"{person}/*.jpg"))]
        found[person] = [data for data in files if 13_000 < len(data) < 20_400][:3]
    return found


def build(root: pathlib.Path, sources: list[pathlib.Path], *flags: str) -> int:
    places = [f"--source={source}" for source in sources]
    return cli.main(["build-gallery", *places, f"--output_root={root}", "--num_shards=2", "--audit=off", *flags])


def latest(root: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(publish.find_version(str(root / "celebrities")))


def table(version: pathlib.Path, name: str) -> list[dict]:
    return [row for path in sorted(version.glob(f"{name}-*.parquet")) for row in pq.read_table(path).to_pylist()]


def read_json(version: pathlib.Path, name: str) -> dict:
    return json.loads((version / name).read_text())


# --- taken down -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Web:
    """A site, a list that leads to it, the gallery, and its version before anybody was taken out."""

    site: WebSite
    people: pathlib.Path
    root: pathlib.Path
    first: pathlib.Path

    def build(self, *flags: str) -> collections.Counter[str]:
        """Builds; returns what was asked for."""
        self.site.forget()
        assert build(self.root, [self.people], *WEB, *flags) == 0
        return collections.Counter(path for path in self.site.paths(HOST) if path != "/robots.txt")

    def ledger(self) -> dict[str, tuple[str, str]]:
        return {
            row["uri"].rpartition("/")[2]: (row["stage"], row["reason"]) for row in table(latest(self.root), "ledger")
        }


@pytest.fixture(scope="module")
def web(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("removal")
    madonna, ben, mindy = photos["madonna"], photos["ben_afflek"], photos["mindy_kaling"]
    page = Content(b'<!doctype html><html><body><img src="/m2.jpg"><img src="/b1.jpg"></body></html>', "text/html")
    with WebSite() as site:
        site.lay_out(
            {
                (HOST, "/m0.jpg"): photo(madonna[0]),
                (HOST, "/m1.jpg"): photo(madonna[1]),
                (HOST, "/m2.jpg"): photo(madonna[2]),
                (HOST, "/copy.jpg"): photo(madonna[0]),
                (HOST, "/b0.jpg"): photo(ben[0]),
                (HOST, "/b1.jpg"): photo(ben[1]),
                (HOST, "/k0.jpg"): photo(mindy[0]),
                (HOST, "/k1.jpg"): photo(mindy[1]),
                (HOST, "/m.html"): page,
                (HOST, "/k.html"): page,
            }
        )
        people = folder / "people.csv"
        rows = [
            ("Madonna", "/m0.jpg", ""),  # 2
            ("Madonna", "/m1.jpg", ""),
            ("Madonna", "/m0.jpg", ""),
            ("Ben", "/b0.jpg", ""),
            ("Ben", "/b1.jpg", ""),  # 6
            ("Mindy", "/k0.jpg", ""),
            ("Mindy", "/k1.jpg", ""),
        ]
        later = [
            ("Somebody Else", "/copy.jpg", ""),  # 9
            ("Madonna", "", "/m.html"),
            ("Mindy", "", "/k.html"),
            ("Madonna", "ftp://photos.test/m3.jpg", ""),  # 12
        ]

        def write(rows: list[tuple[str, str, str]]) -> None:
            lines = ["name,url,page"]
            for name, *places in rows:
                lines.append(",".join([name, *(site.url(HOST, each) if each[:1] == "/" else each for each in places)]))
            people.write_text("\n".join(lines) + "\n")

        write(rows)
        assert build(folder / "galleries", [people], *WEB) == 0
        found = Web(site, people, folder / "galleries", latest(folder / "galleries"))
        gallery = str(folder / "galleries" / "celebrities")
        assert take_down.main([gallery, "--identity=Madonna", f"--uri={site.url(HOST, '/b1.jpg')}"]) == 0
        write([*rows, *later])
        yield found


@pytest.fixture(scope="module")
def rebuilt(web) -> tuple[pathlib.Path, set[str]]:
    """The version that the list gives after the removal, and what was asked for."""
    asked = web.build()
    return latest(web.root), set(asked)


def test_nobody_comes_back_and_nothing_of_theirs_is_asked_for(web, rebuilt):
    assert {face["identity"] for face in table(web.first, "faces")} == {"Madonna", "Ben", "Mindy"}
    version, asked = rebuilt
    assert asked == {"/b0.jpg", "/k0.jpg", "/k1.jpg", "/copy.jpg", "/k.html", "/m2.jpg"}
    assert {face["uri"].rpartition("/")[2] for face in table(version, "faces")} == {
        "b0.jpg", "k0.jpg", "k1.jpg", "m2.jpg"
    }  # fmt: skip
    removed = [row for row in table(version, "ledger") if row["reason"] == "removed"]
    assert sorted(row["stage"] for row in removed) == [
        "list",  # her row that is no URL
        "read",  # her photo under another name
        "resume", "resume", "resume", "resume", "resume",  # three rows of her photos, Ben's, and the page's link to it
        "scrape",  # her page
    ]  # fmt: skip
    assert {(row["uri"], row["status"], row["identity"]) for row in removed} == {("(removed)", "skipped", "")}
    assert read_json(version, "run.json")["items"]["items"] == 11 + 2 == len(table(version, "ledger"))
    assert read_json(version, "run.json")["items"]["reasons"]["removed"] == 8


def test_no_artefact_of_a_rebuild_names_them(rebuilt):
    version, _ = rebuilt
    rows = [row for name in ("faces", "repeats", "ledger") for row in table(version, name)]
    assert "adonna" not in str([{**row, "crop_jpeg": b""} for row in rows])
    assert MADONNA.identity_id not in str(rows)
    for path in version.rglob("*.json"):
        assert MADONNA.identity_id not in path.read_text() and "adonna" not in path.read_text()


@pytest.mark.parametrize("flags", [(), ("--add",)], ids=["reuse", "add"])
def test_reusing_a_version_that_has_them_does_not_bring_them_back(web, flags):
    asked = web.build(f"--reuse={web.first.name}", *flags)
    assert not {"/m0.jpg", "/m1.jpg", "/b1.jpg"} & set(asked)
    faces = table(latest(web.root), "faces")
    assert "Madonna" not in {face["identity"] for face in faces} and len(faces) == 4


def test_a_dry_run_plans_nothing_for_them(web, capsys):
    assert build(web.root, [web.people], *WEB, "--dry_run") == 0
    assert "5 to ask 1 host for" in capsys.readouterr().out  # four photos and a page


def test_a_killed_run_of_before_the_removal_is_not_gone_on_with(tmp_path):
    config, _ = build_gallery.parse_args([f"--source={tmp_path}", f"--output_root={tmp_path}"])
    card = EncoderCard("fake", INCEPTION_RESNET_V1, 128, "0" * 64, PREPROCESSING)
    with_her = tombstones.NONE.adding([(Mark.IDENTITY, MADONNA.identity_id)], "2026-01-02")
    folders = [build_gallery._staging(config, card, each) for each in (tombstones.NONE, with_her)]
    assert folders[0] != folders[1]


def test_a_removal_in_the_middle_of_a_build_is_not_undone_by_it(web, monkeypatch, capsys):
    before, folders = latest(web.root), set(web.root.glob("celebrities/*"))
    complete, gallery = bundle.complete, str(web.root / "celebrities")
    flags = [*WEB, f"--reuse={web.first.name}", "--retry=none"]

    def remove_meanwhile(*given):
        tombstones.add(gallery, [(Mark.IDENTITY, Person.of("Ben").identity_id)])
        return complete(*given)

    with monkeypatch.context() as patched:
        patched.setattr(bundle, "complete", remove_meanwhile)
        assert build(web.root, [web.people], *flags) == 1
    assert "run the same command again" in capsys.readouterr().err
    assert latest(web.root) == before and set(web.root.glob("celebrities/*")) == folders
    assert build(web.root, [web.people], *flags) == 0
    assert {face["identity"] for face in table(latest(web.root), "faces")} == {"Mindy"}


# --- added to ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(photos, tmp_path_factory) -> tuple[pathlib.Path, pathlib.Path]:
    """A folder of three people, and one with two more, a new photo of an old one, and one that is there already."""
    folder = tmp_path_factory.mktemp("people")
    old, new = folder / "old", folder / "new"
    for place, person, numbers in [
        (old, "madonna", (0, 1)), (old, "ben_afflek", (0, 1)), (old, "mindy_kaling", (0, 1)),
        (new, "elton_john", (0, 1)), (new, "jerry_seinfeld", (0, 1)), (new, "madonna", (1, 2)),
    ]:  # fmt: skip
        (place / person).mkdir(parents=True)
        for number in numbers:
            (place / person / f"{number}.jpg").write_bytes(photos[person][number])
    (old / "madonna" / "broken.jpg").write_bytes(b"no photo")
    return old, new


def test_adding_gives_what_a_build_of_all_gives_and_encodes_only_what_is_new(folders, tmp_path, capsys):
    old, new = folders
    moved = tmp_path / "moved"
    shutil.copytree(old, moved)
    assert build(tmp_path / "all", [moved, new]) == 0
    assert build(tmp_path / "grown", [moved]) == 0
    moved.rename(tmp_path / "away")  # what is kept is not looked at
    capsys.readouterr()
    assert build(tmp_path / "grown", [new], "--reuse=latest", "--add") == 0
    assert "7 photos kept that the sources do not name" in capsys.readouterr().out
    whole, grown = latest(tmp_path / "all"), latest(tmp_path / "grown")
    files = [read_json(version, "manifest.json")["files"] for version in (whole, grown)]
    for name in files[0].keys() - {"run.json"}:  # it holds times
        assert files[0][name] == files[1][name], name
    stages = read_json(grown, "run.json")["stages"]
    assert stages["encode"]["items_in"] == stages["read"]["items_in"] == stages["list"]["items_in"] == 6
    assert stages["resume"]["noted"] == {"kept": 7}
    assert len(table(grown, "faces")) == 11  # one of the twelve photos with faces is there twice
    assert hashlib.sha256(b"no photo").hexdigest() in {row["content_sha256"] for row in table(grown, "ledger")}


def test_without_add_a_build_holds_what_its_source_names(folders, tmp_path):
    old, new = folders
    assert build(tmp_path, [old]) == 0
    assert build(tmp_path, [new], "--reuse=latest") == 0
    assert {pathlib.Path(row["uri"]).parents[1] for row in table(latest(tmp_path), "ledger")} == {new}


def test_a_version_published_while_one_is_added_to_is_not_undone(folders, tmp_path, monkeypatch, capsys):
    _, new = folders
    assert build(tmp_path, [new / "madonna"]) == 0
    pointer, look_ahead = tmp_path / "celebrities" / "LATEST", build_gallery.intake.look_ahead

    def publish_meanwhile(*given):
        pointer.write_text("another\n")
        return look_ahead(*given)

    monkeypatch.setattr(build_gallery.intake, "look_ahead", publish_meanwhile)
    assert build(tmp_path, [new / "madonna"], "--reuse=latest", "--add") == 1
    assert "is no longer the latest version" in capsys.readouterr().err
    assert pointer.read_text() == "another\n"


def test_there_is_nothing_to_add_to_without_a_version(folders, tmp_path, capsys):
    assert build(tmp_path, [folders[1]], "--add") == 2
    assert "--add needs --reuse" in capsys.readouterr().err
