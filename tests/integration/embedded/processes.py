"""Real processes for the tests of the embedded Redis: users, and how to kill and await what they started."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from engine.adapters.redis.embedded import folder_files
from engine.adapters.redis.embedded.server import EmbeddedRedis
from engine.adapters.redis.embedded.server import open_embedded as open_with
from tests.redis_server import embedded_binary

USER = Path(__file__).with_name("embedded_user.py")
PATIENCE_S = 20


def open_embedded(folder: Path) -> EmbeddedRedis:
    """With the server that the tests run."""
    return open_with(folder, embedded_binary())


class User:
    """Another process that uses the folder's Redis."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen([sys.executable, str(USER), str(folder)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self._output = self.process.stdout

    def opened(self) -> str:
        """Wait until it has opened; returns the URL."""
        word, _, rest = self._output.readline().partition(" ")
        assert word == "open", f"{word} {rest}"
        return rest.strip()

    def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)


def note(folder: Path) -> dict[str, object]:
    return json.loads((folder / folder_files.SUPERVISOR_LOCK).read_text())


def supervisor_pid(folder: Path) -> int:
    return int(str(note(folder)["pid"]))


def server_pid(client: redis.Redis) -> int:
    return int(client.info("server")["process_id"])


def connect(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=5, decode_responses=True)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send the signal and wait until the process has ended."""
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, number)
        await_death(pidfd)
    finally:
        os.close(pidfd)


def await_death(pidfd: int) -> None:
    ready, _, _ = select.select([pidfd], [], [], PATIENCE_S)
    assert ready, "the process lives on"


def retrying(url: str) -> redis.Redis:
    """A connection that goes on trying while the server is away. A command that got no answer may be done twice."""
    retry = Retry(ConstantBackoff(0.01), 2000, supported_errors=(redis.ConnectionError, redis.TimeoutError))
    return redis.Redis.from_url(url, socket_timeout=5, decode_responses=True, retry=retry)


def ping_until_it_answers(url: str, not_by: int) -> redis.Redis:
    """A connection to the server that took the place of the one with the pid `not_by`."""
    client = retrying(url)
    assert server_pid(client) != not_by
    return client


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
