"""Which addresses may be connected to, and looking up names: every special range, rebinding, time-outs."""

import contextlib
import ipaddress
import socket
import threading
import types

import pytest

from celebface.indexing.schemas import Reason
from celebface.transforms.web import addresses
from celebface.transforms.web.addresses import AddressBook
from celebface.transforms.web.policy import WebFault

PUBLIC = "1.1.1.1"
PRIVATE = "10.0.0.7"
TIMEOUT = 30.0

# IANA's registries of special-purpose addresses, and what else does not lead to the public internet.
SPECIAL_RANGES = [
    "0.0.0.0/8",  # this network
    "10.0.0.0/8",
    "100.64.0.0/10",  # carrier-grade NAT
    "127.0.0.0/8",
    "168.63.129.16/32",  # the host of a virtual machine on Azure
    "169.254.0.0/16",  # link-local, cloud metadata
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",  # documentation
    "192.88.99.0/24",  # 6to4 relays
    "192.168.0.0/16",
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, broadcast
    "::/96",  # unspecified, loopback, IPv4-compatible
    "::ffff:0:0:0/96",  # IPv4-translated
    "64:ff9b::/96",  # NAT64
    "64:ff9b:1::/48",
    "100::/64",  # discard only
    "100:0:0:1::/64",
    "2001::/32",  # Teredo
    "2001:1::1/128",
    "2001:2::/48",  # benchmarks
    "2001:3::/32",
    "2001:4:112::/48",
    "2001:10::/28",  # ORCHID
    "2001:20::/28",
    "2001:30::/28",
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4
    "3fff::/20",  # documentation
    "5f00::/16",  # segment routing
    "4000::/3",  # not given out yet, nor is what follows
    "8000::/1",
    "fc00::/7",  # unique local
    "fe80::/10",  # link-local
    "fec0::/10",  # site-local
    "ff00::/8",  # multicast
]
# Neighbours of the above, and addresses that many know.
PUBLIC_ADDRESSES = [
    "1.0.0.0",
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "168.63.129.17",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "191.255.255.255",
    "192.0.1.0",
    "192.0.3.0",
    "192.88.98.255",
    "192.88.100.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "198.51.99.255",
    "198.51.101.0",
    "203.0.112.255",
    "203.0.114.0",
    "223.255.255.255",
    "2001:200::",
    "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:db9::",
    "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2003::",
    "2001:4860:4860::8888",
    "2606:4700::1111",
    "2a00:1450:4001:80b::200e",
    "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "::ffff:1.1.1.1",
    "::ffff:8.8.8.8",
]


def is_public(address: str) -> bool:
    return addresses.is_public(ipaddress.ip_address(address))


def edges(network: str) -> list[str]:
    """The first, a middle and the last address of a range."""
    parsed = ipaddress.ip_network(network)
    return [str(parsed[place]) for place in (0, parsed.num_addresses // 2, -1)]


class Names:
    """In place of the system's resolver: gives the answers of a name one after the other, the last one for ever."""

    def __init__(self, **answers):
        self.answers = {name.replace("_", "."): list(given) for name, given in answers.items()}
        self.asked: list[str] = []

    def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):
        self.asked.append(host)
        given = self.answers[host]
        answer = given.pop(0) if len(given) > 1 else given[0]
        if isinstance(answer, Exception):
            raise answer
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in answer.split()
        ]


@pytest.fixture
def names(monkeypatch):
    """Makes the system's resolver give these answers: names(a_example=["1.1.1.1 1.0.0.1", "10.0.0.1"])."""

    def install(**answers) -> Names:
        found = Names(**answers)
        monkeypatch.setattr(socket, "getaddrinfo", found.getaddrinfo)
        return found

    return install


@pytest.fixture
def clock(monkeypatch):
    """The time by which answers are forgotten."""
    now = types.SimpleNamespace(seconds=1_000_000.0)
    monkeypatch.setattr(addresses, "time", types.SimpleNamespace(monotonic=lambda: now.seconds))
    return now


