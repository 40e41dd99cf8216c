"""A fast local web site: photos on many loopback addresses, each a host of its own."""

import argparse
import asyncio
import json
import pathlib
from collections.abc import Sequence

HOSTS = 20


def host(number: int) -> str:
    """The address of a host."""
    return f"127.0.1.{1 + number % HOSTS}"


def path(number: int) -> str:
    """The path of a photo."""
    return f"/photo/{number}.jpg"


class _Server(asyncio.Protocol):
    """Speaks as much HTTP/1.1 as the benchmark's clients: GET, one request after the other on a connection."""

    def __init__(self, photos: Sequence[bytes]):
        self._photos = photos
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins a connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers whole requests."""
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            request, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
            target = request.split(b" ", 2)[1]
            if target.startswith(b"/photo/"):
                number = int(target[7:-4])
                body = self._photos[number % len(self._photos)] + b"%d" % number  # each photo is another file
                head = f'HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nETag: "{number}"\r\n'
            else:
                body, head = b"", "HTTP/1.1 404 Not Found\r\n"
            close = b"connection: close" in request.lower()
            head += f"Content-Length: {len(body)}\r\n" + ("Connection: close\r\n" if close else "") + "\r\n"
            self._transport.write(head.encode() + body)
            if close:
                self._transport.close()


async def _serve(photos: Sequence[bytes]) -> None:
    loop = asyncio.get_running_loop()
    first = await loop.create_server(lambda: _Server(photos), host(0), 0, backlog=1024)
    port = first.sockets[0].getsockname()[1]
    others = [
        await loop.create_server(lambda: _Server(photos), host(number), port, backlog=1024)
        for number in range(1, HOSTS)
    ]
    print(json.dumps({"port": port}), flush=True)
    await asyncio.gather(*(server.serve_forever() for server in (first, *others)))


def main() -> None:
    """Serves the photos of a folder until it is killed; prints the port first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    args = parser.parse_args()
    photos = [file.read_bytes() for file in sorted(args.folder.rglob("*.jpg"))]
    asyncio.run(_serve(photos))


if __name__ == "__main__":
    main()
