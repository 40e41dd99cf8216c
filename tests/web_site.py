"""A web site of many hosts on this machine, with all that can go wrong on the web, and a log of how it was asked.

    with WebSite({("a.test", "/ann.jpg"): photo(data), ("a.test", "/bob.jpg"): Silent()}) as site:
        policy = FetchPolicy(addresses=site.addresses, allow_private_hosts=True)
        client.get(site.url("a.test", "/ann.jpg"))
        assert site.most_at_once("a.test") == 1

What is not laid out answers 404, robots.txt too. `WebSiteProcess` is the same in a process of its own, which does not
share the interpreter lock with those who ask; so is `python tests/web_site.py --photos FOLDER` for commands by hand,
which prints its ports as JSON.
"""

import argparse
import collections
import contextlib
import dataclasses
import hashlib
import http.client
import itertools
import json
import pathlib
import pickle
import random
import select
import shutil
import signal
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LISTENERS = ("port", "tls_port", "silent_tls_port", "dripping_tls_port")
DRIP_SECONDS = 0.05  # between two bytes of what drips
_PIECE = 1 << 16
_LATE_SECONDS = 0.1  # how much later than the client the site may see that a connection was dropped


class Gone(Exception):
    """The client went away, or the connection is to be closed."""


# --- what a URL answers -----------------------------------------------------------------------------------------------


