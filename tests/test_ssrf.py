"""No URL, redirect or name leads a client to an address that is not public.

Two addresses of this machine count as public here, so that there is a site that can redirect. Everything else is as it
is in production. A victim listens on every address of the machine: whoever connects to it is found out.
"""

import contextlib
import http.server
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import types

import pytest

from celebface.indexing.schemas import Reason
from celebface.transforms.web import addresses
from celebface.transforms.web.client import Answer, Moved, WebClient, clean_url
from celebface.transforms.web.policy import FetchPolicy, WebFault
from celebface.transforms.web.robots import RobotsRules

SITE_ADDRESS, OTHER_ADDRESS = "127.0.0.2", "127.0.0.3"  # these count as public
LIMITS = {"retries": 0, "connect_seconds": 2.0, "read_seconds": 5.0, "total_seconds": 10.0}
NAMES = (
    ("site.example", SITE_ADDRESS),
    ("sister.example", SITE_ADDRESS),
    ("other.example", OTHER_ADDRESS),
    ("metadata.google.internal", "169.254.169.254"),
    ("intranet.example", "10.0.0.7"),
    ("mapped.example", "::ffff:127.0.0.1"),
)

# Where the victim listens, in all notations: {port} is its port.
TO_THE_VICTIM = [
    ("http://127.0.0.1:{port}/", Reason.PRIVATE_ADDRESS),
    ("HTTP://127.0.0.1:{port}/", Reason.PRIVATE_ADDRESS),
    ("https://127.0.0.1:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://127.0.0.1.:{port}/", Reason.NO_SUCH_HOST),
    ("http://127.255.255.254:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://2130706433:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://017700000001:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://0177.0.0.1:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://0177.0000.00000.01:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://0x7f000001:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://0X7F000001:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://0x7f.0.0.1:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://0x7f.1:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://127.1:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://127.0.1:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://0177.0x0.1:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://%31%32%37.0.0.1:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://127%2e0%2e0%2e1:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://\uff11\uff12\uff17.\uff10.\uff10.\uff11:{port}/", Reason.BAD_URL),  # full-width digits
    ("http://127\u30020\u30020\u30021:{port}/", Reason.BAD_URL),  # ideographic full stops
    ("http://127\uff0e0\uff0e0\uff0e1:{port}/", Reason.BAD_URL),
    ("http://\u2460\u2461\u2466.0.0.1:{port}/", Reason.BAD_URL),  # circled digits
    ("http://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3:{port}/", Reason.BAD_URL),  # circled letters
    ("http://0.0.0.0:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://0:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://00000:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://0x0:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://localhost:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://LOCALHOST:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://localhost.:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://[::1]:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://[0:0:0:0:0:0:0:1]:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://[0000::0001]:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://[::]:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://[::ffff:127.0.0.1]:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://[::ffff:7f00:1]:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://[::FFFF:7F00:0001]:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://[::ffff:0.0.0.0]:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://[::127.0.0.1]:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://[::ffff:0:127.0.0.1]:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://[64:ff9b::7f00:1]:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://[64:ff9b:1::7f00:1]:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://[2002:7f00:1::]:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://[2001:0:7f00:1::]:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://[::1%25lo]:{port}/", Reason.NO_SUCH_HOST),
    ("http://mapped.example:{port}/", Reason.PRIVATE_ADDRESS),
    # what stands before an @ is no host
    ("http://site.example@127.0.0.1:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://site.example:80@127.0.0.1:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://user:word@127.0.0.1:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://site.example%2f@127.0.0.1:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://site.example%23@127.0.0.1:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://site.example%40127.0.0.1:{port}/", Reason.NO_SUCH_HOST),
    ("http://site.example%5c@127.0.0.1:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://127.0.0.1:{port}#@site.example/", Reason.PRIVATE_ADDRESS),
    ("http://127.0.0.1:{port}?@site.example/", Reason.PRIVATE_ADDRESS),
    ("http://127.0.0.1:{port}\\@site.example/", Reason.PRIVATE_ADDRESS),
    ("http://127.0.0.1:{port}\\.site.example/", Reason.PRIVATE_ADDRESS),
    ("http://127.0.0.1 :{port}/", Reason.BAD_URL),
    ("http://127.0.0.1\x00.site.example:{port}/", Reason.BAD_URL),
    ("http://127.0.0.1%00.site.example:{port}/", Reason.BAD_URL),
]
# Browsers find a host in some of these; by the rules for relative URLs a redirect to them leads to the site itself.
WITHOUT_HOST = [
    "http:\\\\127.0.0.1:{port}\\",
    "http:/127.0.0.1:{port}/",
    "http:127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/",
    "///127.0.0.1:{port}/",
    "/\\127.0.0.1:{port}/",
    "\\\\127.0.0.1:{port}\\",
    "127.0.0.1/",
]
# Where other machines are that are nobody's business.
TO_OTHERS = [
    ("http://169.254.169.254/latest/meta-data/", Reason.PRIVATE_ADDRESS),
    ("http://2852039166/", Reason.PRIVATE_ADDRESS),
    ("http://0xa9fea9fe/", Reason.PRIVATE_ADDRESS),
    ("http://0xA9.0xFE.0xA9.0xFE/", Reason.PRIVATE_ADDRESS),
    ("http://0251.0376.0251.0376/", Reason.PRIVATE_ADDRESS),
    ("http://025177524776/", Reason.PRIVATE_ADDRESS),
    ("http://169.254.43518/", Reason.PRIVATE_ADDRESS),
    ("http://[::ffff:169.254.169.254]/", Reason.PRIVATE_ADDRESS),
    ("http://[::ffff:a9fe:a9fe]/", Reason.PRIVATE_ADDRESS),
    ("http://[fd00:ec2::254]/", Reason.PRIVATE_ADDRESS),
    ("http://[fd20:ce::254]/", Reason.PRIVATE_ADDRESS),
    ("http://metadata.google.internal/", Reason.PRIVATE_ADDRESS),
    ("http://METADATA.google.internal./", Reason.PRIVATE_ADDRESS),
    ("http://intranet.example/", Reason.PRIVATE_ADDRESS),
    ("http://168.63.129.16/", Reason.PRIVATE_ADDRESS),
    ("http://100.100.100.200/", Reason.PRIVATE_ADDRESS),
    ("http://192.0.0.192/", Reason.PRIVATE_ADDRESS),
    ("http://[fe80::1]/", Reason.PRIVATE_ADDRESS),
    ("http://[fe80::1%25eth0]/", Reason.NO_SUCH_HOST),
    ("http://[fec0::1]/", Reason.PRIVATE_ADDRESS),
    ("http://10.0.0.1/", Reason.PRIVATE_ADDRESS),
    ("http://172.16.0.1/", Reason.PRIVATE_ADDRESS),
    ("http://172.31.255.254/", Reason.PRIVATE_ADDRESS),
    ("http://192.168.0.1/", Reason.PRIVATE_ADDRESS),
    ("http://100.64.0.1/", Reason.PRIVATE_ADDRESS),
    ("http://198.18.0.1/", Reason.PRIVATE_ADDRESS),
    ("http://192.0.2.1/", Reason.PRIVATE_ADDRESS),
    ("http://224.0.0.1/", Reason.PRIVATE_ADDRESS),
    ("http://240.0.0.1/", Reason.PRIVATE_ADDRESS),
    ("http://255.255.255.255/", Reason.PRIVATE_ADDRESS),
    ("http://[fc00::1]/", Reason.PRIVATE_ADDRESS),
    ("http://[ff02::1]/", Reason.PRIVATE_ADDRESS),
    ("http://nobody.example/", Reason.NO_SUCH_HOST),
]
OTHER_SCHEMES = [
    "file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "FILE:///etc/passwd",
    "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/_GET%20/",
    "dict://127.0.0.1:{port}/info",
    "ldap://127.0.0.1:{port}/",
    "data:image/png;base64,iVBORw0KGgo=",
    "javascript:alert(1)",
    "blob:http://127.0.0.1:{port}/1",
    "view-source:http://127.0.0.1:{port}/",
    "jar:http://127.0.0.1:{port}/!/",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/info",
    "unix:///var/run/docker.sock",
    "ws://127.0.0.1:{port}/",
    "httpx://127.0.0.1:{port}/",
    "about:blank",
]
NOTATIONS = [*TO_THE_VICTIM, *TO_OTHERS, *((url, Reason.BAD_URL) for url in OTHER_SCHEMES)]
URLS = [
    *NOTATIONS,
    *((url, Reason.BAD_URL) for url in WITHOUT_HOST),
    (" \n http://127.0.0.1:{port}/ \n ", Reason.PRIVATE_ADDRESS),
    ("\x00\x1f http://127.0.0.1:{port}/\x0b\x00", Reason.PRIVATE_ADDRESS),
    ("http://127.0.0.1\x7f:{port}/", Reason.BAD_URL),
    ("http://127\u200b.0.0.1:{port}/", Reason.BAD_URL),
    ("//127.0.0.1:{port}/", Reason.BAD_URL),
    ("127.0.0.1:{port}/", Reason.BAD_URL),
    ("http://127.0.0.1\t:{port}/", Reason.BAD_URL),
    ("http://127.0.0.1\r\n.site.example:{port}/", Reason.BAD_URL),
]
REDIRECTS = [
    *NOTATIONS,
    ("//127.0.0.1:{port}/", Reason.PRIVATE_ADDRESS),
    ("//[::1]:{port}/", Reason.PRIVATE_ADDRESS),
    ("//site.example@127.0.0.1:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://127.0.0.1\t:{port}/", Reason.PRIVATE_ADDRESS),
    ("http://[", Reason.BAD_URL),
    ("http://127.0.0.1:99999/", Reason.BAD_URL),
]


