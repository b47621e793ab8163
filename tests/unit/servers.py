"""A server of files on this machine, for tests of downloads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Server:
    """Serves `files`; `cut` bytes are sent at most of an answer, without ranges where `ranges` is False."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut, self.ranges = 10**9, True
        self.asked: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range") or ""
                outer.asked.append((self.path, wanted))
                content = outer.files.get(self.path.partition("?")[0])
                begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and outer.ranges else 0
                if content is None or (begin and begin >= len(content)):
                    self.send_error(404 if content is None else 416)
                    return
                self.send_response(206 if begin else 200)
                self.send_header("Content-Length", str(len(content) - begin))
                self.end_headers()
                self.wfile.write(content[begin:][: outer.cut])

            def log_message(self, *arguments: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever)
    thread.start()
    yield made
    made.http.shutdown()
    thread.join()
    made.http.server_close()
