"""What a build tells before it is done: whom it would ask, and what it would take."""

import io
import pathlib
import re

import pytest
from provider_site import ProviderSite
from web_site import Content, Reset, Status, WebSite, photo, robots_txt

from celebface.indexing.schemas import Kind
from celebface.pipelines import cli, execution, plan
from celebface.transforms.hosts import Wanted
from celebface.transforms.plan import HostPlan, plan_host
from celebface.transforms.records import ItemRef
from celebface.transforms.web.client import WebClient
from celebface.transforms.web.crawl import Host
from celebface.transforms.web.policy import FetchPolicy

JPEG = photo(b"\xff\xd8 no photo, and not asked for")
SITES = {
    ("open.test", "/1.jpg"): JPEG,
    ("open.test", "/2.jpg"): JPEG,
    ("open.test", "/3.jpg"): JPEG,
    ("open.test", "/page.html"): Content(b"<html>a page</html>", "text/html"),
    ("strict.test", "/robots.txt"): robots_txt("User-agent: *\nDisallow: /private/\nCrawl-delay: 2\n"),
    ("strict.test", "/1.jpg"): JPEG,
    ("strict.test", "/2.jpg"): JPEG,
    ("strict.test", "/private/3.jpg"): JPEG,
    ("locked.test", "/robots.txt"): Status(500),
    ("locked.test", "/1.jpg"): JPEG,
    ("dead.test", "/robots.txt"): Reset(),
    ("dead.test", "/1.jpg"): Reset(),
}


@pytest.fixture
def site():
    with WebSite(SITES) as site:
        yield site


def policy(site: WebSite, **changed) -> FetchPolicy:
    return FetchPolicy(
        contact="tests@example.org", allow_private_hosts=True, addresses=site.addresses, retries=0, **changed
    )


def planned(site: WebSite, host: str, **changed) -> HostPlan:
    """The plan for all that is laid out on a host."""
    rules = policy(site, **changed)
    client = WebClient(rules)
    urls = [site.url(*place) for place in SITES if place[0] == host and place[1] != "/robots.txt"]
    refs = [ItemRef.of(url, kind=Kind.PAGE if url.endswith("html") else Kind.PHOTO) for url in urls]
    try:
        return plan_host(Host(host, client, rules), [Wanted(ref, ref.uri) for ref in refs], rules)
    finally:
        client.close()


# --- a host -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("open.test", HostPlan("open.test", 3, 1, 0, 0, 0, "none", 0.5)),
        ("strict.test", HostPlan("strict.test", 3, 0, 0, 1, 0, "read", 4.0)),
        ("locked.test", HostPlan("locked.test", 1, 0, 0, 1, 0, "unreachable", 0.0)),
        ("dead.test", HostPlan("dead.test", 1, 0, 0, 0, 1, "connection_failed", 0.0)),
    ],
)
def test_a_host_is_planned_by_its_robots_txt_alone(site, host, expected):
    assert planned(site, host) == expected
    assert site.paths(host) == ["/robots.txt"]


def test_a_robots_txt_that_is_not_heeded_is_not_asked_for(site):
    assert planned(site, "strict.test", robots=False) == HostPlan("strict.test", 3, 0, 0, 0, 0, "not heeded", 0.375)
    assert site.log() == []


def test_without_a_rate_only_the_hosts_own_pauses_count(site):
    assert planned(site, "open.test", host_rate=0).seconds == 0
    assert planned(site, "strict.test", host_rate=0).seconds == 4


def test_files_are_counted_and_need_nobody():
    refs = [ItemRef.of(path) for path in ("/photos/1.jpg", "s3://bucket/2.jpg")]
    rules = FetchPolicy()
    client = WebClient(rules)
    found = plan_host(Host("", client, rules), [Wanted(ref, ref.uri) for ref in refs], rules)
    client.close()
    assert found == HostPlan("", 2, 0, 0, 0, 0, "", 0.0)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (119, "119 s"), (120, "2.0 min"), (7199, "120.0 min"), (7200, "2.0 h"), (260_000, "3.0 days")],
)
def test_time_spans_are_for_people(seconds, shown):
    assert plan.duration(seconds) == shown


# --- --dry_run --------------------------------------------------------------------------------------------------------


def flags(site: WebSite, root: pathlib.Path, *more: str) -> list[str]:
    how = ["--contact=tests@example.org", "--allow_private_hosts", "--fetch_retries=0", *more]
    resolved = [f"--resolve={host}:{address}" for host, address in site.addresses]
    return ["build-gallery", f"--output_root={root / 'galleries'}", *resolved, *how]


def write_list(site: WebSite, folder: pathlib.Path, *more: str) -> pathlib.Path:
    """A list of all that is laid out but robots.txt."""
    rows = ["name,url,page"]
    for host, path in SITES:
        if path != "/robots.txt":
            url = site.url(host, path)
            rows.append(f"Ann,,{url}" if path.endswith("html") else f"Ann,{url},")
    (folder / "people.csv").write_text("\n".join([*rows, *more]) + "\n")
    return folder / "people.csv"


def cells(out: str) -> list[list[str]]:
    """The rows of a printed table, without the empty cells."""
    return [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()]


