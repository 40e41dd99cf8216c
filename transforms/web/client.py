"""HTTP with bounds: checked addresses, a deadline for the whole, a cap on bytes, redirects in sight."""

import contextlib
import dataclasses
import datetime
import email.utils
import http.client
import logging
import os
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import requests
import tenacity
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict

from celebface.indexing.schemas import Reason
from celebface.transforms.web.addresses import AddressBook
from celebface.transforms.web.policy import FetchPolicy, WebFault

# For headers that it cannot read it warns with the whole URL, keys among it.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)

_CHUNK = 1 << 16
_AROUND_URLS = "".join(map(chr, range(33)))  # what the URL standard strips: C0 controls and space
# Most URLs: nothing in them that would be rewritten. It saves two thirds of the time that a list takes to read.
_PLAIN_URL = re.compile(
    r"https?://[a-z0-9-]+(\.[a-z0-9-]+)*(:([1-9]\d{3}|[1-5]\d{4}))?(?!.*/\.)/[A-Za-z0-9._~/-]*(\?[A-Za-z0-9._~=&-]+)?"
)
_LONGEST_VALIDATOR = 1024
_LONGEST_URL = 8192  # characters; servers refuse longer ones
_CUT_SECONDS = 0.1  # how late a connection may be cut
_BACKOFF = tenacity.wait_exponential_jitter(initial=0.5, max=10, jitter=0.5)
_LONGEST_RETRY_AFTER = 86_400.0
_STATUSES = {
    401: Reason.FORBIDDEN,
    403: Reason.FORBIDDEN,
    404: Reason.NOT_FOUND,
    408: Reason.SERVER_ERROR,
    410: Reason.GONE,
    425: Reason.SERVER_ERROR,
    429: Reason.RATE_LIMITED,
    451: Reason.FORBIDDEN,
}
_CONDITIONS = frozenset(("If-None-Match", "If-Modified-Since"))
_PASSING_STATUSES = (408, 425, 429, 500, 502, 503, 504)


