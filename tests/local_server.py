"""A server on this machine that sends what it is told to, well or badly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Behaviour = Callable[[BaseHTTPRequestHandler, bytes], None]


@dataclass
class Server:
    """What the server sends: a list of behaviours, one a request; the last one goes on."""

    url: str
    content: bytes = b""
    behaviours: list[Behaviour] = field(default_factory=lambda: [good])
    requests: int = 0


@contextmanager
def serving() -> Iterator[Server]:
    """Serve on a free port until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            behaviour = state.behaviours[min(state.requests, len(state.behaviours) - 1)]
            state.requests += 1
            with suppress(BrokenPipeError, ConnectionResetError):
                behaviour(self, state.content)

        def log_message(self, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    httpd.block_on_close = False
    state = Server(f"http://127.0.0.1:{httpd.server_port}")
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield state
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def send(handler: BaseHTTPRequestHandler, content: bytes, length: int) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()
    handler.wfile.write(content)


def good(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    send(handler, content, len(content))


def short_read(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    send(handler, content[: len(content) * 2 // 3], len(content))


def hang(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    send(handler, content[:10], len(content))
    handler.wfile.flush()
    threading.Event().wait(1.5)


def wrong_content(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    good(handler, content[:-1] + b"?")


def status(code: int) -> Behaviour:
    return lambda handler, content: handler.send_error(code)
