"""The Redis of a storm, with everything that may be done to it. Each fault says for how long, and `heal` ends it."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import redis

from tests.chaos.storm.clock import Clocks
from tests.redis_server import RedisServer, binaries

PASSWORD = "secret"
USERS = f"user default on nopass ~* &* +@all\nuser ganger on >{PASSWORD} ~* &* +@all\n"
DISK = "768m"


class StormyRedis:
    """Everything it has answered is on disk: `appendfsync always`. `lacks` says what can't be done here, and why."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.folder = Path(tempfile.mkdtemp(prefix="ganger-storm-"))
        self.disk = self.folder / "disk"
        self.clocks = Clocks(self.folder)
        self.lacks = [self.clocks.lack] if self.clocks.lack else []
        self.is_mounted = self._mount()
        (self.folder / "users").write_text(USERS)
        options = {"aclfile": str(self.folder / "users"), "dir": str(self.disk), "appendonly": "yes",
                   "appendfsync": "always"}
        if chance.random() < 0.5:  # over TCP supervisors fence themselves
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                options["port"] = str(free.getsockname()[1])
        self.server = RedisServer(binaries()[0], under=_under(self.clocks.variables("redis")), **options)
        self.url = f"redis://ganger:{PASSWORD}@127.0.0.1:{options['port']}" if "port" in options else \
            f"unix://ganger:{PASSWORD}@{self.server.socket}"
        self._undo: Callable[[], object] | None = None
        self.faults: list[Callable[[], float]] = [
            self.restart, self.kill, self.freeze, self.cut_clients, self.change_password, self.fill,
            self.forget_scripts]
        if self.is_mounted:
            self.faults += [self.fill_disk, self.fill_disk_softly]
        if not self.clocks.lack:
            self.faults.append(self.set_clock)

    def close(self) -> None:
        self.server.stop()
        if self.is_mounted:
            subprocess.run(["umount", "-l", str(self.disk)], check=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _mount(self) -> bool:
        self.disk.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(self.disk)],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            self.lacks.append(f"the disk is never full: {done.stderr.strip()}")
        return not done.returncode

    # -- faults: each returns for how many seconds it lasts -------------------------------------------------------

    @property
    def is_well(self) -> bool:
        return self._undo is None

    def strike(self) -> tuple[str, float]:
        fault = self.chance.choice(self.faults)
        return fault.__name__, fault()

    def heal(self) -> None:
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    def restart(self) -> float:
        self.server.process.terminate()
        self.server.process.wait()
        self._undo = self.server.start
        return self.chance.uniform(0, 2)

    def kill(self) -> float:
        self.server.kill()
        self._undo = self.server.start
        return self.chance.choice([0.0, self.chance.uniform(0, 6)])

    def freeze(self) -> float:
        self.server.freeze()
        self._undo = self.server.thaw
        return self.chance.choice([self.chance.uniform(0, 1), self.chance.uniform(0, 10), self.chance.uniform(0, 25)])

    def cut_clients(self) -> float:
        self._tell("CLIENT", "KILL", "USER", "ganger")
        return 0.0

    def change_password(self) -> float:
        self._tell("ACL", "SETUSER", "ganger", "resetpass", ">other")
        self._tell("CLIENT", "KILL", "USER", "ganger")
        self._undo = lambda: self._tell("ACL", "SETUSER", "ganger", "resetpass", f">{PASSWORD}")
        return self.chance.uniform(0, 8)

    def fill(self) -> float:
        self._tell("CONFIG", "SET", "maxmemory", "1")
        self._undo = lambda: self._tell("CONFIG", "SET", "maxmemory", "0")
        return self.chance.uniform(0, 6)

    def forget_scripts(self) -> float:
        self._tell("SCRIPT", "FLUSH")
        return 0.0

    def fill_disk(self) -> float:
        """With `appendfsync always` a Redis that cannot write its file ends."""
        self._fill_disk()
        return self.chance.uniform(0.1, 4)

    def fill_disk_softly(self) -> float:
        """With `appendfsync everysec` it goes on, and refuses what writes."""
        self._tell("CONFIG", "SET", "appendfsync", "everysec")
        self._fill_disk()
        return self.chance.uniform(0.1, 4)

    def _fill_disk(self) -> None:
        filler = self.disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 65536)
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while True:
                file.write(b"\0")
        self._tell("SET", "ganger-storm", "x" * 100_000)  # so that it comes to know

        def free() -> None:
            filler.unlink()
            if self.server.process.poll() is not None:
                self.server.start()
            self._tell("DEL", "ganger-storm")
            self._tell("CONFIG", "SET", "appendfsync", "always")

        self._undo = free

    def set_clock(self) -> float:
        by_s = self.chance.choice([1, -1]) * self.chance.choice([2, 30, 600])
        self.clocks.set("redis", by_s)
        self._undo = lambda: self.clocks.set("redis", 0)
        return self.chance.uniform(2, 12)

    def _tell(self, *words: str) -> None:
        with self.server.client() as client, contextlib.suppress(redis.RedisError):
            client.execute_command(*words)



def _under(variables: dict[str, str]) -> list[str]:
    return ["env", *(f"{name}={value}" for name, value in variables.items())] if variables else []
