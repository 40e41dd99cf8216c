"""The whole life of a gallery in stores, by the commands alone: build, publish, match, roll back, prune, remove."""

import dataclasses
import io
import json
import shutil

import object_stores
import pyarrow.parquet as pq
import pytest

from celebface.indexing import publish, storage, tombstones, versions
from celebface.indexing.gallery import Gallery
from celebface.pipelines import cli, match


@dataclasses.dataclass(frozen=True)
class Life:
    """A gallery with two versions in a store.

    Attributes:
      bucket: The store.
      gallery: Its URI.
      first: Name of its first version, of three people.
      second: Of its second, of two of them.
    """

    bucket: object_stores.Bucket
    gallery: str
    first: str
    second: str


@pytest.fixture(scope="module", params=object_stores.SWAPPING)
def life(request, sample, encoder, tmp_path_factory):
    """Built by the command: the parts of a run, its shards and its index go to the store.

    Worker processes take long to start, so they are tried in each store with one command: here, or in a match.
    """
    folder = tmp_path_factory.mktemp("life")
    for person in ("madonna", "elton_john", "mindy_kaling"):
        for photo in sorted((sample / person).glob("*.jpg"))[:2]:
            (folder / "people" / person).mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, folder / "people" / person)
    with object_stores.server(request.param) as address, pytest.MonkeyPatch.context() as environment:
        object_stores.point_to(environment, request.param, address)
        environment.setenv("CELEBFACE_CACHE", str(folder / "cache"))
        bucket = object_stores.make_bucket(request.param, address)
        gallery = f"{bucket.uri}/galleries/stars"
        build = [
            "build-gallery", f"--source={folder}/people", f"--output_root={bucket.uri}/galleries", "--name=stars",
            "--num_shards=2", f"--encoder={encoder}",
        ]  # fmt: skip
        workers = 2 if request.param == "s3" else 1
        assert cli.main([*build, f"--direct_num_workers={workers}"]) == 0
        first = versions.latest(gallery)
        shutil.rmtree(folder / "people" / "mindy_kaling")
        assert cli.main([*build, "--reuse=latest"]) == 0
        yield Life(bucket, gallery, first, versions.latest(gallery))


def names_in(life: Life, folder: str) -> set[str]:
    """What is directly in a folder, which may be an object without a name itself."""
    keys = (key.removeprefix(folder) for key in life.bucket.names() if key.startswith(folder))
    return {key.split("/")[0] for key in keys if key}


def rows(folder: str, table: str) -> list[dict]:
    names = [name for name in storage.list_names(folder) if name.startswith(f"{table}-")]
    data = [storage.read_bytes(storage.join(folder, name)) for name in names]
    return [row for each in data for row in pq.read_table(io.BytesIO(each)).to_pylist()]


def test_two_versions_were_published_and_nothing_else_is_left(life):
    assert life.first < life.second
    assert names_in(life, "galleries/stars/") == {"LATEST", life.first, life.second}
    assert [version.name for version in versions.versions(life.gallery)] == [life.first, life.second]
    assert [versions.faults(version) for version in versions.versions(life.gallery)] == [[], []]
    run = json.loads(storage.read_bytes(f"{life.gallery}/{life.first}/run.json"))
    assert run["workers"] == (2 if life.bucket.kind == "s3" else 1) and run["items"]["faces"] == 6