# --- the machine ------------------------------------------------------------------------------------------------------


class Resolver:
    """In place of the system's: reads all notations of addresses as that does, but asks nobody for names.

    Attributes:
      answers: By name, its addresses: one after the other, the last one for ever.
      asked: The names looked up. Addresses are not among them.
    """

    def __init__(self):
        self.answers: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self._real = socket.getaddrinfo

    def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):
        if given := self.answers.get(host):
            self.asked.append(host)
            host = given.pop(0) if len(given) > 1 else given[0]
        if host.lower().rstrip(".") == "localhost":
            host = "127.0.0.1"
        return self._real(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)


@pytest.fixture(autouse=True)
def resolver(monkeypatch):
    found = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", found.getaddrinfo)
    return found


@pytest.fixture(autouse=True)
def connections(monkeypatch):
    """The addresses that anybody in this process tried to connect to."""
    tried = []
    connect = socket.socket.connect

    def note(self, address):
        tried.append(address[0])
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", note)
    return tried


class Victim:
    """Listens on all addresses of this machine, IPv6 too where there is some."""

    def __init__(self):
        if socket.has_dualstack_ipv6():
            self._listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            self._listener = socket.create_server(("0.0.0.0", 0))
        self.port = self._listener.getsockname()[1]

    def close(self):
        self._listener.close()

    def was_left_alone(self) -> bool:
        """Whether nobody has connected. A connection waits here even if it was closed at the other end."""
        self._listener.setblocking(False)
        try:
            self._listener.accept()[0].close()
        except BlockingIOError:
            return True
        return False

    def answer_once(self) -> str:
        """Waits for somebody, answers 404 and returns the first line of the request."""
        self._listener.settimeout(LIMITS["total_seconds"])
        connection, _ = self._listener.accept()
        with connection, connection.makefile("rb") as lines:
            connection.settimeout(LIMITS["total_seconds"])
            request = lines.readline().decode().strip()
            while lines.readline().strip():
                pass
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return request


