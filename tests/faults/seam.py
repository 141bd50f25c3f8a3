"""Between the engine and a real Redis: a Unix socket that counts the calls that pass, and lets one of them fail.

A call is a command that the engine sends for a task's sake; what a connection says of itself at its beginning is none.
Each goes to Redis as it came, until the one that is to fail, or that and all later ones:

    refused  Redis says that it cannot (LOADING), and has not heard of it
    cut      the connection breaks before Redis has heard of it
    lost     Redis does it, and the connection breaks before its answer has come
"""

import contextlib
import select
import socket
import threading
from pathlib import Path
from typing import Literal

import hiredis

Mode = Literal["refused", "cut", "lost"]
MODES: tuple[Mode, ...] = ("refused", "cut", "lost")
GREETINGS = {b"HELLO", b"AUTH", b"CLIENT", b"INFO", b"SUBSCRIBE", b"TIME", b"PING", b"SELECT", b"SCRIPT"}
REFUSAL = b"-LOADING Redis is loading the dataset in memory\r\n"
NOTHING = object()
CHUNK = 1 << 16


class Seam:
    def __init__(self, folder: Path, behind: Path) -> None:
        self.path, self.behind = folder / "seam.sock", behind
        self.url = f"unix://{self.path}"
        self.calls = 0
        self.has_failed = False  # since `fail` was called
        self._fails_at, self._mode, self._for_good = 0, "cut", False
        self._lock = threading.Lock()
        self._passages: set[_Passage] = set()
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(self.path))
        self._door.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self.heal()
        for passage in list(self._passages):
            passage.close()

    def fail(self, nth: int, mode: Mode, *, for_good: bool) -> None:
        """Begin to count anew, and let the nth call fail, or it and all that come after it."""
        with self._lock:
            self.calls, self._fails_at, self._mode, self._for_good = 0, nth, mode, for_good
            self.has_failed = False

    def heal(self) -> None:
        with self._lock:
            self._fails_at = 0

    def verdict(self, command: bytes) -> Mode | None:
        """How this call is to fail, if it is."""
        if command.upper() in GREETINGS:
            return None
        with self._lock:
            self.calls += 1
            if not self._fails_at or self.calls < self._fails_at or (
                    self.calls > self._fails_at and not self._for_good):
                return None
            self.has_failed = True
            # What is not there any more cannot do anything, so a loss for good is one loss, and then cuts.
            return self._mode if self.calls == self._fails_at or self._mode == "refused" else "cut"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._door.accept()
                self._passages.add(_Passage(self, client))


class _Passage:
    """One connection, in a thread of its own."""

    def __init__(self, seam: Seam, client: socket.socket) -> None:
        self.seam, self.client = seam, client
        self.server = socket.socket(socket.AF_UNIX)
        self.server.connect(str(seam.behind))
        self._asked = hiredis.Reader(notEnoughData=NOTHING)
        self._told = hiredis.Reader(notEnoughData=NOTHING)
        self._unanswered = 0
        self._is_resp3 = False
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.seam._passages.discard(self)

    def _run(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while True:
                ready, _, _ = select.select([self.client, self.server], [], [])
                if self.server in ready:
                    self._answer()
                if self.client in ready and not self._ask():
                    break
        self.close()

    def _ask(self) -> bool:
        """Pass on what the engine says; False when that is the end."""
        data = self.client.recv(CHUNK)
        self._asked.feed(data)
        while (command := self._asked.gets()) is not NOTHING:
            mode = self.seam.verdict(command[0])
            if mode == "cut":
                return False
            if mode == "refused":
                while self._unanswered:
                    self._answer()
                self.client.sendall(REFUSAL)
                continue
            self.server.sendall(hiredis.pack_command(tuple(command)))
            is_told_by_push = self._is_resp3 and command[0].upper() == b"SUBSCRIBE"
            self._unanswered += not is_told_by_push
            self._is_resp3 = self._is_resp3 or command[0].upper() == b"HELLO"
            if mode == "lost":
                while self._unanswered:
                    self._answer(is_lost=self._unanswered == 1)
                return False
        return bool(data)

    def _answer(self, *, is_lost: bool = False) -> None:
        data = self.server.recv(CHUNK)
        if not data:
            raise ConnectionResetError
        self._told.feed(data)
        while (reply := self._told.gets()) is not NOTHING:
            self._unanswered -= not isinstance(reply, hiredis.PushNotification)
        if not is_lost:
            self.client.sendall(data)
