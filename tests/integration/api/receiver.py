"""Somebody on this host who is sent things over HTTP, and answers as the test says."""

import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

PATIENCE_S = 30


class Received(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """`answers` are the statuses of the first requests; the rest is answered with 200."""

    def __init__(self, *answers: int) -> None:
        self._answers, self._received = list(answers), queue.Queue[Received]()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                self.send_response(outer._answers.pop(0) if outer._answers else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()
                outer._received.put(Received(self.path, headers, body))

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def next(self) -> Received:
        return self._received.get(timeout=PATIENCE_S)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing came beyond what was taken."""
        return self._received.empty()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