@pytest.fixture
def victim():
    with contextlib.closing(Victim()) as listening:
        yield listening


class Site(http.server.ThreadingHTTPServer):
    """A site at one address.

    Attributes:
      pages: By path: a status, a Location and a body.
      asked: (Host header, path) of all requests.
      clients: The ports that they came from.
      headers: Their headers.
    """

    daemon_threads = True
    allow_reuse_address = False

    def __init__(self, address: str, port: int = 0):
        super().__init__((address, port), _Handler)
        self.port = self.server_address[1]
        self.pages: dict[str, tuple[int, str, bytes]] = {}
        self.asked: list[tuple[str, str]] = []
        self.clients: list[int] = []
        self.headers: list[dict[str, str]] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def server_bind(self):
        """Not the one of HTTP servers, which asks DNS for their names."""
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request, client_address):
        """A client that hangs up is no error here."""

    def close(self):
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append((self.headers["Host"], self.path))
        self.server.clients.append(self.client_address[1])
        self.server.headers.append(dict(self.headers))
        status, location, body = self.server.pages.get(self.path, (404, "", b""))
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


@contextlib.contextmanager
def site_at(address: str, port: int = 0):
    try:
        site = Site(address, port)
    except OSError as error:
        pytest.skip(f"{address} cannot be listened on: {error}")
    with contextlib.closing(site):
        yield site


