"""A gallery from a web of 20 hosts on which everything goes wrong that can, by the command itself."""

import collections
import csv
import dataclasses
import json
import pathlib

import pyarrow.parquet as pq
import pytest
import web_site
from web_site import WebSiteProcess, agrees, big_site

from celebface.pipelines import cli

URLS, MENDED = 1000, 40
HOST_CONNECTIONS = 3
FETCH_SECONDS = 8

pytestmark = pytest.mark.skipif(not web_site.can_make_certificates(), reason="openssl is not installed")


@dataclasses.dataclass
class Web:
    """The site, the list of its URLs, and the gallery built of it."""

    site: WebSiteProcess
    pages: dict
    expected: dict[str, str]
    urls: pathlib.Path
    root: pathlib.Path

    def build(self, *flags: str) -> int:
        return cli.main(
            [
                "build-gallery",
                f"--source={self.urls}",
                f"--output_root={self.root}",
                "--contact=tests@example.org",
                "--allow_private_hosts",
                *(f"--resolve={host}:{address}" for host, address in self.site.addresses),
                f"--host_connections={HOST_CONNECTIONS}",
                "--host_rate=0",
                f"--fetch_seconds={FETCH_SECONDS}",
                "--max_download_bytes=3000000",
                "--near_duplicates=none",
                "--audit=off",
                "--num_shards=2",
                *flags,
            ]
        )

    @property
    def version(self) -> pathlib.Path:
        gallery = self.root / "celebrities"
        return gallery / (gallery / "LATEST").read_text().strip()

    def table(self, name: str) -> list[dict]:
        return [row for shard in sorted(self.version.glob(f"{name}-*")) for row in pq.read_table(shard).to_pylist()]


@pytest.fixture(scope="module")
def web(gallery, tmp_path_factory) -> Web:
    """The big site, and a first build of it."""
    folder = tmp_path_factory.mktemp("web")
    version = gallery / (gallery / "LATEST").read_text().strip()
    files = {row["uri"] for shard in version.glob("faces-*") for row in pq.read_table(shard).to_pylist()}
    photos = [data for data in (pathlib.Path(file).read_bytes() for file in sorted(files)) if len(data) < 20_000][:40]
    pages, reasons = big_site(photos, urls=URLS)
    with WebSiteProcess(pages, tls=True) as site:
        expected = {site.url(*place): reason for place, reason in reasons.items()}
        urls = folder / "urls.csv"
        with urls.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["name", "url"])
            for number, url in enumerate(expected):
                rows.writerow(["twin" if "twin" in url else f"person {number % 40}", url])
        found = Web(site, pages, expected, urls, folder / "galleries")
        assert found.build() == 0
        yield found


def test_every_url_has_the_right_reason(web):
    ledger = {row["uri"]: row for row in web.table("ledger")}
    assert ledger.keys() == web.expected.keys()
    assert len(ledger) >= URLS
    wrong = {
        uri: (web.expected[uri], row["reason"], row["detail"])
        for uri, row in ledger.items()
        if not agrees(web.expected[uri], row["reason"])
    }
    assert wrong == {}
    twins = collections.Counter(row["reason"] for uri, row in ledger.items() if "twin" in uri)
    assert twins["duplicate"] == twins[""] > 0


def test_the_totals_add_up(web):
    run = json.loads((web.version / "run.json").read_text())
    stages = run["stages"]
    for stage in stages.values():
        assert stage["items_in"] == stage["items_out"] + sum(stage["lost"].values()) + sum(
            count for name, count in stage["noted"].items() if name == "taken_over"
        )
    assert run["items"]["items"] == len(web.expected)
    assert sum(run["items"]["statuses"].values()) == len(web.expected)
    assert stages["fetch"]["items_in"] == len(web.expected)
    assert stages["fetch"]["items_out"] == stages["detect"]["items_in"]


def test_no_host_is_asked_for_more_at_once_than_allowed(web):
    most = {host: web.site.most_at_once(host) for host, _ in web.site.addresses}
    assert max(most.values()) == HOST_CONNECTIONS


def test_every_request_says_who_asks(web):
    assert {asked.headers["user-agent"].partition("/")[0] for asked in web.site.asked()} == {"celebface"}


def test_what_robots_txt_forbids_was_never_asked_for(web):
    asked = {(request.host, request.path) for request in web.site.asked()}
    forbidden = {place for place in web.pages if place[1].startswith("/private/") or place[0] == web_site.LOCKED}
    assert asked & forbidden == {(web_site.LOCKED, "/robots.txt")}


def test_a_rebuild_downloads_nothing_that_it_has_and_then_only_what_was_mended(web):
    before, ledger_before = web.table("faces"), web.table("ledger")
    had = {row["uri"] for row in ledger_before if row["content_sha256"]}
    web.site.forget()
    assert web.build("--reuse=latest") == 0
    with_body = {web.site.url(asked.host, asked.path) for asked in web.site.asked() if asked.status == 200}
    assert not with_body & had
    assert web.table("faces") == before
    assert [row for row in web.table("ledger") if row["uri"] in had] == [
        row for row in ledger_before if row["uri"] in had
    ]

    faulty = [place for place, behaviour in web.pages.items() if getattr(behaviour, "code", 0) in (404, 403, 410)]
    broken = faulty[:MENDED]
    good = [
        page for page in web.pages.values() if isinstance(page, web_site.Content) and page.etag and not page.headers
    ]
    mended = {
        place: dataclasses.replace(page, tail=b"mended %d" % number, etag=f'"mended {number}"')
        for number, (place, page) in enumerate(zip(broken, good, strict=False))
    }
    assert len(mended) == MENDED
    web.site.lay_out({**web.pages, **mended})
    web.site.forget()
    assert web.build("--reuse=latest") == 0
    bodies = [(asked.host, asked.path) for asked in web.site.asked() if asked.status == 200 and asked.sent]
    mended_urls = {web.site.url(*place) for place in mended}
    photos = {web.site.url(*place) for place in bodies if place[1] != "/robots.txt"}
    failing = {url for url, reason in web.expected.items() if reason}
    assert mended_urls <= photos <= mended_urls | failing
    reasons = {row["uri"]: row["reason"] for row in web.table("ledger")}
    assert {reasons[url] for url in mended_urls} == {""}
    assert len(web.table("faces")) == len(before) + len(mended)
