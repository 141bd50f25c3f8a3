"""The engine under a service manager: what it says to it, and the units that are packaged.

Needs no systemd but for its analysis; `./dev service-test` boots a real one.
"""

import contextlib
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from engine.adapters.kernel.service_manager import ServiceManager
from engine.cli.app import app
from engine.cli.exit_codes import Exit
from engine.core.tree.restart import RestartBudget
from engine.core.tree.supervision import ChildSpec, Supervision
from engine.services.tree.announcements import ServiceNotices

HANDLERS = "tests.integration.engine.tree_handlers"
ROOT = Path(__file__).parents[3]
UNITS = ROOT / "config" / "systemd"
WAIT_S = 30
WATCHDOG_S = 3
EXPOSURE_MAX = 2.0  # of 10, as systemd-analyze counts
USER = pwd.getpwuid(os.getuid()).pw_name


class Manager:
    """The socket of a service manager."""

    def __init__(self, path: str) -> None:
        self.path, self.heard = path, list[dict[str, str]]()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + path[1:] if path.startswith("@") else path)

    def next(self) -> dict[str, str]:
        assert select.select([self.socket], [], [], WAIT_S)[0], f"no more after {self.heard}"
        message = dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())
        self.heard.append(message)
        return message

    def until(self, *names: str) -> dict[str, str]:
        """The next message that has all of these."""
        while not set(names) <= (message := self.next()).keys():
            continue
        return message


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.socket.close()


# -- what is said -----------------------------------------------------------------------------------------------------


def test_the_engine_tells_its_manager_how_it_is(manager: Manager, redis_url: str, tmp_path: Path) -> None:
    settings = tmp_path / "ganger.toml"
    settings.write_text(f'redis_url = "{redis_url}"\nmax_workers = 1\nhandlers = ["{HANDLERS}"]\n')
    environ = {**os.environ, "NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": str(WATCHDOG_S * 1_000_000),
               "PYTHONPATH": str(ROOT)}
    root = subprocess.Popen([sys.executable, "-m", "engine", "run"], cwd=tmp_path, env=environ)
    try:
        assert manager.until("READY")["STATUS"] == "keeper, pool default"
        for process in psutil.Process(root.pid).children(recursive=True):
            assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & process.environ().keys(), process.cmdline()
        manager.until("WATCHDOG")
        manager.until("WATCHDOG")

        root.send_signal(signal.SIGHUP)
        assert int(manager.until("RELOADING", "MONOTONIC_USEC")["MONOTONIC_USEC"]) > 0
        assert manager.until("READY")["STATUS"] == "keeper 2, pool default 2"

        settings.write_text("max_workers = -1\n")
        root.send_signal(signal.SIGHUP)
        manager.until("RELOADING")
        assert manager.until("READY")["STATUS"] == "keeper 2, pool default 2", "told, though it brought nothing"

        _child(root.pid, "ganger: pool default 2").kill()
        assert manager.until("STATUS")["STATUS"] == "keeper 2, pool default 2; 1 restarts"

        root.terminate()
        stopping = manager.until("STOPPING")
        assert stopping["STATUS"] == "draining"
        assert int(stopping["EXTEND_TIMEOUT_USEC"]) > 30_000_000, "its grace, and more"
        assert root.wait(WAIT_S) == 0
    finally:
        root.kill()
        root.wait()


def test_a_tree_that_dies_too_often_says_so_and_ends_badly(manager: Manager, redis_url: str, tmp_path: Path) -> None:
    environ = {**os.environ, "NOTIFY_SOCKET": manager.path, "GANGER_REDIS_URL": redis_url, "GANGER_MAX_WORKERS": "1",
               "GANGER_RESTART_INTENSITY": "0", "GANGER_ALLOW_MISSING_HANDLERS": "true"}
    root = subprocess.Popen([sys.executable, "-m", "engine", "run"], cwd=tmp_path, env=environ | {
        "PYTHONPATH": str(ROOT)})
    try:
        manager.until("READY")
        _child(root.pid, "ganger: keeper").kill()
        assert "dies faster" in manager.until("STOPPING")["STATUS"]
        assert root.wait(WAIT_S) == Exit.ENGINE
    finally:
        root.kill()
        root.wait()


def test_a_manager_with_an_abstract_socket_is_heard_too() -> None:
    manager = Manager(f"@ganger-test-{os.getpid()}")
    ServiceManager(manager.path).tell(READY=1)
    assert manager.next() == {"READY": "1"}
    manager.socket.close()


def test_a_manager_that_is_gone_or_deaf_costs_nothing(manager: Manager) -> None:
    ours = ServiceManager(manager.path)
    for _ in range(10_000):  # more than a socket holds
        ours.tell(WATCHDOG=1)
    ServiceManager("/nonexistent/notify").tell(READY=1)
    ServiceManager().tell(READY=1)