@pytest.fixture
def site():
    with site_at(SITE_ADDRESS) as serving:
        yield serving


@pytest.fixture
def client(monkeypatch):
    """A client with the policy of production, to which the addresses of the sites count as public."""
    is_public = addresses.is_public
    monkeypatch.setattr(
        addresses, "is_public", lambda address: str(address) in (SITE_ADDRESS, OTHER_ADDRESS) or is_public(address)
    )
    with contextlib.closing(WebClient(FetchPolicy(addresses=NAMES, **LIMITS))) as asking:
        yield asking


@pytest.fixture
def clock(monkeypatch):
    """The time by which the answers of DNS are forgotten."""
    now = types.SimpleNamespace(seconds=1_000_000.0)
    monkeypatch.setattr(addresses, "time", types.SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def get(client: WebClient, url: str, **how) -> Answer:
    return client.get(clean_url(url), accept="image/*", **how)


def get_in_turns(client: WebClient, url: str, **how) -> Answer:
    """Asks as a crawl does: what a redirect to another host leads to is asked for by itself."""
    for _ in range(10):
        try:
            return get(client, url, stay=True, **how)
        except Moved as moved:
            url = moved.url
    raise AssertionError("moved on and on")


def refusal(ask, *args, **how) -> Reason:
    with pytest.raises(WebFault) as caught:
        ask(*args, **how)
    return caught.value.reason


# --- URLs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("url", "reason"), URLS)
def test_urls_of_private_places_are_refused(client, victim, connections, url, reason):
    assert refusal(get, client, url.replace("{port}", str(victim.port))) == reason
    assert victim.was_left_alone()
    assert connections == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f.0.0.1:{port}/",
        "http://127.1:{port}/",
        "http://0:{port}/",
        "http://localhost:{port}/",
        "http://site.example%23@127.0.0.1:{port}/",
        "http://127.0.0.1:{port}\\@site.example/",
        "http://[::1]:{port}/",
        "http://[::]:{port}/",
        "http://[::ffff:7f00:1]:{port}/",
    ],
)
def test_the_same_urls_do_lead_to_the_victim_where_private_hosts_are_allowed(victim, url):
    """So the refusals above are not those of a dead end."""
    if "[" in url and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6")
    requests = []
    answering = threading.Thread(target=lambda: requests.append(victim.answer_once()), daemon=True)
    answering.start()
    policy = FetchPolicy(addresses=NAMES, allow_private_hosts=True, **LIMITS)
    with contextlib.closing(WebClient(policy)) as client:
        reason = refusal(get, client, url.replace("{port}", str(victim.port)))
    answering.join()
    assert reason == Reason.NOT_FOUND
    assert [request.split()[0] for request in requests] == ["GET"]


