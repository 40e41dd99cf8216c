"""Which addresses may be connected to. Host names are looked up here, and nowhere else."""

import concurrent.futures
import ipaddress
import socket
import time
from collections.abc import Mapping

from celebface.indexing.schemas import Reason
from celebface.transforms.web.policy import WebFault

_REMEMBERED_SECONDS = 60  # an answer of DNS
_REMEMBERED = 4096
_LOOKUPS_AT_ONCE = 64  # a lookup that nobody waits for any more still takes its place until the resolver gives up

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# What `is_global` of some Python versions lets pass (python/cpython#113171), and ranges that stand for other addresses.
_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        [
            "100.64.0.0/10",  # carrier-grade NAT
            "192.0.0.0/24",
            "168.63.129.16/32",  # the host of a virtual machine on Azure, with its metadata
            "192.88.99.0/24",  # 6to4 relays
            "64:ff9b::/96",  # NAT64: an IPv4 address of the local network's choice
            "64:ff9b:1::/48",
            "2001::/23",  # Teredo, ORCHID
            "2002::/16",  # 6to4
            "3fff::/20",
            "5f00::/16",
            "fec0::/10",  # site-local, the private addresses of old
        ],
    )
)


def is_public(address: IPAddress) -> bool:
    """Whether an address belongs to the public internet.

    False for private, loopback, link-local (cloud metadata services among them), multicast, reserved and unspecified
    addresses, and for IPv6 forms of them.
    """
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return is_public(address.ipv4_mapped)
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address.version == network.version and address in network for network in _NOT_PUBLIC)


class AddressBook:
    """Looks up host names, and refuses those that lead to addresses that are not public."""

    def __init__(self, allow_private: bool = False, known: Mapping[str, str] | None = None):
        """Opens the book.

        Args:
          allow_private: Refuse nothing.
          known: Addresses by host name, in place of DNS; they are checked as well.

        Raises:
          ValueError: If a known address is none.
        """
        self._allow_private = allow_private
        self._known = {_bare(name): str(ipaddress.ip_address(address)) for name, address in (known or {}).items()}
        self._pool = concurrent.futures.ThreadPoolExecutor(_LOOKUPS_AT_ONCE, "lookup")
        self._remembered: dict[tuple[str, int, int], tuple[str, ...]] = {}

    def close(self) -> None:
        """Lets lookups go that are under way."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def addresses(self, host: str, port: int, timeout: float) -> tuple[str, ...]:
        """Finds a host's addresses, best first.

        Args:
          host: A name, or an address in any notation that the system's resolver takes.
          port: Where it is to be asked.
          timeout: Seconds.

        Raises:
          WebFault: If there is no such host, or one of its addresses is not public.
        """
        epoch = int(time.monotonic() / _REMEMBERED_SECONDS)
        found = self._remembered.get((host, port, epoch)) or self._ask(host, port, epoch, timeout)
        refused = [address for address in found if not (self._allow_private or is_public(_parsed(address)))]
        if refused:
            raise WebFault(Reason.PRIVATE_ADDRESS, f"{refused[0]} is not a public address")
        return found

    def _ask(self, host: str, port: int, epoch: int, timeout: float) -> tuple[str, ...]:
        lookup = self._pool.submit(self._look_up, host, port)
        try:
            found = lookup.result(timeout)
        except concurrent.futures.TimeoutError as error:
            lookup.cancel()
            raise WebFault(Reason.TIMEOUT, "the name was not looked up in time", passing=True, of_host=True) from error
        except socket.gaierror as error:
            passing = error.errno == socket.EAI_AGAIN
            raise WebFault(Reason.NO_SUCH_HOST, "the name is not known", passing=passing, of_host=True) from error
        except (ValueError, OSError) as error:
            raise WebFault(Reason.NO_SUCH_HOST, "the name cannot be looked up", of_host=True) from error
        if len(self._remembered) >= _REMEMBERED:
            self._remembered.clear()
        self._remembered[host, port, epoch] = found
        return found

    def _look_up(self, host: str, port: int) -> tuple[str, ...]:
        if known := self._known.get(_bare(host)):
            return (known,)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = dict.fromkeys(str(entry[4][0]) for entry in found)
        return tuple(sorted(addresses, key=lambda address: ":" in address))  # IPv6 is often announced and not routed


def _bare(name: str) -> str:
    return name.rstrip(".").lower()


def _parsed(address: str) -> IPAddress:
    return ipaddress.ip_address(address.partition("%")[0])  # link-local ones come with their interface