class Moved(Exception):
    """A redirect leads to another host, which is to be asked in its own turn."""

    def __init__(self, url: str):
        super().__init__(url)
        self.url = url


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a server sent.

    Attributes:
      status: 200, or 304 if nothing changed.
      url: Who answered, after redirects.
      headers: By name in any case.
      body: Decoded from its Content-Encoding.
    """

    status: int
    url: str
    headers: Mapping[str, str]
    body: bytes


def clean_url(text: str) -> str:
    """A URL as it is asked for and written down: absolute, ASCII, without user name, password and fragment.

    Raises:
      WebFault: If it is not an http or https URL.
    """
    if len(text) > _LONGEST_URL:
        raise WebFault(Reason.BAD_URL, f"longer than {_LONGEST_URL} characters")
    if _PLAIN_URL.fullmatch(text):
        return text
    try:
        url = requests.Request("GET", text.strip(_AROUND_URLS)).prepare().url or ""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise WebFault(Reason.BAD_URL, "not an http or https URL")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        default = {"http": 80, "https": 443}[parts.scheme]
        netloc = host if parts.port in (None, default) else f"{host}:{parts.port}"
        clean = urllib.parse.urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, ""))
        if not clean.isascii() or requests.Request("GET", clean).prepare().url != clean:
            raise WebFault(Reason.BAD_URL, "not a URL that can be asked for")
        return clean
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        raise WebFault(Reason.BAD_URL, "not a URL that can be asked for") from error


def host_of(url: str) -> str:
    """The host that a clean URL is asked of."""
    return (urllib.parse.urlsplit(url).hostname or "").rstrip(".")


class WebClient:
    """Asks for one thing at a time in each thread; safe to share between threads."""

    def __init__(self, policy: FetchPolicy):
        """Opens nothing yet; `close` ends it."""
        self._policy = policy
        self._user_agent = policy.user_agent
        self._book = AddressBook(policy.allow_private_hosts, dict(policy.addresses))
        self._reaper = _Reaper()
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _CheckedAdapter(self._book, self._reaper, policy))

    def close(self) -> None:
        """Closes all connections."""
        self._session.close()
        self._reaper.close()
        self._book.close()

    def get(
        self,
        url: str,
        *,
        accept: str,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        max_bytes: int = 0,
        seconds: float = 0.0,
        may_ask: Callable[[str, float], None] = lambda url, seconds: None,
        look_at: Callable[[Mapping[str, str]], None] = lambda headers: None,
        told: Callable[[WebFault], None] = lambda fault: None,
        stay: bool = False,
    ) -> Answer:
        """Asks, again if the fault may pass, until the policy's time or retries are used up.

        Args:
          url: A clean URL.
          accept: Media types wanted. What came is told by its bytes, not by its Content-Type.
          headers: More headers, such as those of a conditional request. What cannot be sent is left out.
          params: Query parameters to add.
          max_bytes: Cap on the decoded body; 0 for the policy's.
          seconds: Time for each request, from when it is sent; 0 for as much as is left of the policy's time in all.
          may_ask: Called with each URL before it is asked for, and the seconds that are left for it; raises to refuse.
          look_at: Called with the headers of an answer before its body is read; raises to refuse.
          told: Called with each fault that is waited out.
          stay: Raise `Moved` rather than follow a redirect to another host.

        Raises:
          WebFault: If it cannot be had.
          Moved: See `stay`.
        """
        if params:
            url = requests.Request("GET", url, params=params).prepare().url or url
        deadline = _Deadline(self._policy.total_seconds)
        wanted = {"User-Agent": self._user_agent, "Accept": accept, "Accept-Encoding": "gzip, identity;q=0.5"}
        if accept.startswith("image/"):
            wanted["Accept-Encoding"] = "identity"
        wanted.update((name, value) for name, value in (headers or {}).items() if _can_be_sent(value))
        asked = _Question(wanted, max_bytes or self._policy.max_bytes, seconds, may_ask, look_at, stay)
        waited_out: list[WebFault] = []

        def before_sleep(state: tenacity.RetryCallState) -> None:
            waited_out.append(_last_fault(state))
            told(waited_out[-1])

        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, WebFault) and error.passing),
            wait=_wait,
            stop=tenacity.stop_after_attempt(self._policy.retries + 1)
            | tenacity.stop_before_delay(self._policy.total_seconds),
            before_sleep=before_sleep,
            reraise=True,
        )
        try:
            return attempts(self._ask, url, asked, deadline)
        except WebFault as fault:
            # What took the time tells more than that there is none left for another try.
            if waited_out and not fault.passing and fault.reason in (Reason.TIMEOUT, Reason.RATE_LIMITED):
                raise waited_out[-1] from fault
            raise

    def _ask(self, url: str, asked: "_Question", deadline: "_Deadline") -> Answer:
        for _ in range(self._policy.redirects + 1):
            asked.may_ask(url, deadline.left())
            mine = _Deadline(min(asked.seconds, deadline.left())) if asked.seconds else deadline
            with self._send(url, asked, mine) as response:
                if not response.is_redirect:
                    return self._answer(url, response, asked, mine)
                following = _redirect(url, response.headers["Location"])
            if asked.stay and host_of(following) != host_of(url):
                raise Moved(following)
            url = following
        raise WebFault(Reason.TOO_MANY_REDIRECTS, f"more than {self._policy.redirects} redirects")

    @contextlib.contextmanager
    def _send(self, url: str, asked: "_Question", deadline: "_Deadline") -> Iterator[requests.Response]:
        left = deadline.left()
        timeout = (min(self._policy.connect_seconds, left), min(self._policy.read_seconds, left))
        with self._reaper.watching(deadline):
            try:
                request = _prepared(url, asked.headers)
                # Not by the session's own `send`: it reads the body of a redirect, however long that is.
                adapter, trusted = self._session.get_adapter(url), self._session.verify or True
                with adapter.send(request, stream=True, timeout=timeout, verify=trusted) as response:
                    deadline.left()  # to a cut connection the headers seem to end
                    yield response
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                raise _fault(error, deadline) from error

    def _answer(self, url: str, response: requests.Response, asked: "_Question", deadline: "_Deadline") -> Answer:
        status = response.status_code
        if status != 200 and not (status == 304 and asked.conditional):
            raise _status_fault(response)
        asked.look_at(response.raw.headers)  # line by line; those of `response` are joined by commas
        if status == 304:
            return Answer(status, url, response.headers, b"")
        announced = response.headers.get("Content-Length", "")
        if announced.isascii() and announced.isdigit() and float(announced) > asked.max_bytes:
            raise WebFault(Reason.TOO_MANY_BYTES, f"more are announced than the limit, {asked.max_bytes} bytes")
        body = bytearray()
        for chunk in response.iter_content(_CHUNK):
            body += chunk
            if len(body) > asked.max_bytes:
                raise WebFault(Reason.TOO_MANY_BYTES, f"the limit is {asked.max_bytes} bytes")
            deadline.left()
        deadline.left()  # to a cut connection a body without length seems to end
        return Answer(status, url, response.headers, bytes(body))


@dataclasses.dataclass(frozen=True)
class _Question:
    headers: Mapping[str, str]
    max_bytes: int
    seconds: float
    may_ask: Callable[[str, float], None]
    look_at: Callable[[Mapping[str, str]], None]
    stay: bool

    @property
    def conditional(self) -> bool:
        return not _CONDITIONS.isdisjoint(self.headers)


def _prepared(url: str, headers: Mapping[str, str]) -> requests.PreparedRequest:
    """A request for a clean URL. To let the session prepare it again would take a third of the whole request's time."""
    request = requests.PreparedRequest()
    request.method, request.url = "GET", url
    request.headers = CaseInsensitiveDict(headers)
    request.hooks = requests.hooks.default_hooks()
    return request