# --- redirects --------------------------------------------------------------------------------------------------------


def redirecting(site: Site, path: str, location: str, status: int = 302) -> str:
    """Lays a redirect out; returns its URL."""
    site.pages[path] = (status, location.encode().decode("latin-1"), b"moved")
    return f"http://site.example:{site.port}{path}"


@pytest.mark.parametrize("ask", [get, get_in_turns])
@pytest.mark.parametrize(("location", "reason"), REDIRECTS)
def test_redirects_to_private_places_are_refused(client, site, victim, connections, ask, location, reason):
    url = redirecting(site, "/a.jpg", location.replace("{port}", str(victim.port)))
    assert refusal(ask, client, url) == reason
    assert site.asked == [(f"site.example:{site.port}", "/a.jpg")]
    assert victim.was_left_alone()
    assert connections == [SITE_ADDRESS]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://127.0.0.1:{port}/", Reason.PRIVATE_ADDRESS),
        ("//localhost:{port}/", Reason.PRIVATE_ADDRESS),
        ("http://[::ffff:7f00:1]:{port}/", Reason.PRIVATE_ADDRESS),
        ("http://169.254.169.254/latest/meta-data/", Reason.PRIVATE_ADDRESS),
        ("file:///etc/passwd", Reason.BAD_URL),
    ],
)
def test_redirects_of_all_kinds_are_refused(client, site, victim, connections, status, location, reason):
    url = redirecting(site, "/a.jpg", location.replace("{port}", str(victim.port)), status)
    assert refusal(get, client, url) == reason
    assert len(site.asked) == 1
    assert victim.was_left_alone()
    assert connections == [SITE_ADDRESS]


@pytest.mark.parametrize("ask", [get, get_in_turns])
def test_a_chain_of_redirects_is_checked_to_its_end(client, site, victim, connections, ask):
    url = redirecting(site, "/1", "/2")
    redirecting(site, "/2", f"//sister.example:{site.port}/3")
    redirecting(site, "/3", f"http://user@127.0.0.1:{victim.port}/4")
    assert refusal(ask, client, url) == Reason.PRIVATE_ADDRESS
    assert site.asked == [
        (f"site.example:{site.port}", "/1"),
        (f"site.example:{site.port}", "/2"),
        (f"sister.example:{site.port}", "/3"),
    ]
    assert victim.was_left_alone()
    assert set(connections) == {SITE_ADDRESS}


@pytest.mark.parametrize("ask", [get, get_in_turns])
def test_redirects_to_public_places_are_followed(client, site, ask):
    url = redirecting(site, "/1", f"//sister.example:{site.port}/2")
    redirecting(site, "/2", "/a.jpg")
    site.pages["/a.jpg"] = (200, "", b"photo")
    assert ask(client, url).body == b"photo"


@pytest.mark.parametrize("location", WITHOUT_HOST)
def test_redirects_without_a_host_stay_at_the_site(client, site, victim, connections, location):
    url = redirecting(site, "/a.jpg", location.replace("{port}", str(victim.port)))
    assert refusal(get, client, url) == Reason.NOT_FOUND
    assert [host for host, _ in site.asked] == [f"site.example:{site.port}"] * 2
    assert victim.was_left_alone()
    assert set(connections) == {SITE_ADDRESS}


@pytest.mark.parametrize("location", ["/b\r\n X-Added: 1", "/b%0d%0aX-Added:%201", "/b HTTP/1.1\u2028X-Added: 1"])
def test_a_redirect_adds_no_header_to_the_next_request(client, site, location):
    url = redirecting(site, "/a.jpg", location)
    assert refusal(get, client, url) in (Reason.NOT_FOUND, Reason.BAD_URL)
    assert not any("X-Added" in headers for headers in site.headers)
    assert all(host == f"site.example:{site.port}" and " " not in path for host, path in site.asked)