class Behaviour:
    """What a URL answers with."""

    listener = "port"  # by which of the site's ports it is asked for

    def answer(self, exchange: "Exchange") -> None:
        """Answers; raises Gone to close the connection, which is kept open otherwise."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Content(Behaviour):
    """Bytes with status 200; 304 to a conditional request that fits.

    Attributes:
      data: The body.
      tail: More of the body. It keeps many bodies that begin alike small in memory.
      content_type: The header of that name.
      etag: The header of that name, with its quotes; empty for none.
      last_modified: The header of that name, an HTTP date; empty for none.
      headers: More headers.
    """

    data: bytes
    content_type: str = "image/jpeg"
    etag: str = ""
    last_modified: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    tail: bytes = b""

    def answer(self, exchange: "Exchange") -> None:
        validators = [("ETag", self.etag), ("Last-Modified", self.last_modified)]
        headers = [(name, value) for name, value in validators if value]
        if "if-none-match" in exchange.headers:
            unchanged = bool(self.etag) and self.etag in exchange.headers["if-none-match"]
        else:
            unchanged = bool(self.last_modified) and exchange.headers.get("if-modified-since") == self.last_modified
        if unchanged:
            exchange.reply(304, headers)
        else:
            exchange.reply(200, [("Content-Type", self.content_type), *headers, *self.headers], self.data + self.tail)


def photo(data: bytes, tail: bytes = b"") -> Content:
    """A good photo with an ETag."""
    return Content(data, etag=f'"{hashlib.sha256(data + tail).hexdigest()[:20]}"', tail=tail)


def html_as_jpeg() -> Content:
    """A web page that calls itself a photo."""
    return Content(b"<!DOCTYPE html>\n<html><body>Please log in</body></html>\n")


def robots_txt(text: str) -> Content:
    """A robots.txt."""
    return Content(text.encode(), "text/plain")


@dataclasses.dataclass(frozen=True)
class Status(Behaviour):
    """A status without content: 404, 410, 403, 429, 503 ...

    Attributes:
      code: The status.
      retry_after: The header of that name; empty for none.
      times: So often at first; 0 for ever.
      then: Answers afterwards.
      headers: More headers.
    """

    code: int
    retry_after: str = ""
    times: int = 0
    then: Behaviour | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def answer(self, exchange: "Exchange") -> None:
        if self.then is not None and exchange.number >= self.times:
            self.then.answer(exchange)
            return
        asked = [("Retry-After", self.retry_after)] if self.retry_after else []
        exchange.reply(self.code, [*asked, *self.headers], b"no\n")


@dataclasses.dataclass(frozen=True)
class Redirect(Behaviour):
    """A redirect, to anywhere: another host, a private address, file://, itself.

    Attributes:
      to: The Location, as it is sent. "{port}" and "{tls_port}" in it stand for the site's ports.
      code: The status.
      headers: More headers.
    """

    to: str
    code: int = 302
    headers: tuple[tuple[str, str], ...] = ()

    def answer(self, exchange: "Exchange") -> None:
        to = exchange.site.with_ports(self.to)
        exchange.reply(self.code, [("Location", to), *self.headers], b"elsewhere\n")


@dataclasses.dataclass(frozen=True)
class RedirectChain(Behaviour):
    """So many redirects on the same host (`?hop=1`, `?hop=2` ...), then an answer; without end if there is none."""

    length: int = 0
    then: Behaviour | None = None

    def answer(self, exchange: "Exchange") -> None:
        hop = int(urllib.parse.parse_qs(exchange.query).get("hop", ["0"])[0])
        if self.then is not None and hop >= self.length:
            self.then.answer(exchange)
        else:
            exchange.reply(302, [("Location", f"?hop={hop + 1}")])


@dataclasses.dataclass(frozen=True)
class Slow(Behaviour):
    """Waits before it answers."""

    seconds: float
    then: Behaviour

    def answer(self, exchange: "Exchange") -> None:
        exchange.pause(self.seconds)
        self.then.answer(exchange)


@dataclasses.dataclass(frozen=True)
class Held(Behaviour):
    """Answers once the test has called `site.let_go(gate)`."""

    gate: str
    then: Behaviour

    def answer(self, exchange: "Exchange") -> None:
        if not exchange.site.gate(self.gate).wait(60):
            raise Gone
        self.then.answer(exchange)


@dataclasses.dataclass(frozen=True)
class Silent(Behaviour):
    """Never answers."""

    def answer(self, exchange: "Exchange") -> None:
        exchange.pause(None)


@dataclasses.dataclass(frozen=True)
class DrippingHeaders(Behaviour):
    """Headers without end, a byte now and then."""

    seconds: float = DRIP_SECONDS
    code: int = 200

    def answer(self, exchange: "Exchange") -> None:
        exchange.record.status = self.code
        exchange.send(_head(self.code, [("X-Wait", "x")])[:-4])
        exchange.drip(self.seconds)


@dataclasses.dataclass(frozen=True)
class DrippingContinues(Behaviour):
    """Status 100 now and then, without end."""

    seconds: float = DRIP_SECONDS

    def answer(self, exchange: "Exchange") -> None:
        while True:
            exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            exchange.pause(self.seconds)


@dataclasses.dataclass(frozen=True)
class DrippingBody(Behaviour):
    """A body without end, a byte now and then.

    Attributes:
      seconds: Between two bytes.
      announced: Content-Length; with None, the body ends with the connection.
      start: What is sent at once.
      then_silent: Nothing more comes after the start.
    """

    seconds: float = DRIP_SECONDS
    announced: int | None = 100_000
    start: bytes = b""
    then_silent: bool = False

    def answer(self, exchange: "Exchange") -> None:
        length = [] if self.announced is None else [("Content-Length", str(self.announced))]
        exchange.begin(200, [("Content-Type", "image/jpeg"), *length])
        exchange.send(self.start, body=True)
        if self.then_silent:
            exchange.pause(None)
        exchange.drip(self.seconds, body=True)


@dataclasses.dataclass(frozen=True)
class EndlessBody(Behaviour):
    """A chunked body without end, as fast as it is read."""

    def answer(self, exchange: "Exchange") -> None:
        exchange.begin(200, [("Content-Type", "image/jpeg"), ("Transfer-Encoding", "chunked")])
        piece = b"%x\r\n%s\r\n" % (_PIECE, b"\xff" * _PIECE)
        while True:
            exchange.send(piece, body=True)


@dataclasses.dataclass(frozen=True)
class ShortBody(Behaviour):
    """Announces more bytes than it sends, and closes the connection."""

    data: bytes
    announced: int

    def answer(self, exchange: "Exchange") -> None:
        exchange.begin(200, [("Content-Type", "image/jpeg"), ("Content-Length", str(self.announced))])
        exchange.send(self.data, body=True)
        raise Gone


@dataclasses.dataclass(frozen=True)
class Announced(Behaviour):
    """Announces a length, and sends as much as is read of it."""

    length: int
    headers: tuple[tuple[str, str], ...] = ()

    def answer(self, exchange: "Exchange") -> None:
        exchange.begin(200, [("Content-Type", "image/jpeg"), ("Content-Length", str(self.length)), *self.headers])
        left = self.length
        while left:
            exchange.send(b"\xff" * min(left, _PIECE), body=True)
            left -= min(left, _PIECE)


@dataclasses.dataclass(frozen=True)
class Gzipped(Behaviour):
    """Content-Encoding: gzip of good bytes."""

    data: bytes
    content_type: str = "image/jpeg"

    def answer(self, exchange: "Exchange") -> None:
        packer = zlib.compressobj(wbits=31)
        body = packer.compress(self.data) + packer.flush()
        exchange.reply(200, [("Content-Type", self.content_type), ("Content-Encoding", "gzip")], body)


@dataclasses.dataclass(frozen=True)
class GzipBomb(Behaviour):
    """About a thousandth on the wire of what it decodes to."""

    mebibytes: int = 1024

    def answer(self, exchange: "Exchange") -> None:
        packer = zlib.compressobj(9, wbits=31)
        head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
        piece = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)  # the same again for each MiB
        length = len(head) + self.mebibytes * len(piece)
        headers = [("Content-Encoding", "gzip"), ("Content-Length", str(length)), ("Content-Type", "image/jpeg")]
        exchange.begin(200, headers)
        exchange.send(head, body=True)
        for _ in range(self.mebibytes):
            exchange.send(piece, body=True)


@dataclasses.dataclass(frozen=True)
class BrokenGzip(Behaviour):
    """Content-Encoding: gzip of what is no gzip."""

    def answer(self, exchange: "Exchange") -> None:
        headers = [("Content-Type", "image/jpeg"), ("Content-Encoding", "gzip")]
        exchange.reply(200, headers, b"\x1f\x8b\x08\x00" + b"not gzip at all " * 20)


@dataclasses.dataclass(frozen=True)
class Reset(Behaviour):
    """Resets the connection: before the answer, or in the middle of its body.

    Attributes:
      data: What of a body is sent before; None for not even headers.
      times: So often at first; 0 for ever.
      then: Answers afterwards.
    """

    data: bytes | None = None
    times: int = 0
    then: Behaviour | None = None

    def answer(self, exchange: "Exchange") -> None:
        if self.then is not None and exchange.number >= self.times:
            self.then.answer(exchange)
            return
        if self.data is not None:
            exchange.begin(200, [("Content-Type", "image/jpeg"), ("Content-Length", str(len(self.data) + 100_000))])
            exchange.send(self.data, body=True)
        exchange.reset()


@dataclasses.dataclass(frozen=True)
class Raw(Behaviour):
    """Sends bytes as they are, by default such that are not HTTP, and closes the connection or goes on without end."""

    data: bytes = b"SSH-2.0-OpenSSH_9.2\r\n\x00\x01\x02\xff"
    endless: bool = False

    def answer(self, exchange: "Exchange") -> None:
        exchange.send(self.data)
        while self.endless:
            exchange.send(b"\xff" * _PIECE, body=True)
        raise Gone


@dataclasses.dataclass(frozen=True)
class OverTls(Behaviour):
    """Answers by TLS, with a certificate that nobody has signed."""

    then: Behaviour = Status(404)
    listener = "tls_port"

    def answer(self, exchange: "Exchange") -> None:
        self.then.answer(exchange)


@dataclasses.dataclass(frozen=True)
class SilentTls(Silent):
    """Accepts the connection, and says nothing to the TLS handshake."""

    listener = "silent_tls_port"


@dataclasses.dataclass(frozen=True)
class DrippingTls(Silent):
    """Answers the TLS handshake with a byte now and then, without end."""

    listener = "dripping_tls_port"


Pages = Mapping[tuple[str, str], Behaviour]


# --- how it was asked -------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Asked:
    """A request that was made.

    Attributes:
      host: Name by the Host header, without its port.
      path: With the query.
      method: GET, as a rule.
      headers: What was sent, by names in lower case.
      started: When, by `time.monotonic`, which all processes of a machine share.
      conditional: Whether it asked for 304.
      status: Of the answer; 0 for none.
      sent: Bytes of the answer's body.
      ended: When the last byte was sent or the client went away; None if it is under way.
      dropped: Whether the connection was closed rather than the answer ended.
    """

    host: str
    path: str
    method: str
    headers: dict[str, str]
    started: float
    conditional: bool
    status: int = 0
    sent: int = 0
    ended: float | None = None
    dropped: bool = False


class Site:
    """What can be asked of a site in this process and in another one alike."""

    def __init__(self) -> None:
        self.pages: dict[tuple[str, str], Behaviour] = {}
        self.port = self.tls_port = self.silent_tls_port = self.dripping_tls_port = 0

    def lay_out(self, pages: Pages) -> None:
        """Adds pages, by (host, path). A path with its query goes before one without."""
        self.pages.update(pages)

    def log(self) -> list[Asked]:
        """All requests so far, in the order of their arrival."""
        raise NotImplementedError

    def forget(self) -> None:
        """Empties the log."""
        raise NotImplementedError

    def let_go(self, gate: str) -> None:
        """Lets answers go that are held at a gate, and those that will come to it."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends the site and all its connections."""
        raise NotImplementedError

    def __enter__(self):
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def with_ports(self, text: str) -> str:
        """A text with the ports in place of their names in braces."""
        for name in LISTENERS:
            text = text.replace(f"{{{name}}}", str(getattr(self, name)))
        return text

    def url(self, host: str, path: str = "/") -> str:
        """The URL of a page: https for those over TLS."""
        listener = self.pages.get((host, path), Status(404)).listener
        scheme = "http" if listener == "port" else "https"
        return f"{scheme}://{host}:{getattr(self, listener)}{path}"

    def urls(self, pages: Iterable[tuple[str, str]]) -> list[str]:
        """The URLs of pages."""
        return [self.url(host, path) for host, path in pages]

    @property
    def addresses(self) -> tuple[tuple[str, str], ...]:
        """All hosts with their address, as a FetchPolicy takes them."""
        return tuple((host, "127.0.0.1") for host in sorted({host for host, _ in self.pages}))

    def asked(self, host: str = "", path: str = "") -> list[Asked]:
        """Requests to a host, for a path; empty for any."""
        return [one for one in self.log() if host in ("", one.host) and path in ("", one.path)]

    def paths(self, host: str) -> list[str]:
        """What was asked of a host, in order."""
        return [one.path for one in self.asked(host)]

    def bodies(self, host: str = "") -> int:
        """Answers of a host that had a body."""
        return sum(one.sent > 0 for one in self.asked(host))

    def most_at_once(self, host: str = "") -> int:
        """The most requests under way at once at a host."""
        changes = []
        for one in self.asked(host):
            ended = float("inf") if one.ended is None else one.ended
            changes += [(one.started, 1), (max(one.started, ended - _LATE_SECONDS * one.dropped), -1)]
        return max(itertools.accumulate(change for _, change in sorted(changes)), default=0)

    def shortest_gap(self, host: str) -> float:
        """The shortest time in seconds between the starts of two requests to a host."""
        starts = sorted(one.started for one in self.asked(host))
        return min((later - earlier for earlier, later in itertools.pairwise(starts)), default=float("inf"))