def _wait(state: tenacity.RetryCallState) -> float:
    """What the host asked for, at least; else longer and longer."""
    return max(_BACKOFF(state), _last_fault(state).retry_after)


def _last_fault(state: tenacity.RetryCallState) -> WebFault:
    fault = state.outcome.exception() if state.outcome else None
    assert isinstance(fault, WebFault)
    return fault


def validator(value: str) -> str:
    """An ETag or a date as it may be kept and sent back; empty if it cannot be. A server can send anything."""
    return value if len(value) <= _LONGEST_VALIDATOR and _can_be_sent(value) else ""


def _can_be_sent(value: str) -> bool:
    return value.isascii() and value.isprintable() and value == value.strip()


def _redirect(url: str, location: str) -> str:
    """Where a redirect leads to."""
    try:
        # Headers are read as Latin-1; what is meant is UTF-8.
        return clean_url(urllib.parse.urljoin(url, location.encode("latin-1").decode("utf-8")))
    except ValueError as error:
        raise WebFault(Reason.BAD_URL, "a redirect to what is not a URL") from error


def _status_fault(response: requests.Response) -> WebFault:
    status = response.status_code
    default = Reason.SERVER_ERROR if status >= 500 else Reason.HTTP_STATUS
    passing = status in _PASSING_STATUSES
    return WebFault(
        _STATUSES.get(status, default),
        f"status {status}",
        passing=passing,
        of_host=passing,
        retry_after=_retry_after(response.headers.get("Retry-After", "")) if passing else 0.0,
    )


def _retry_after(value: str) -> float:
    """Seconds of a Retry-After header: a number, or a date. Nonsense is no request."""
    if value.isascii() and value.isdigit():
        return min(float(value), _LONGEST_RETRY_AFTER)
    try:
        date = email.utils.parsedate_to_datetime(value)
        if date.tzinfo is None:
            date = date.replace(tzinfo=datetime.UTC)
        seconds = (date - datetime.datetime.now(datetime.UTC)).total_seconds()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(0.0, seconds), _LONGEST_RETRY_AFTER)