def test_robots_txt_that_redirects_to_a_private_place_is_refused(client, site, victim, connections):
    url = redirecting(site, "/robots.txt", f"http://127.0.0.1:{victim.port}/robots.txt")
    assert refusal(RobotsRules.load, url, client.get) == Reason.PRIVATE_ADDRESS
    assert victim.was_left_alone()
    assert connections == [SITE_ADDRESS]


# --- names that change ------------------------------------------------------------------------------------------------


def test_what_is_connected_to_is_what_was_checked(client, site, victim, connections, resolver, clock):
    """A name that shows its public side first, and its private side to whoever looks it up once more."""
    resolver.answers["rebinds.example"] = [SITE_ADDRESS, "127.0.0.1"]
    site.pages["/a.jpg"] = (200, "", b"photo")
    assert get(client, f"http://rebinds.example:{site.port}/a.jpg").body == b"photo"
    assert resolver.asked == ["rebinds.example"]
    assert connections == [SITE_ADDRESS]


def test_a_name_that_turns_private_is_refused(client, site, victim, connections, resolver, clock):
    resolver.answers["rebinds.example"] = [SITE_ADDRESS, "127.0.0.1"]
    site.pages["/a.jpg"] = (200, "", b"photo")
    get(client, f"http://rebinds.example:{site.port}/a.jpg")
    clock.seconds += 60
    assert refusal(get, client, f"http://rebinds.example:{site.port}/a.jpg") == Reason.PRIVATE_ADDRESS
    assert refusal(get, client, f"http://rebinds.example:{victim.port}/a.jpg") == Reason.PRIVATE_ADDRESS
    assert victim.was_left_alone()
    assert connections == [SITE_ADDRESS]


@pytest.mark.parametrize("ask", [get, get_in_turns])
def test_a_redirect_to_a_name_that_has_turned_private_is_refused(
    client, site, victim, connections, resolver, clock, ask
):
    resolver.answers["rebinds.example"] = [SITE_ADDRESS, "127.0.0.1"]
    redirecting(site, "/1", f"http://rebinds.example:{victim.port}/2")

    def time_passes(url, seconds):
        clock.seconds += 60

    assert refusal(ask, client, f"http://rebinds.example:{site.port}/1", may_ask=time_passes) == Reason.PRIVATE_ADDRESS
    assert resolver.asked == ["rebinds.example"] * 2
    assert victim.was_left_alone()
    assert connections == [SITE_ADDRESS]