@pytest.fixture
def book():
    with contextlib.closing(AddressBook()) as opened:
        yield opened


def fault(book: AddressBook, host: str, timeout: float = TIMEOUT) -> WebFault:
    with pytest.raises(WebFault) as caught:
        book.addresses(host, 80, timeout)
    return caught.value


# --- what is public ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [address for network in SPECIAL_RANGES for address in edges(network)])
def test_special_addresses_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_public_addresses_pass(address):
    assert is_public(address)


IPV4_RANGES = [network for network in SPECIAL_RANGES if "." in network]


@pytest.mark.parametrize("form", ["::ffff:{}", "::{}", "::ffff:0:{}", "64:ff9b::{}"])
@pytest.mark.parametrize("address", [address for network in IPV4_RANGES for address in edges(network)])
def test_special_addresses_are_not_public_in_the_clothes_of_ipv6(form, address):
    assert not is_public(form.format(address))


@pytest.mark.parametrize(
    "address",
    [
        "::1.1.1.1",  # IPv4-compatible
        "64:ff9b::1.1.1.1",  # NAT64
        "2002:101:101::",  # 6to4
        "2002:7f00:1::",
        "2001:0:101:101::fefe:fefe",  # Teredo
        "2001:0:53aa:64c:0:0:80ff:fffe",
    ],
)
def test_ipv6_that_stands_for_ipv4_is_not_public_whatever_it_stands_for(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["fe80::1%eth0", "fe80::1%1", "fec0::1%2", "ff02::1%eth0", "::1%lo"])
def test_a_zone_makes_no_address_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("network", ["100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24"])
def test_what_some_versions_of_python_let_pass_is_not_public(network):
    class Lenient(ipaddress.IPv4Address):
        is_global, is_reserved = True, False

    assert [addresses.is_public(Lenient(edge)) for edge in edges(network)] == [False] * 3


@pytest.mark.parametrize(
    "network", ["64:ff9b::/96", "64:ff9b:1::/48", "2001::/23", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10"]
)
def test_what_some_versions_of_python_let_pass_is_not_public_in_ipv6(network):
    class Lenient(ipaddress.IPv6Address):
        is_global, is_reserved = True, False

    assert [addresses.is_public(Lenient(edge)) for edge in edges(network)] == [False] * 3


# --- names ------------------------------------------------------------------------------------------------------------


def test_all_public_addresses_of_a_name_are_given_in_order_those_of_ipv4_first(names, book):
    names(a_example=["8.8.8.8 2606:4700::1111 8.8.8.8 1.1.1.1"])
    assert book.addresses("a.example", 80, TIMEOUT) == ("8.8.8.8", "1.1.1.1", "2606:4700::1111")


@pytest.mark.parametrize(
    "found", ["10.0.0.7", "1.1.1.1 10.0.0.7", "10.0.0.7 1.1.1.1", "2606:4700::1111 ::1", "1.1.1.1 fe80::1%eth0"]
)
def test_a_name_with_one_private_address_is_refused(names, book, found):
    names(a_example=[found])
    refused = fault(book, "a.example")
    assert (refused.reason, refused.passing, refused.of_host) == (Reason.PRIVATE_ADDRESS, False, False)
    assert str(refused).endswith("is not a public address")


def test_private_addresses_pass_where_the_policy_allows_them(names):
    names(a_example=["10.0.0.7 fe80::1%eth0"])
    with contextlib.closing(AddressBook(allow_private=True)) as book:
        assert book.addresses("a.example", 80, TIMEOUT) == ("10.0.0.7", "fe80::1%eth0")


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), False),
        (socket.gaierror(socket.EAI_FAIL, "broken"), False),
        (socket.gaierror(socket.EAI_AGAIN, "later"), True),
        (OSError("no network"), False),
        (UnicodeError("label too long"), False),
        (ValueError("embedded null"), False),
    ],
)
def test_unknown_names(names, book, error, passing):
    names(a_example=[error])
    unknown = fault(book, "a.example")
    assert (unknown.reason, unknown.passing, unknown.of_host) == (Reason.NO_SUCH_HOST, passing, True)