def _fault(error: Exception, deadline: "_Deadline") -> WebFault:
    """Names what went wrong. The libraries' own words are left out: they hold whole URLs, keys among them."""
    if deadline.passed:
        return deadline.fault()
    if isinstance(error, requests.exceptions.SSLError | urllib3.exceptions.SSLError):
        return WebFault(Reason.TLS_ERROR, "no trusted TLS connection", of_host=True)
    causes = list(_causes(error))
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return WebFault(Reason.TIMEOUT, "no answer in time", passing=True, of_host=True)
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return WebFault(Reason.UNDECODABLE, "the Content-Encoding is broken")
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return WebFault(Reason.BAD_URL, "not a URL that can be asked for")
    if any(isinstance(cause, http.client.IncompleteRead) for cause in causes):
        return WebFault(Reason.TRUNCATED, "the answer ended before its announced length", passing=True)
    return WebFault(Reason.CONNECTION_FAILED, "the connection failed", passing=True, of_host=True)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class _Deadline:
    """The time by which an item must be had."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self._end

    def left(self) -> float:
        """Seconds left; raises if there are none."""
        if self.passed:
            raise self.fault()
        return self._end - time.monotonic()

    def fault(self) -> WebFault:
        return WebFault(Reason.TIMEOUT, f"not had within {self._seconds:g} s", of_host=True)


class _Reaper:
    """Cuts connections whose deadline has passed, whatever they are doing.

    Timeouts of sockets hold for one read; a server that sends a byte now and then, or headers without end, never runs
    into them.
    """

    def __init__(self) -> None:
        self._thread_local = threading.local()
        self._watched: dict[int, tuple[_Deadline, socket.socket]] = {}
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def watching(self, deadline: _Deadline) -> Iterator[None]:
        """Holds the connection that this thread uses in the block to a deadline."""
        self._thread_local.deadline = deadline
        try:
            yield
        finally:
            self._let_go()

    def left(self) -> float:
        """Seconds that this thread has left in the block."""
        return self._thread_local.deadline.left()

    def uses(self, connection: socket.socket) -> None:
        """Tells that this thread now uses a connection."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="reaper", daemon=True)
                self._thread.start()
            self._watched[threading.get_ident()] = (self._thread_local.deadline, connection)

    def _let_go(self) -> None:
        with self._lock:
            self._watched.pop(threading.get_ident(), None)

    def close(self) -> None:
        """Ends the watch."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(_CUT_SECONDS):
            with self._lock:
                late = [connection for deadline, connection in self._watched.values() if deadline.passed]
                for connection in late:
                    with contextlib.suppress(OSError):  # that of TLS would first say goodbye
                        socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _CheckedAdapter(HTTPAdapter):
    """Connects to addresses that were checked, under the host's name; each use of a connection is watched."""

    def __init__(self, book: AddressBook, reaper: _Reaper, policy: FetchPolicy):
        self._book = book
        self._reaper = reaper
        self._policy = policy
        super().__init__(pool_connections=2 * policy.threads, pool_maxsize=policy.host_connections, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            "http": _watched_pool(urllib3.HTTPConnectionPool, self._reaper),
            "https": _watched_pool(urllib3.HTTPSConnectionPool, self._reaper),
        }

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        host, pool = self.build_connection_pool_key_attributes(request, verify, cert)  # whatever proxies there may be
        return self.poolmanager.connection_from_host(**host, pool_kwargs=pool)

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        return request.path_url

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        response = requests.Response()  # without cookies, which nobody here keeps
        response.status_code, response.url, response.request, response.raw = resp.status, req.url or "", req, resp
        response.headers = CaseInsensitiveDict(resp.headers)
        return response

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        host: Any
        pool: Any
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        parts = urllib.parse.urlsplit(request.url or "")
        name = parts.hostname or ""
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        address = self._book.addresses(name, port, min(self._policy.connect_seconds, self._reaper.left()))[0]
        request.headers["Host"] = parts.netloc.rpartition("@")[2]
        host["host"] = f"[{address}]" if ":" in address else address
        if parts.scheme == "https":
            pool["server_hostname"] = pool["assert_hostname"] = name.rstrip(".")
        return host, pool


class _CheckedResponse(http.client.HTTPResponse):
    def _safe_read(self, amt: int) -> bytes:
        # The length of a chunk, as the server writes it. Below 0 it would be read to the end of the connection.
        if amt < 0:
            raise http.client.HTTPException("a chunk of negative length")
        return super()._safe_read(amt)  # type: ignore[misc]


def _watched_pool(pool: Any, reaper: _Reaper) -> Any:
    class Connection(pool.ConnectionCls):
        response_class = _CheckedResponse
        _handle: socket.socket | None = None

        def _new_conn(self) -> socket.socket:
            connection = super()._new_conn()
            if isinstance(self, urllib3.connection.HTTPSConnection):
                # TLS takes the connection over; a second handle of it can be cut while hands are shaken.
                self._handle = socket.socket(fileno=os.dup(connection.fileno()))
                reaper.uses(self._handle)
            else:
                reaper.uses(connection)
            return connection

        def close(self) -> None:
            super().close()
            if self._handle is not None:
                self._handle.close()

        def request(self, *args: Any, **kwargs: Any) -> None:
            if self.sock is not None:
                reaper.uses(self._handle or self.sock)
            super().request(*args, **kwargs)

    return type(f"Watched{pool.__name__}", (pool,), {"ConnectionCls": Connection})