def test_a_match_keeps_the_version_it_began_with_and_leaves_its_results_in_the_store(life, probes, monkeypatch, capsys):
    """LATEST is moved between the driver's look at it and the workers'."""
    assert cli.main(["galleries", "rollback", life.gallery]) == 0
    assert versions.latest(life.gallery) == life.first
    run = match.execution.run

    def publish_first(*arguments, **options):
        assert cli.main(["galleries", "rollback", life.gallery, "--to", life.second]) == 0
        return run(*arguments, **options)

    monkeypatch.setattr(match.execution, "run", publish_first)
    output = f"{life.bucket.uri}/matches"
    probe = sorted((probes / "mindy_kaling").glob("*.jpg"))[0]
    workers = 1 if life.bucket.kind == "s3" else 2
    command = [
        "match",
        str(probe),
        f"--gallery={life.gallery}",
        f"--output={output}",
        f"--direct_num_workers={workers}",
    ]
    assert cli.main(command) == 0
    assert versions.latest(life.gallery) == life.second
    nearest = [row["identity"] for row in rows(output, "matches") if row["rank"] == 1]
    assert nearest == ["mindy_kaling"]  # who is in the first version alone
    assert json.loads(storage.read_bytes(f"{output}/run.json"))["config"]["gallery"] == f"{life.gallery}/{life.first}"
    assert names_in(life, "matches/") == {
        "faces-00000-of-00001.parquet",
        "ledger-00000-of-00001.parquet",
        "matches-00000-of-00001.parquet",
        "matches.csv",
        "photos-00000-of-00001.parquet",
        "run.json",
    }
    assert f"results in {output}" in capsys.readouterr().out


def test_a_damaged_version_is_refused_before_anything_is_written(life, probes, capsys):
    name = f"{life.gallery}/{life.second}/index/vectors.npy"
    data = storage.read_bytes(name)
    storage.write_bytes(name, data[:-1] + bytes([data[-1] ^ 1]))
    for command in (
        [
            "match",
            str(probes),
            f"--gallery={life.gallery}",
            f"--output={life.bucket.uri}/refused",
        ],
        ["galleries", "rollback", life.gallery, "--to", life.second],
    ):
        assert cli.main(command) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and "index/vectors.npy is not what its manifest says" in told
    assert cli.main(["galleries", "verify", life.gallery]) == 1
    assert "index/vectors.npy is not what its manifest says" in capsys.readouterr().err
    assert not [key for key in life.bucket.names() if key.startswith("refused")]
    storage.write_bytes(name, data)
    assert cli.main(["galleries", "verify", life.gallery]) == 0


def test_at_the_end_the_old_version_is_pruned(life, capsys):
    gallery = Gallery.open(f"{life.gallery}/{life.first}")
    assert cli.main(["galleries", "prune", life.gallery, "--keep=1"]) == 0
    assert f"1 folder of {life.gallery} deleted" in capsys.readouterr().out
    assert names_in(life, "galleries/stars/") == {"LATEST", life.second}
    assert publish.find_version(life.gallery) == f"{life.gallery}/{life.second}"
    assert gallery.identities == ["elton_john", "madonna", "mindy_kaling"]  # who has opened it keeps it


def test_then_somebody_is_taken_out_with_proof(life, capsys):
    """What is left of them would be found decoded, in any object of the gallery."""
    proof = f"{life.bucket.uri}/proof.json"
    flags = ["--identity=madonna", "--prune", f"--proof={proof}"]
    assert cli.main(["galleries", "remove", life.gallery, *flags]) == 0
    out = capsys.readouterr().out
    third = versions.latest(life.gallery)
    assert f"published {life.gallery}/{third}" in out and f"deleted {life.gallery}/{life.second} (" in out
    assert names_in(life, "galleries/stars/") == {"LATEST", tombstones.NAME, third}
    told = json.loads(storage.read_bytes(proof))
    assert (told["version"], told["based_on"]) == (third, life.second)
    assert told["search"]["queries"] == 2 and told["search"]["found"] == told["scan"]["found"] == 0
    left = [
        row for table in ("faces", "repeats", "quarantined", "ledger") for row in rows(f"{life.gallery}/{third}", table)
    ]
    assert {row["identity"] for row in left} == {"elton_john", ""}
    assert not [row for row in left if "madonna" in row["uri"]]
    assert Gallery.open(life.gallery).identities == ["elton_john"]
    assert cli.main(["galleries", "verify", life.gallery]) == 0
    assert "1 version of" in capsys.readouterr().out