@pytest.mark.parametrize(("environ", "watchdog_s"), [
    ({}, None), ({"WATCHDOG_USEC": "2000000"}, 2.0), ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None),
    ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 2.0), ({"WATCHDOG_USEC": "soon"}, None)])
def test_the_watchdog_is_fed_if_it_is_ours(environ: dict[str, str], watchdog_s: float | None) -> None:
    assert ServiceManager.from_environ(environ).watchdog_s == watchdog_s
    assert not environ, "nobody whom we start is to speak in our name"


def test_the_watchdog_is_not_fed_while_a_child_cannot_be_ended(manager: Manager) -> None:
    core = Supervision([ChildSpec("keeper")], RestartBudget(1, 1))
    notices = ServiceNotices(ServiceManager(manager.path, WATCHDOG_S), core)
    notices.ready()
    notices.feed(True, 100.0)
    notices.feed(True, 100.5)
    notices.feed(False, 110.0)
    notices.feed(False, 120.0)
    notices.feed(True, 121.0)
    assert [manager.next() for _ in range(5)] == [
        {"READY": "1", "STATUS": "keeper"}, {"WATCHDOG": "1"}, {"STATUS": "a child cannot be ended"},
        {"WATCHDOG": "1"}, {"STATUS": "keeper"}]


def _child(pid: int, title: str) -> psutil.Process:
    """The one of that title; those that a reload has retired may be ending as we look."""
    for one in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie is one, too
            if title in " ".join(one.cmdline()):
                return one
    raise AssertionError(f"{pid} has no child {title!r}")


# -- the units --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ganger.service", "ganger@.service"])
def test_the_units_are_hardened(name: str, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed here: it is in Debian's package systemd")
    for path in UNITS.iterdir():
        shutil.copy(path, tmp_path)
    told = subprocess.run([analyze, "security", "--offline=true", f"--threshold={EXPOSURE_MAX * 10:.0f}",
                           str(tmp_path / name)], capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})
    assert told.returncode == 0, told.stdout + told.stderr
    overall = next(line for line in told.stdout.splitlines() if "Overall exposure level" in line)
    assert float(overall.split(":")[1].split()[0]) <= EXPOSURE_MAX


def test_the_template_differs_by_its_folder_only() -> None:
    one, many = ([line for line in (UNITS / name).read_text().splitlines() if line and not line.startswith("#")]
                 for name in ("ganger.service", "ganger@.service"))
    assert [line.replace("/%i", "").replace(", %i", "") for line in many] == one


@pytest.fixture
def project() -> Iterator[Path]:
    """A folder outside /tmp, which a service sees otherwise than we do."""
    folder = Path(os.environ.get("XDG_STATE_HOME", Path.home())) / f"ganger test %{os.getpid()}"
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder)


def test_a_unit_is_written_for_a_user_and_a_folder(project: Path, tmp_path: Path) -> None:
    wanted = ["install-service", "--user", USER, "--dir", str(project), "--to", str(tmp_path)]
    told = CliRunner().invoke(app, wanted)
    assert told.exit_code == 0, told.output
    assert "systemctl daemon-reload" in told.output
    lines = (tmp_path / "ganger.service").read_text().splitlines()
    place = str(project).replace("%", "%%")
    assert {f"User={USER}", f"WorkingDirectory={place}", f'ReadWritePaths="{place}"', "KillMode=mixed",
            "Delegate=yes"} <= set(lines)
    assert len(lines) == len((UNITS / "ganger.service").read_text().splitlines())
    assert CliRunner().invoke(app, wanted).exit_code == Exit.USAGE, "there is one already"
    assert CliRunner().invoke(app, [*wanted, "--force"]).exit_code == 0
    assert CliRunner().invoke(app, [*wanted, "--template"]).exit_code == 0
    assert f"WorkingDirectory={place}/%i" in (tmp_path / "ganger@.service").read_text().splitlines()
    if shutil.which("systemd-analyze"):
        told_by = subprocess.run(["systemd-analyze", "verify", "--man=no", str(tmp_path / "ganger.service")],
                                 capture_output=True, text=True)
        assert "ganger.service:" not in told_by.stderr, told_by.stderr


@pytest.mark.parametrize(("flags", "why"), [
    (["--user", "nobody-of-that-name", "--dir", "/"], "no user"), (["--user", USER, "--dir", "/no/such"], "no folder"),
    (["--user", USER, "--dir", "/tmp"], "/tmp of its own")])
def test_what_could_never_run_is_refused(flags: list[str], why: str) -> None:
    told = CliRunner().invoke(app, ["install-service", *flags, "--to", "-"])
    assert told.exit_code == Exit.USAGE
    assert why in " ".join(told.output.split())