# --- the server -------------------------------------------------------------------------------------------------------


class Exchange:
    """One request, and the means to answer it."""

    def __init__(self, site: "WebSite", connection: socket.socket, record: Asked, number: int):
        self.site = site
        self.record = record
        self.headers = record.headers
        self.query = record.path.partition("?")[2]
        self.number = number  # of earlier requests for the same, with whatever query
        self._connection = connection

    def reply(self, code: int, headers: Iterable[tuple[str, str]], body: bytes = b"") -> None:
        """Sends a whole answer, in one piece."""
        length = [] if code == 304 else [("Content-Length", str(len(body)))]
        body = b"" if code == 304 or self.record.method == "HEAD" else body
        answer = _head(code, [*headers, *length]) + body
        self.record.status = code
        self.record.sent = len(body)
        self.record.ended = time.monotonic()  # before it is sent: the client may ask again before this thread goes on
        self._connection.sendall(answer)

    def begin(self, code: int, headers: Iterable[tuple[str, str]]) -> None:
        """Sends the headers only."""
        self.record.status = code
        self._connection.sendall(_head(code, headers))

    def send(self, data: bytes, body: bool = False) -> None:
        """Sends bytes as they are."""
        self._connection.sendall(data)
        if body:
            self.record.sent += len(data)

    def drip(self, seconds: float, body: bool = False) -> None:
        """Sends a byte now and then until the client goes away."""
        while True:
            self.pause(seconds)
            self.send(b"x", body)

    def pause(self, seconds: float | None) -> None:
        """Waits; raises Gone as soon as the client goes away."""
        waiting = select.poll()
        waiting.register(self._connection, select.POLLIN)
        if waiting.poll(None if seconds is None else seconds * 1000):
            raise Gone

    def reset(self) -> None:
        """Closes the connection so that the client sees it reset."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Gone


def _head(code: int, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {code} {http.client.responses.get(code, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class _Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    request_queue_size = 1024
    allow_reuse_address = True

    def __init__(self, site: "WebSite", handler: type, port: int = 0):
        super().__init__(("127.0.0.1", port), handler)
        self.site = site
        self.connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        # Without the usual shutdown before it, so that SO_LINGER resets the connection.
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError | Gone):
            super().handle_error(request, client_address)


class _Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    server: _Listener

    def handle(self) -> None:
        while (line := self.rfile.readline(_PIECE)).strip():
            started = time.monotonic()
            method, path, *_ = line.decode("latin-1").split()
            headers = {}
            while (line := self.rfile.readline(_PIECE)).strip():
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.strip().lower()] = value.strip()
            if path.startswith("/_"):
                self._administer(path, self.rfile.read(int(headers.get("content-length", 0))))
                continue
            host = headers.get("host", "").partition(":")[0]
            conditional = "if-none-match" in headers or "if-modified-since" in headers
            record = Asked(host, path, method, headers, started, conditional)
            behaviour, number = self.server.site.take(record)
            try:
                behaviour.answer(Exchange(self.server.site, self.request, record, number))
            except (Gone, OSError):
                record.dropped = True
                return
            finally:
                record.ended = record.ended or time.monotonic()

    def _administer(self, path: str, body: bytes) -> None:
        answer = self.server.site.administer(path, body)
        self.request.sendall(_head(200, [("Content-Length", str(len(answer)))]) + answer)


class _TlsHandler(_Handler):
    def setup(self) -> None:
        self.request = self.server.site.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.request.close()


class _SilentHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while self.request.recv(_PIECE):
            pass


class _DrippingHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(_PIECE)
        self.request.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")  # a handshake record of 16 KiB begins
        self.request.settimeout(DRIP_SECONDS)
        while True:
            with contextlib.suppress(TimeoutError):
                if not self.request.recv(_PIECE):
                    return
            self.request.sendall(b"x")


class WebSite(Site):
    """A site in this process; it can be asked as soon as it is made."""

    def __init__(self, pages: Pages | None = None, tls: bool = False, port: int = 0):
        """Opens the site.

        Args:
          pages: What it answers with, by (host, path).
          tls: Listen on ports for TLS, too; needs the openssl command.
          port: Where to listen; 0 for any free port.
        """
        super().__init__()
        self.lay_out(pages or {})
        self._log: list[Asked] = []
        self._numbers: collections.Counter[tuple[str, str]] = collections.Counter()
        self._gates: dict[str, threading.Event] = collections.defaultdict(threading.Event)
        self._lock = threading.Lock()
        self._folder = tempfile.TemporaryDirectory()
        handlers: list[type] = [_Handler]
        if tls:
            self.certificate = pathlib.Path(self._folder.name) / "certificate.pem"
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*_make_certificate(self.certificate))
            handlers += [_TlsHandler, _SilentHandler, _DrippingHandler]
        self._listeners = [_Listener(self, handler, 0 if n else port) for n, handler in enumerate(handlers)]
        for name, listener in zip(LISTENERS, self._listeners, strict=False):
            setattr(self, name, listener.server_address[1])

    def take(self, record: Asked) -> tuple[Behaviour, int]:
        """Writes a request down, and finds what answers it."""
        bare = record.path.partition("?")[0]
        with self._lock:
            self._log.append(record)
            number = self._numbers[record.host, bare]
            self._numbers[record.host, bare] += 1
        pages = self.pages
        return pages.get((record.host, record.path)) or pages.get((record.host, bare)) or Status(404), number

    @property
    def connections(self) -> set[socket.socket]:
        """Those that are open by HTTP."""
        return set(self._listeners[0].connections)

    def log(self) -> list[Asked]:
        with self._lock:
            return list(self._log)

    def forget(self) -> None:
        with self._lock:
            self._log.clear()

    def gate(self, name: str) -> threading.Event:
        with self._lock:
            return self._gates[name]

    def let_go(self, gate: str) -> None:
        self.gate(gate).set()

    def administer(self, path: str, body: bytes) -> bytes:
        """Does what is asked from another process."""
        if path == "/_lay_out":
            self.lay_out(pickle.loads(body))
        elif path == "/_forget":
            self.forget()
        elif path == "/_let_go":
            self.let_go(body.decode())
        elif path == "/_log":
            return json.dumps([dataclasses.asdict(one) for one in self.log()]).encode()
        return b""

    def close(self) -> None:
        for gate in list(self._gates.values()):
            gate.set()
        for listener in self._listeners:
            listener.end()
        self._folder.cleanup()


def can_make_certificates() -> bool:
    """Whether a site can speak TLS here."""
    return shutil.which("openssl") is not None


def _make_certificate(place: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    key = place.with_suffix(".key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=*.test", "-addext", "subjectAltName=DNS:*.test"]
    subprocess.run([*command, "-keyout", key, "-out", place], check=True, capture_output=True)
    return place, key


class WebSiteProcess(Site):
    """A site in a process of its own. It ends with this one."""

    def __init__(self, pages: Pages | None = None, tls: bool = False, port: int = 0):
        """As for `WebSite`."""
        super().__init__()
        command = [sys.executable, __file__, "--with_parent", f"--port={port}", *(["--tls"] if tls else [])]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        for name, number in json.loads(self._process.stdout.readline()).items():
            setattr(self, name, number)
        self.lay_out(pages or {})

    def lay_out(self, pages: Pages) -> None:
        super().lay_out(pages)
        self._administer("/_lay_out", pickle.dumps(dict(pages)))

    def log(self) -> list[Asked]:
        return [Asked(**one) for one in json.loads(self._administer("/_log"))]

    def forget(self) -> None:
        self._administer("/_forget")

    def let_go(self, gate: str) -> None:
        self._administer("/_let_go", gate.encode())

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate()

    def _administer(self, path: str, body: bytes = b"") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", path, body)
            return connection.getresponse().read()


# --- a site like many others ------------------------------------------------------------------------------------------

DEAD = "dead.test"  # each request is reset
LOCKED = "locked.test"  # its robots.txt answers 500
MOST_FAILURES = 6  # of one host: fewer than those in a row that make a host be left alone
_ROBOTS = "User-agent: *\nDisallow: /private/\n"
_ROBOTS_FOR_US = "User-agent: *\nDisallow: /\n\nUser-agent: celebface\nDisallow: /private/\n"
_LARGER_THAN_ANY_CAP = 1 << 40


def agrees(expected: str, reason: str) -> bool:
    """Whether a ledger's reason is one of those that were expected."""
    return reason in expected.split("|")


