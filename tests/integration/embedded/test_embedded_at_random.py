"""Users, the supervisor and the server of one folder are started, stopped and killed in every order that chance finds.

Held throughout: what Redis has confirmed is never lost, two servers never run at once, and nothing stays behind.
"""

import contextlib
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import User, note, retrying

from engine.adapters.redis.embedded import folder_files
from engine.adapters.redis.embedded.server import await_end

ACTIONS = 60


class Folder:
    """The folder with its users, and the moves that chance chooses from."""

    def __init__(self, path: Path, start: Callable[[], User], chance: random.Random) -> None:
        self.path, self.start, self.chance = path, start, chance
        self.users: list[User] = []
        self.confirmed = 0

    def a_user_comes(self) -> None:
        self.users.append(self.start())

    def a_user_leaves(self) -> None:
        if self.users:
            self._some_user().leave()

    def a_user_is_killed(self) -> None:
        if self.users:
            self._some_user().kill()

    def all_users_are_killed(self) -> None:
        while self.users:
            self.users.pop().kill()

    def the_supervisor_is_killed(self) -> None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            self._kill(int(str(note(self.path)["pid"])), b"server_supervisor.py")

    def the_server_is_killed(self) -> None:
        for pid in self.servers():
            self._kill(pid, b"-server")

    def somebody_counts(self) -> None:
        """A new user, at whatever moment, sees every count that was confirmed before."""
        user = self.start()
        self.users.append(user)
        with retrying(user.opened()) as client:
            count = int(client.incr("count"))
        assert count > self.confirmed
        self.confirmed = count

    def servers(self) -> list[int]:
        held_by = folder_files.holders(self.path.resolve() / folder_files.SERVER_LOCK)
        return [pid for pid in held_by if b"-server" in _command(pid).split(b"\0")[0]]

    def _some_user(self) -> User:
        return self.users.pop(self.chance.randrange(len(self.users)))

    def _kill(self, pid: int, kind: bytes) -> None:
        if kind in _command(pid):  # the number may be another's by now
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, self.chance.choice([signal.SIGKILL, signal.SIGTERM]))


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_confirmed_is_lost_whatever_is_killed(folder, user, seed):
    chance = random.Random(seed)
    world = Folder(folder, user, chance)
    moves = [world.a_user_comes, world.a_user_leaves, world.a_user_is_killed, world.all_users_are_killed,
             world.the_supervisor_is_killed, world.the_server_is_killed, world.somebody_counts]
    for _ in range(ACTIONS):
        chance.choices(moves, weights=[6, 3, 4, 2, 2, 2, 5])[0]()
        assert len(world.servers()) <= 1
    assert world.confirmed > 0
    world.all_users_are_killed()
    await_end(folder)
    world.somebody_counts()


def test_the_helpers_see_a_server(folder, user):
    """Else the test above would hold of anything."""
    world = Folder(folder, user, random.Random(0))
    world.somebody_counts()
    assert len(world.servers()) == 1
