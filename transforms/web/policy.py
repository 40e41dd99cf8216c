"""The rules by which the web is asked."""

import dataclasses
import importlib.metadata

from celebface.indexing.schemas import Reason

AGENT = "celebface"  # the product token that robots.txt and X-Robots-Tag may name


@dataclasses.dataclass(frozen=True)
class FetchPolicy:
    """Bounds on reading photos, and manners towards those who serve them.

    Attributes:
      max_bytes: Larger photos are not read.
      contact: Mail address or URL that a site's owner can turn to; sent with each request.
      threads: Requests under way at once, in each worker process.
      host_connections: Requests under way at once to one host, over all workers.
      host_rate: Requests a second to one host, over all workers; 0 for no limit.
      host_workers: Workers that a host of many items is asked by, each with its share of connections and rate.
      host_failures: After so many failures of a host in a row, it is left alone.
      connect_seconds: Longest wait for a connection.
      read_seconds: Longest wait for the next bytes.
      total_seconds: Longest time for one item: redirects, waits and retries included.
      retries: How often an item is asked for again after a passing fault.
      redirects: Most redirects followed for one item.
      robots: Obey robots.txt.
      opt_outs: Obey X-Robots-Tag, robots meta tags and TDM-Reservation.
      allow_private_hosts: Also ask addresses that are not public ones.
      addresses: (host name, address) pairs that take the place of DNS.
    """

    max_bytes: int = 32 * 2**20
    contact: str = ""
    threads: int = 32
    host_connections: int = 4
    host_rate: float = 8.0
    host_workers: int = 1
    host_failures: int = 10
    connect_seconds: float = 10.0
    read_seconds: float = 15.0
    total_seconds: float = 60.0
    retries: int = 3
    redirects: int = 5
    robots: bool = True
    opt_outs: bool = True
    allow_private_hosts: bool = False
    addresses: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name in ("max_bytes", "threads", "host_connections", "host_failures", "host_workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("connect_seconds", "read_seconds", "total_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("host_rate", "retries", "redirects"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")

        if self.host_workers > self.host_connections:
            raise ValueError(
                f"each of {self.host_workers} host_workers needs one of the host_connections, of which there are "
                f"{self.host_connections}"
            )

    @property
    def connections_each(self) -> int:
        """Requests under way at once to one host, in one of its workers."""
        return self.host_connections // self.host_workers

    @property
    def interval_each(self) -> float:
        """Seconds between two requests of one worker to a host; 0 for no limit."""
        return self.host_workers / self.host_rate if self.host_rate else 0.0

    @property
    def user_agent(self) -> str:
        """Who asks, and whom to turn to."""
        return f"{AGENT}/{importlib.metadata.version('celebface')} (+{self.contact})"


class WebFault(Exception):
    """Something on the web cannot be had.

    Attributes:
      reason: Why, for the ledger.
      passing: Whether it may be otherwise in a moment.
      of_host: Whether it speaks against the whole host.
      retry_after: Seconds that the host asked to be left alone; 0 if it did not.
    """

    def __init__(
        self, reason: Reason, detail: str, *, passing: bool = False, of_host: bool = False, retry_after: float = 0.0
    ):
        super().__init__(detail)
        self.reason = reason
        self.passing = passing
        self.of_host = of_host
        self.retry_after = retry_after