def test_a_name_with_a_private_address_among_public_ones_is_refused(client, victim, connections, monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in (SITE_ADDRESS, "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    assert refusal(get, client, f"http://mixed.example:{victim.port}/") == Reason.PRIVATE_ADDRESS
    assert victim.was_left_alone()
    assert connections == []


# --- connections that are kept ----------------------------------------------------------------------------------------


def test_a_kept_connection_is_for_its_address_alone(client, site):
    site.pages["/a.jpg"] = (200, "", b"of the site")
    with site_at(OTHER_ADDRESS, site.port) as other:
        other.pages["/a.jpg"] = (200, "", b"of the other")
        bodies = [
            get(client, f"http://{name}.example:{site.port}/a.jpg").body for name in ("site", "other", "site", "other")
        ]
        assert bodies == [b"of the site", b"of the other"] * 2
        assert other.asked == [(f"other.example:{site.port}", "/a.jpg")] * 2
        assert site.asked == [(f"site.example:{site.port}", "/a.jpg")] * 2
        assert [len(set(place.clients)) for place in (site, other)] == [1, 1]


def test_a_kept_connection_is_left_when_its_name_moves(client, site, resolver, clock):
    resolver.answers["moves.example"] = [SITE_ADDRESS, OTHER_ADDRESS]
    site.pages["/a.jpg"] = (200, "", b"old")
    with site_at(OTHER_ADDRESS, site.port) as other:
        other.pages["/a.jpg"] = (200, "", b"new")
        url = f"http://moves.example:{site.port}/a.jpg"
        first = get(client, url).body
        clock.seconds += 60
        assert (first, get(client, url).body) == (b"old", b"new")


# --- under whose name -------------------------------------------------------------------------------------------------


def test_hosts_are_asked_under_their_names(client, site):
    site.pages["/a.jpg"] = (200, "", b"photo")
    for url in (
        "http://site.example:{}/a.jpg",
        "http://user:word@SISTER.Example:{}/a.jpg#part",
        "http://127.0.0.2:{}/a.jpg",
    ):
        get(client, url.format(site.port))
    hosts = [host for host, _ in site.asked]
    assert hosts == [f"{name}:{site.port}" for name in ("site.example", "sister.example", SITE_ADDRESS)]
    assert not any("Authorization" in headers or "Cookie" in headers for headers in site.headers)


class TlsSite(Site):
    """A site with a certificate for site.example; `names` are those that clients asked for in the handshake."""

    def __init__(self, address: str, certificate: str):
        self.names: list[str | None] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._context.sni_callback = lambda connection, name, context: self.names.append(name)
        super().__init__(address)

    def finish_request(self, request, client_address):
        with self._context.wrap_socket(request, server_side=True) as connection:
            super().finish_request(connection, client_address)


@pytest.fixture
def certificate(tmp_path) -> str:
    """A file with a key and a certificate of site.example."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl")
    key, signed, both = (tmp_path / name for name in ("key.pem", "signed.pem", "both.pem"))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=site.example"]
    command += ["-addext", "subjectAltName=DNS:site.example", "-keyout", str(key), "-out", str(signed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no certificate: {done.stderr[-200:]}")
    both.write_bytes(key.read_bytes() + signed.read_bytes())
    return str(both)


@pytest.fixture
def tls_site(certificate):
    try:
        serving = TlsSite(SITE_ADDRESS, certificate)
    except OSError as error:
        pytest.skip(f"{SITE_ADDRESS} cannot be listened on: {error}")
    with contextlib.closing(serving):
        yield serving


def test_tls_is_spoken_under_the_name_too(client, tls_site, certificate, monkeypatch):
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", certificate)
    tls_site.pages["/a.jpg"] = (200, "", b"photo")
    for name in ("site.example", "SITE.example", "site.example"):
        assert get(client, f"https://{name}:{tls_site.port}/a.jpg").body == b"photo"
    assert tls_site.asked == [(f"site.example:{tls_site.port}", "/a.jpg")] * 3
    assert tls_site.names == ["site.example"]  # one handshake: the connection was kept


def test_a_certificate_for_another_name_is_not_trusted(client, tls_site, certificate, monkeypatch):
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", certificate)
    tls_site.pages["/a.jpg"] = (200, "", b"photo")
    get(client, f"https://site.example:{tls_site.port}/a.jpg")
    # Of the same address, and with a kept connection there that speaks under another name.
    for host in ("sister.example", SITE_ADDRESS):
        assert refusal(get, client, f"https://{host}:{tls_site.port}/a.jpg") == Reason.TLS_ERROR
    assert tls_site.asked == [(f"site.example:{tls_site.port}", "/a.jpg")]
    assert tls_site.names == ["site.example", "sister.example", None]


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(client, tls_site):
    assert refusal(get, client, f"https://site.example:{tls_site.port}/a.jpg") == Reason.TLS_ERROR
    assert tls_site.asked == []


# --- the environment --------------------------------------------------------------------------------------------------


def test_proxies_and_passwords_of_the_environment_are_not_used(
    site, victim, connections, client, monkeypatch, tmp_path
):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        for variable in (name, name.upper()):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{victim.port}")
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "netrc").write_text("machine site.example login ann password word\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    site.pages["/a.jpg"] = (200, "", b"photo")
    url = redirecting(site, "/1", "/a.jpg")
    assert get(client, url).body == b"photo"
    assert not any("Authorization" in headers for headers in site.headers)
    assert victim.was_left_alone()
    assert set(connections) == {SITE_ADDRESS}
