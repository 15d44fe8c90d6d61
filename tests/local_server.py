"""A server on this machine that sends what it is told to, well or badly."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """What the server sends: a list of behaviours, one a request; the last one goes on."""

    url: str = ""
    content: bytes = b""
    behaviours: list[Callable[[BaseHTTPRequestHandler, bytes], None]] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)


@contextmanager
def serving() -> Iterator[Server]:
    """Serve on a free port until the block ends."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.ranges.append(self.headers.get("Range"))
            number = min(len(state.ranges), len(state.behaviours)) - 1
            with suppress(BrokenPipeError, ConnectionResetError):
                state.behaviours[number](self, state.content)

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(state.content)))
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    httpd.block_on_close = False
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
    thread.start()
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    try:
        yield state
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def good(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def good_with_ranges(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    wanted = handler.headers.get("Range")
    if wanted is None:
        good(handler, content)
        return
    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
    if start >= len(content):
        handler.send_error(416)
        return
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    handler.send_header("Content-Length", str(len(content) - start))
    handler.end_headers()
    handler.wfile.write(content[start:])


def short_read(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) * 2 // 3])


def hang(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[:10])
    handler.wfile.flush()
    time.sleep(1.5)


def wrong_content(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    good(handler, content[:-1] + b"?")


def status(code: int) -> Callable[[BaseHTTPRequestHandler, bytes], None]:
    return lambda handler, content: handler.send_error(code)