@pytest.mark.parametrize("host", ["a..example", "a" * 64 + ".example", ".example"])
def test_what_cannot_be_a_name_is_not_known(book, host):
    assert fault(book, host).reason == Reason.NO_SUCH_HOST


def test_a_slow_lookup_is_not_waited_for(monkeypatch, book):
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answered.wait(TIMEOUT) and [])
    late = fault(book, "a.example", timeout=0.01)
    answered.set()
    assert (late.reason, late.passing, late.of_host) == (Reason.TIMEOUT, True, True)


def test_slow_lookups_do_not_hold_up_others(monkeypatch, book):
    answered = threading.Event()

    def getaddrinfo(host, port, **kwargs):
        if host == "slow.example":
            answered.wait(TIMEOUT)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (PUBLIC, port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    for _ in range(20):
        fault(book, "slow.example", timeout=0.001)
    found = book.addresses("quick.example", 80, TIMEOUT / 10)
    answered.set()
    assert found == (PUBLIC,)


# --- answers are remembered -------------------------------------------------------------------------------------------


def test_an_answer_is_remembered_for_a_minute_at_most(names, book, clock):
    found = names(a_example=["1.1.1.1", "8.8.8.8"])
    first = [book.addresses("a.example", 80, TIMEOUT) for _ in range(3)]
    clock.seconds += 60
    assert first == [("1.1.1.1",)] * 3
    assert book.addresses("a.example", 80, TIMEOUT) == ("8.8.8.8",)
    assert found.asked == ["a.example"] * 2


def test_a_name_that_turns_private_is_refused_once_its_answer_is_forgotten(names, book, clock):
    names(a_example=[PUBLIC, PRIVATE])
    assert book.addresses("a.example", 80, TIMEOUT) == (PUBLIC,)
    clock.seconds += 60
    assert fault(book, "a.example").reason == Reason.PRIVATE_ADDRESS


def test_a_refusal_is_remembered_too(names, book, clock):
    """A name cannot be asked for again and again until it shows its public side."""
    found = names(a_example=[PRIVATE, PUBLIC])
    assert [fault(book, "a.example").reason for _ in range(3)] == [Reason.PRIVATE_ADDRESS] * 3
    assert found.asked == ["a.example"]


def test_that_a_name_is_unknown_is_not_remembered(names, book, clock):
    names(a_example=[socket.gaierror(socket.EAI_AGAIN, "later"), PUBLIC])
    assert fault(book, "a.example").reason == Reason.NO_SUCH_HOST
    assert book.addresses("a.example", 80, TIMEOUT) == (PUBLIC,)


# --- known addresses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", ["a.example", "A.Example", "a.example."])
@pytest.mark.parametrize("asked", ["a.example", "A.EXAMPLE", "a.example.", "A.Example."])
def test_known_addresses_take_the_place_of_dns(names, known, asked):
    found = names()
    with contextlib.closing(AddressBook(known={known: PUBLIC})) as book:
        assert book.addresses(asked, 80, TIMEOUT) == (PUBLIC,)
    assert found.asked == []


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fe80::1"])
def test_known_addresses_are_checked_as_well(address):
    with contextlib.closing(AddressBook(known={"a.example": address})) as book:
        assert fault(book, "a.example").reason == Reason.PRIVATE_ADDRESS


def test_known_addresses_hold_for_the_very_name_only(names):
    names(b_a_example=["8.8.8.8"], example=["9.9.9.9"])
    with contextlib.closing(AddressBook(known={"a.example": PUBLIC})) as book:
        assert book.addresses("b.a.example", 80, TIMEOUT) == ("8.8.8.8",)
        assert book.addresses("example", 80, TIMEOUT) == ("9.9.9.9",)


@pytest.mark.parametrize("address", ["", "b.example", "127.1", "1.1.1.1:80", "[::1]"])
def test_known_addresses_must_be_addresses(address):
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        AddressBook(known={"a.example": address})
