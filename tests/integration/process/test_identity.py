"""Whether a process is gone, by the kernel's word, where /proc hides it; the end of what is left of a supervisor."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil
import pytest

from engine.adapters.kernel import identity
from engine.adapters.kernel.identity import Identity, Presence

WAIT_S = 30.0
NOBODY = 65534
TREE = """
import os, sys, time
from setproctitle import setproctitle
setproctitle(sys.argv[1])
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        break
os.write(1, b"%d\\n" % os.getpid())
time.sleep(600)
"""
HIDDEN = """
import sys
from engine.adapters.kernel import identity
from engine.adapters.kernel.identity import Identity
from engine.adapters.kernel.probe import Probe
from engine.adapters.kernel.descendants import descendants
import os
if sys.argv[3] != "0":
    os.setgroups([])
os.setgid(int(sys.argv[3]))
os.setuid(int(sys.argv[3]))
print(identity.presence(Identity(int(sys.argv[1]), int(sys.argv[2]))).value, identity.born_at(int(sys.argv[1])),
      identity.end([Identity(int(sys.argv[1]), int(sys.argv[2]))], 1.0), bool(identity.host_id()),
      len(Probe(os.getpid(), descendants).sample()), descendants(int(sys.argv[1])))
"""


class Family:
    """A process with two children in sessions of their own."""

    def __init__(self, title: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", TREE, title], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.pids = sorted(int(self.process.stdout.readline()) for _ in range(3))
        self.born_at = identity.born_at(self.process.pid)

    @property
    def identity(self) -> Identity:
        return Identity(self.process.pid, self.born_at)

    def close(self) -> None:
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


Start = Callable[[str], Family]


@pytest.fixture
def start() -> Iterator[Start]:
    families: list[Family] = []

    def start(title: str) -> Family:
        families.append(Family(title))
        return families[-1]

    yield start
    for family in families:
        family.close()


def lives(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def test_a_process_is_told_from_a_later_one_of_its_number(start: Start) -> None:
    family = start("ganger: pool default")
    pid, born_at = family.identity
    assert born_at is not None
    assert identity.presence(Identity(pid, born_at)) is Presence.LIVES
    assert identity.presence(Identity(pid, born_at - 1)) is Presence.GONE
    family.process.send_signal(signal.SIGSTOP)
    assert identity.presence(family.identity) is Presence.LIVES, "silence proves nothing"
    family.process.kill()
    pidfd = os.pidfd_open(pid)
    assert select.select([pidfd], [], [], WAIT_S)[0]
    os.close(pidfd)
    assert identity.presence(family.identity) is Presence.GONE, "nobody has reaped it yet, and it runs no more"
    family.process.wait()
    assert identity.presence(family.identity) is Presence.GONE
    assert identity.presence(Identity(2 ** 40, 1)) is identity.presence(Identity(-1, 1)) is Presence.GONE


@pytest.mark.parametrize("title", ["ganger: pool default", "ganger: fork server default"])
def test_a_stopped_supervisor_is_ended_with_everything_below(start: Start, title: str) -> None:
    family = start(title)
    family.process.send_signal(signal.SIGSTOP)
    assert identity.end([family.identity], WAIT_S)
    assert not any(map(lives, family.pids))


@pytest.mark.parametrize("meant", ["another birth", "another title"])
def test_nothing_is_ended_that_is_not_provably_what_was_meant(start: Start, meant: str) -> None:
    """What is told in Redis may be told by anybody."""
    family = start("ganger: pool default" if meant == "another birth" else "sshd: ganger: pool default")
    pid, born_at = family.identity
    assert born_at is not None
    is_gone = identity.end([Identity(pid, born_at - (meant == "another birth"))], 0.0)
    assert is_gone is (meant == "another birth")
    assert all(map(lives, family.pids))


@pytest.mark.parametrize("hidepid", ["noaccess", "invisible"])
def test_a_process_that_proc_hides_is_not_gone(start: Start, hidepid: str) -> None:
    """A real /proc in a mount namespace of its own, seen by another user, as with the packaged unit's ProtectProc=."""
    if os.getuid():
        pytest.skip("only root may mount")
    family = start("ganger: pool default")
    pid, born_at = family.identity
    look = [sys.executable, "-c", HIDDEN, str(pid), str(born_at)]
    mount = f'mount -t proc -o hidepid={hidepid} proc /proc && exec "$@"'
    done = subprocess.run(["unshare", "--mount", "sh", "-c", mount, "sh", *look, str(NOBODY)], capture_output=True,
                          text=True, check=False)
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no such mount here: {done.stderr.strip()}")
    assert done.stdout.split() == ["hidden", "None", "False", "True", "1", "[]"], done.stderr
    assert all(map(lives, family.pids))
    family.close()
    done = subprocess.run([*look, "0"], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "gone"