def test_a_dry_run_tells_who_would_be_asked_and_asks_for_robots_txt_only(site, tmp_path, capsys):
    people = write_list(site, tmp_path, f"Ann,{site.url('open.test', '/1.jpg')},", "too,few", "Ann,ann.jpg,")
    assert cli.main([*flags(site, tmp_path), f"--source={people}", "--dry_run"]) == 0
    captured = capsys.readouterr()
    assert cells(captured.out)[:5] == [
        ["host", "photos", "pages", "searches", "disallowed", "failing", "robots.txt", "at least"],
        ["open.test", "3", "1", "none", "0 s"],
        ["strict.test", "3", "1", "read", "4 s"],
        ["dead.test", "1", "1", "connection_failed", "0 s"],
        ["locked.test", "1", "1", "unreachable", "0 s"],
    ]
    assert captured.out.splitlines()[5].startswith("12 items: 6 to ask 2 hosts for, 1 file")
    assert "at 8 requests a second to a host it takes 4 s at least" in captured.out
    assert captured.err == ""
    assert sorted(asked.path for asked in site.log()) == ["/robots.txt"] * 4
    assert list(tmp_path.iterdir()) == [people]


def test_a_dry_run_tells_whom_it_would_search_and_searches_nobody(site, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("Ann\nBo\nAnn\n")
    with ProviderSite({"Ann": {"id": "Q1"}}) as provider:
        how = [f"--source={tmp_path / 'names.txt'}", "--provider=wikimedia", f"--provider_url={provider.url}"]
        assert cli.main([*flags(site, tmp_path), *how, "--dry_run"]) == 0
        assert provider.requests == []
    lines = cells(capsys.readouterr().out)
    assert lines[1] == ["127.0.0.1", "2", "not heeded", "0 s"]
    assert lines[2][0].startswith("3 items: 2 to ask 1 host for, 0 files, 1 named again")
    assert not (tmp_path / "galleries").exists()


def test_a_dry_run_of_files_asks_nobody(site, tmp_path, capsys):
    (tmp_path / "people" / "ann").mkdir(parents=True)
    (tmp_path / "people" / "ann" / "1.jpg").write_bytes(b"")
    assert cli.main(["build-gallery", f"--source={tmp_path / 'people'}", f"--output_root={tmp_path}", "--dry_run"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("1 item: 0 to ask 0 hosts for, 1 file")
    assert [path.name for path in tmp_path.iterdir()] == ["people"]


# --- --sample ---------------------------------------------------------------------------------------------------------


def test_a_sample_publishes_nothing_and_tells_what_all_will_take(sample, tmp_path, capsys):
    faces = [path.read_bytes() for path in sorted(sample.glob("madonna/*.jpg"))]
    faces = [data for data in faces if 13_000 < len(data) < 20_400][:3]  # alike, so no choice of them has an outlier
    pages = {("open.test", f"/{number}.jpg"): photo(faces[number % 3], b"%d" % number) for number in range(12)}
    unusable = ["too,few,cells", *[",http://open.test/nobody.jpg"] * 9]
    with WebSite(pages) as site:
        rows = [f"Madonna,{site.url(*place)}" for place in pages]
        (tmp_path / "people.csv").write_text("\n".join(["name,url", *rows, *unusable]) + "\n")
        how = [f"--source={tmp_path / 'people.csv'}", "--sample=3", "--near_duplicates=none"]
        assert cli.main([*flags(site, tmp_path), *how]) == 0
        asked = [one.path for one in site.log() if one.path != "/robots.txt"]
    assert len(set(asked)) == len(asked) == 3
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    at = lines.index("the sample is 3 of 12 items; the whole is expected to have")
    assert lines[at + 1] == "12 photos, 12 of them with faces for the gallery"
    assert re.fullmatch(r"\d+ MB to download", lines[at + 2])
    assert lines[-1] == "nothing was published"
    assert not list((tmp_path / "galleries").glob("*/*"))


# --- who asks ---------------------------------------------------------------------------------------------------------


def test_whoever_asks_the_web_must_be_named_wherever_the_list_names_it(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("CELEBFACE_CONTACT", raising=False)
    monkeypatch.setattr(execution, "photos_worth_counting", lambda: 2)
    (tmp_path / "people.csv").write_text("name,url\nAnn,1.jpg\nAnn,2.jpg\nAnn,3.jpg\nAnn,http://open.test/4.jpg\n")
    assert cli.main(["build-gallery", f"--source={tmp_path / 'people.csv'}", f"--output_root={tmp_path}"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert "photos from the web need --contact" in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["people.csv"]


@pytest.mark.parametrize("where", ["flag", "environment"])
def test_whoever_asks_may_be_named_in_two_ways(site, tmp_path, monkeypatch, capsys, where):
    monkeypatch.setenv("CELEBFACE_CONTACT", "someone@example.org" if where == "environment" else "")
    argv = [flag for flag in flags(site, tmp_path) if not flag.startswith("--contact")]
    argv += [f"--source={write_list(site, tmp_path)}", "--dry_run"]
    assert cli.main([*argv, *(["--contact=someone@example.org"] if where == "flag" else [])]) == 0
    agents = {asked.headers["user-agent"] for asked in site.log()}
    assert len(agents) == 1 and agents.pop().endswith("(+someone@example.org)")


def test_files_and_lists_of_files_need_nobody_to_be_named(tmp_path, monkeypatch):
    monkeypatch.delenv("CELEBFACE_CONTACT", raising=False)
    (tmp_path / "people.csv").write_text("name,url\nAnn,1.jpg\n")
    how = [f"--source={tmp_path / 'people.csv'}", f"--output_root={tmp_path}"]
    assert cli.main(["build-gallery", *how, "--dry_run"]) == 0


def test_a_list_on_stdin_may_be_planned(site, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    written = write_list(site, tmp_path).read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(written)))
    assert cli.main([*flags(site, tmp_path), "--source=-", "--dry_run"]) == 0
    assert "9 items: 6 to ask 2 hosts for, 0 files" in capsys.readouterr().out