def big_site(
    photos: Sequence[bytes], hosts: int = 20, urls: int = 3000, seed: int = 0
) -> tuple[dict[tuple[str, str], Behaviour], dict[tuple[str, str], str]]:
    """Lays out a site as a list of photos from all over the web leads to: most are good, each fault is among them.

    Hosts are called site00.test and so on, beside `DEAD` and `LOCKED`. Failures that speak against a whole host are
    `MOST_FAILURES` at most on each of them, so that none is left alone, in whatever order it is asked. About one in a
    hundred never ends. Needs the ports for TLS.

    Args:
      photos: Good ones. The bytes of each URL are made distinct by some after the end of the photo.
      hosts: How many, beside the two.
      urls: How many there are at least to ask for.
      seed: Of the order.

    Returns:
      What the site answers with, by (host, path); and the reason that the ledger must give for each URL, empty for good
      ones. Where it may be one or another, they stand with "|" between them: see `agrees`. `Site.url` makes the URL.
    """
    shuffle = random.Random(seed)
    names = [f"site{number:02d}.test" for number in range(hosts)]
    numbers = itertools.count()
    pages: dict[tuple[str, str], Behaviour] = {}
    expected: dict[tuple[str, str], str] = {}

    def good() -> Content:
        number = next(numbers)
        content = photo(photos[number % len(photos)], b"\nphoto %d of seed %d\n" % (number, seed))
        if number % 7 == 3:
            minute, hour = number % 60, number // 60 % 24
            date = f"Mon, 06 Jan 2025 {hour:02d}:{minute:02d}:00 GMT"
            return dataclasses.replace(content, etag="", last_modified=date)
        return content

    def opting_out(name: str, value: str) -> Content:
        return dataclasses.replace(good(), headers=((name, value),))

    first = photos[0]
    long_ago, soon = "Wed, 21 Oct 2015 07:28:00 GMT", "1"
    # Behaviour, reason, how many of a thousand URLs.
    of_the_host = [
        (lambda: Silent(), "timeout", 3),
        (lambda: DrippingHeaders(), "timeout", 2),
        (lambda: DrippingContinues(), "timeout", 1),
        (lambda: DrippingBody(start=first[:2000]), "timeout", 2),
        (lambda: SilentTls(), "timeout", 1),
        (lambda: DrippingTls(), "timeout", 1),
        (lambda: OverTls(good()), "tls_error", 4),
        (lambda: Status(503), "server_error", 4),
        (lambda: Status(500), "server_error", 3),
        (lambda: Status(408), "server_error", 1),
        (lambda: Status(429), "rate_limited", 2),
        (lambda: Reset(), "connection_failed", 3),
        (lambda: Reset(data=first[:2000]), "connection_failed", 2),
        (lambda: Raw(), "connection_failed", 2),
    ]
    of_the_page = [
        (lambda: Status(404), "not_found", 40),
        (lambda: Status(410), "gone", 8),
        (lambda: Status(403), "forbidden", 12),
        (lambda: Status(401), "forbidden", 2),
        (lambda: Status(451), "forbidden", 1),
        (lambda: Status(418), "http_status", 1),
        (lambda: ShortBody(first[: len(first) // 2], len(first)), "truncated", 3),
        (lambda: EndlessBody(), "too_many_bytes", 1),
        (lambda: Announced(_LARGER_THAN_ANY_CAP), "too_many_bytes", 2),
        (lambda: GzipBomb(), "too_many_bytes", 1),
        (lambda: BrokenGzip(), "undecodable", 1),
        (lambda: RedirectChain(), "too_many_redirects", 2),
        (lambda: Redirect("file:///etc/passwd"), "bad_url", 1),
        (lambda: html_as_jpeg(), "html_page", 10),
        (lambda: Content(b""), "empty", 2),
        (lambda: opting_out("X-Robots-Tag", "noai, noimageai"), "opted_out", 4),
        (lambda: opting_out("X-Robots-Tag", "celebface: noai"), "opted_out", 1),
        (lambda: opting_out("TDM-Reservation", "1"), "opted_out", 2),
        # These end well.
        (lambda: opting_out("X-Robots-Tag", "otherbot: noai"), "", 2),
        (lambda: Status(500, times=1, then=good()), "", 3),
        (lambda: Status(503, times=2, then=good()), "", 2),
        (lambda: Status(429, retry_after=soon, times=1, then=good()), "", 2),
        (lambda: Status(429, retry_after=long_ago, times=1, then=good()), "", 1),
        (lambda: Reset(times=1, then=good()), "", 2),
        (lambda: RedirectChain(2, good()), "", 5),
        (lambda: Redirect("http://{other}:{port}/elsewhere/{number}.jpg"), "", 10),
        (lambda: Gzipped(first + b"\nzipped %d of seed %d\n" % (next(numbers), seed)), "", 2),
    ]
    if hosts < 3:
        raise ValueError(f"a site needs 3 hosts for all faults, not {hosts}")

    def counts(kinds: list) -> list[tuple[Any, str]]:
        return [(make, reason) for make, reason, share in kinds for _ in range(max(1, round(share * urls / 1000)))]

    failures = counts(of_the_host)
    shuffle.shuffle(failures)
    faults = counts(of_the_page)
    shuffle.shuffle(faults)
    by_host: dict[str, list[tuple[str, Behaviour, str]]] = {name: [] for name in names}
    for number, (make, reason) in enumerate(failures[: MOST_FAILURES * hosts]):
        by_host[names[number % hosts]].append((f"/faults/{number}.jpg", make(), reason))
    for number, (make, reason) in enumerate(faults):
        host, behaviour = names[number % hosts], make()
        if isinstance(behaviour, Redirect) and "{other}" in behaviour.to:
            other = names[(number + 1 + number // hosts) % hosts]
            other = names[(number + 1) % hosts] if other == host else other
            target = behaviour.to.replace("{other}", other).replace("{number}", str(number))
            behaviour = Redirect(target)
            pages[other, f"/elsewhere/{number}.jpg"] = good()
        by_host[host].append((f"/photos/fault{number}.jpg", behaviour, reason))
    for number in range(max(3, urls // 300)):
        name = names[number % hosts]
        by_host[name].append((f"/private/{number}.jpg", good(), "robots_disallowed"))
        twin = good()
        for copy in ("a", "b"):
            host = names[(number + (copy == "b")) % hosts]
            by_host[host].append((f"/photos/twin{number}{copy}.jpg", twin, "|duplicate"))
    for number, name in enumerate(names):
        if any(reason == "robots_disallowed" for _, _, reason in by_host[name]):
            pages[name, "/robots.txt"] = robots_txt(_ROBOTS_FOR_US if number % 2 else _ROBOTS)
    left = urls - sum(map(len, by_host.values()))
    for number in range(max(left, hosts)):
        by_host[names[number % hosts]].append((f"/photos/{number}.jpg", good(), ""))
    pages[LOCKED, "/robots.txt"] = Status(500)
    pages[DEAD, "/robots.txt"] = Reset()
    by_host[LOCKED] = [(f"/{n}.jpg", good(), "robots_unreachable") for n in range(max(5, urls // 150))]
    by_host[DEAD] = [(f"/{n}.jpg", Reset(), "connection_failed|host_failing") for n in range(max(15, urls // 150))]
    for entries in by_host.values():
        shuffle.shuffle(entries)
    for row in itertools.zip_longest(*[[(name, *entry) for entry in entries] for name, entries in by_host.items()]):
        for name, path, behaviour, reason in filter(None, row):
            pages[name, path] = behaviour
            expected[name, path] = reason
    return pages, expected


# --- by hand ----------------------------------------------------------------------------------------------------------


def main() -> None:
    """Opens a site and prints its ports, as JSON on one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--port", type=int, default=0, help="for http; 0 for any free one")
    parser.add_argument("--tls", action="store_true", help="listen for TLS, too")
    parser.add_argument("--photos", type=pathlib.Path, help="lay out a big site of the JPEGs below this folder")
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--urls", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", type=pathlib.Path, help="write the URLs here, each with its reason, as CSV")
    parser.add_argument("--with_parent", action="store_true", help="end when the standard input does")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with WebSite(tls=arguments.tls or arguments.photos is not None, port=arguments.port) as site:
        if arguments.photos:
            files = sorted(arguments.photos.rglob("*.jpg"))
            pages, expected = big_site(
                [file.read_bytes() for file in files], arguments.hosts, arguments.urls, arguments.seed
            )
            site.lay_out(pages)
            if arguments.list:
                lines = [f"{site.url(*place)},{reason}" for place, reason in expected.items()]
                arguments.list.write_text("\n".join(["url,reason", *lines]) + "\n")
        print(json.dumps({name: getattr(site, name) for name in LISTENERS}), flush=True)
        if arguments.with_parent:
            sys.stdin.read()
        else:
            signal.pause()


if __name__ == "__main__":
    import web_site  # by this name pages are unpickled

    web_site.main()
