"""A Debian with a real systemd, booted in a container on a layer that is thrown away afterwards.

The base is made once by debootstrap and kept; the machine has to allow that, and control groups to us. `cannot()` says
why it is not so, if it is not.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

BASE = Path(os.environ.get("GANGER_SERVICE_BASE", "/var/cache/ganger-service-base"))
SUITE = "bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv"
PYTHON = (3, 11)  # the suite's
_BOOT_S, _STOP_S, _BASE_S, _WAIT_S = 60.0, 20.0, 600.0, 120.0
_GROUPS = Path("/sys/fs/cgroup")


def cannot() -> str | None:
    """Why no systemd can be booted here, or None."""
    if os.geteuid() != 0:
        return "booting a container takes root"
    if sys.base_prefix == "/usr" and sys.version_info[:2] != PYTHON:
        return f"the container has Python {PYTHON[0]}.{PYTHON[1]} in /usr, which our packages do not fit"
    for program in ("systemd-nspawn", "debootstrap", "nsenter"):
        if shutil.which(program) is None:
            return f"there is no {program}: apt-get install debootstrap systemd-container"
    return None


def make_base() -> None:
    """Build the base, unless it is there. Takes half a minute, and a network. Raises CalledProcessError."""
    if (BASE / "usr/lib/systemd/systemd").exists():
        return
    unfinished = BASE.with_name(f"{BASE.name}.{os.getpid()}")
    subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(unfinished)],
                   check=True, stdout=subprocess.DEVNULL, timeout=_BASE_S)
    (unfinished / "etc/machine-id").write_text("")
    unfinished.rename(BASE)


def lent() -> dict[Path, str]:
    """What the container borrows of ours, here → there: the packages, and the Python unless it has the same one."""
    packages = {Path(psutil.__file__).parents[1]: "/opt/packages"}
    return packages if sys.base_prefix == "/usr" else packages | {Path(sys.base_prefix): sys.base_prefix}


class Container:
    """One boot. `binds` are folders of ours that it sees, read-only: here → there."""

    def __init__(self, binds: dict[Path, str], log: Path) -> None:
        self.name = f"ganger-test-{os.getpid()}"
        self._groups = [folder / self.name for folder in _hierarchies()]
        for group in self._groups:
            group.mkdir()
        with log.open("wb") as output:
            self.nspawn = subprocess.Popen(
                ["systemd-nspawn", "--quiet", f"--directory={BASE}", "--volatile=overlay", "--private-network",
                 "--register=no", "--keep-unit", f"--machine={self.name}", "--console=pipe",
                 *(f"--bind-ro={here}:{there}" for here, there in binds.items()), "--boot"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, preexec_fn=self._enter_groups)
        self.leader = self._await_leader()
        self._open_groups()
        self.run("chmod", "0711", "/root")  # should the Python be below it
        self.run("systemctl", "is-system-running", "--wait", check=False)

    def run(self, *words: str, user: str | None = None, folder: str = "/", check: bool = True,
            timeout_s: float = _BOOT_S) -> str:
        """Run a program inside; what it prints. Raises CalledProcessError."""
        inside = ["nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup",
                  f"--wd=/proc/{self.leader}/root{folder}", "--"]
        whose = [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]
        environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": folder}
        done = subprocess.run([*inside, *whose, *words], text=True, capture_output=True, timeout=timeout_s, env=environ)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        Path(f"/proc/{self.leader}/root{path}").write_text(text)

    def pid_here(self, pid: int) -> int:
        """The number by which we know a process of the container."""
        for process in psutil.Process(self.leader).children(recursive=True):
            with contextlib.suppress(OSError, psutil.NoSuchProcess):
                status = Path(f"/proc/{process.pid}/status").read_text()
                numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
                if int(numbers[-1]) == pid:
                    return process.pid
        raise AssertionError(f"the container has no process {pid}")

    def stop(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(self.leader).kill()  # pid 1 takes everything along
        try:
            self.nspawn.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.nspawn.kill()
            self.nspawn.wait()
        for group in self._groups:
            for path in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                with contextlib.suppress(OSError):
                    path.rmdir()
            with contextlib.suppress(OSError):
                group.rmdir()

    def _enter_groups(self) -> None:
        for group in self._groups:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    def _open_groups(self) -> None:
        """Let systemd make groups in the hierarchies of the old kind, which are read-only to a container otherwise."""
        for group in self._groups:
            if group.parent != _GROUPS:
                self.run("mount", "-o", "remount,rw,bind", str(group.parent))
        self.run("systemctl", "daemon-reexec")  # it looks for them once only

    def _await_leader(self) -> int:
        end_s = time.monotonic() + _BOOT_S
        while time.monotonic() < end_s:
            for child in psutil.Process(self.nspawn.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if Path(f"/proc/{child.pid}/root", "run/systemd/private").exists():
                        return child.pid
            assert self.nspawn.poll() is None, "the container did not boot"
            time.sleep(0.05)
        raise AssertionError("the container's systemd does not answer")


def _hierarchies() -> list[Path]:
    """Where the container gets a group of its own: the old hierarchies that it needs, or the one of version 2."""
    names = ("memory", "pids", "systemd", "unified")
    return [_GROUPS / name for name in names if (_GROUPS / name / "cgroup.procs").exists()] or [_GROUPS]


def until(holds: Callable[[], object], what: str) -> None:
    end_s = time.monotonic() + _WAIT_S
    while not holds():
        assert time.monotonic() < end_s, f"not within {_WAIT_S} s: {what}"
        time.sleep(0.05)
