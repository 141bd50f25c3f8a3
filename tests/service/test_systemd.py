"""The engine as a service of a real systemd, in a container: `./dev service-test`. Takes root, and a minute.

The wheel is installed, `ganger install-service` writes the unit, and systemctl does the rest, as an operator would.
"""

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.service import container
from tests.service.container import Container, until

ROOT = Path(__file__).parents[2]
HOME, PROGRAM, UNIT = "/srv/ganger", "/opt/ganger/bin/ganger", "/etc/systemd/system/ganger.service"
WAIT_S = 60  # of a client
TASKS_MAX, MEMORY_MAX_MIB = 60, 400
SETTINGS = 'handlers = ["tasks"]\nmax_workers = 2\nshutdown_grace_s = 20\n'
SCRIPT = "#!/opt/ganger/bin/python\nimport sys\nfrom engine.cli import main\nsys.exit(main())\n"
# A watchdog that need not be waited for long, and limits low enough to be met.
DROP_IN = f"[Service]\nWatchdogSec=4\nTasksMax={TASKS_MAX}\nMemoryMax={MEMORY_MAX_MIB}M\n"

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif("GANGER_SERVICE_TEST" not in os.environ,
                       reason="boots a Debian in a container, which takes a minute: ./dev service-test")]


class Host:
    """A container with the engine installed and its service started."""

    def __init__(self, inside: Container) -> None:
        self.inside = inside

    def systemctl(self, *words: str, check: bool = True) -> str:
        return self.inside.run("systemctl", *words, check=check)

    def shown(self, name: str) -> str:
        return self.systemctl("show", "--property", name, "--value", "ganger")

    def ganger(self, *words: str) -> str:
        return self.inside.run(PROGRAM, *words, user="ganger", folder=HOME)

    def submit(self, task_type: str, payload: object) -> str:
        return self.ganger("submit", task_type, "--payload", json.dumps(payload)).split()[-1]

    def result(self, task_id: str) -> object:
        return json.loads(self.ganger("result", task_id, "--wait", str(WAIT_S)))

    def task(self, task_id: str) -> dict[str, object]:
        found: object = json.loads(self.ganger("status", task_id, "--json"))
        return found[0] if isinstance(found, list) else found  # type: ignore[return-value]

    def hold(self, name: str) -> tuple[str, Callable[[], list[int]], Callable[[], None]]:
        """Submit a task that runs until it is let go: its id, a wait for its start, and what lets it go."""
        place = f"{HOME}/{name}"
        here = Path(f"/proc/{self.inside.leader}/root{place}")
        task_id = self.submit("hold", place)

        def started() -> list[int]:
            mark = here.with_name(f"{name}.started")
            until(lambda: mark.exists() and mark.read_text(), f"{name} has started")
            words = [int(word) for word in mark.read_text().split()]
            mark.unlink()
            return words

        return task_id, started, lambda: here.with_name(f"{name}.go").touch()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    if why := container.cannot():
        pytest.skip(why)
    try:
        container.make_base()
    except subprocess.SubprocessError as error:
        pytest.skip(f"debootstrap cannot make a Debian here: {error}")
    wheels = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
                    "--wheel-dir", wheels, ROOT], check=True)
    inside = Container(container.lent(), wheels / "console")
    try:
        host = Host(inside)
        _install(inside, next(wheels.glob("ganger-*.whl")))
        host.systemctl("daemon-reload")
        host.systemctl("start", "ganger", check=False)
        assert host.shown("ActiveState") == "active", inside.run("journalctl", "--unit", "ganger", "--no-pager")
        yield host
    finally:
        print(inside.run("journalctl", "--unit", "ganger", "--no-pager", check=False))
        inside.stop()


def _install(inside: Container, wheel: Path) -> None:
    """As an operator would, but for pip: what the wheel depends on is lent by the tests' own environment."""
    inside.run(f"{sys.base_prefix}/bin/python3", "-m", "venv", "--without-pip", "/opt/ganger")
    here = Path(f"/proc/{inside.leader}/root")
    packages = f"/opt/ganger/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(here / packages.lstrip("/"))
    inside.write(f"{packages}/lent.pth", "/opt/packages\n")
    inside.write(PROGRAM, SCRIPT)
    inside.run("chmod", "+x", PROGRAM)
    inside.run("useradd", "--system", "--create-home", "--home-dir", HOME, "ganger")
    inside.write(f"{HOME}/ganger.toml", SETTINGS)
    inside.write(f"{HOME}/tasks.py", (ROOT / "tests/service/service_handlers.py").read_text())
    inside.run(PROGRAM, "install-service", "--user", "ganger", "--dir", HOME)
    inside.run("mkdir", f"{UNIT}.d")
    inside.write(f"{UNIT}.d/test.conf", DROP_IN)


def test_it_is_started_when_it_is_ready_and_says_what_runs(host: Host) -> None:
    assert host.shown("ActiveState") == "active"
    assert host.shown("StatusText") == "keeper, pool default"
    assert host.result(host.submit("version", None)) == "VERSION 1"
    exposure = host.inside.run("systemd-analyze", "security", "--threshold=20", "ganger")
    assert "Overall exposure level" in exposure


def test_the_limits_of_its_control_group_are_in_force(host: Host) -> None:
    assert host.shown("TasksMax") == str(TASKS_MAX)
    made = host.result(host.submit("fork_many", 10 * TASKS_MAX))
    assert isinstance(made, int)
    assert 0 < made < TASKS_MAX, "the kernel refused the rest"
    assert host.result(host.submit("version", None)) == "VERSION 1", "and nobody else was hurt"


def test_a_run_that_the_kernel_ends_for_want_of_memory_does_not_end_the_service(host: Host) -> None:
    main, task_id = host.shown("MainPID"), host.submit("eat", 4 * MEMORY_MAX_MIB)
    until(lambda: host.task(task_id)["status"] == "FAILED", "the run has ended")
    assert host.task(task_id)["cause"] in ("out_of_memory", "killed")
    assert host.result(host.submit("version", None)) == "VERSION 1"
    assert (host.shown("ActiveState"), host.shown("MainPID")) == ("active", main)


def test_a_reload_takes_new_code_and_loses_nothing(host: Host) -> None:
    main = host.shown("MainPID")
    running, started, let_go = host.hold("reloaded")
    started()
    host.inside.run("sed", "-i", "s/VERSION 1/VERSION 2/", f"{HOME}/tasks.py")
    host.systemctl("reload", "ganger")
    until(lambda: host.shown("ActiveState") == "active" and " 2" in host.shown("StatusText"), "the reload is over")
    assert host.result(host.submit("version", None)) == "VERSION 2"
    let_go()
    assert host.result(running) == 1, "it went on where it was"
    assert host.shown("MainPID") == main


def test_a_root_that_hangs_is_ended_by_the_watchdog_and_its_runs_are_rescued(host: Host) -> None:
    running, started, let_go = host.hold("hung")
    started()
    main = int(host.shown("MainPID"))
    os.kill(host.inside.pid_here(main), signal.SIGSTOP)
    until(lambda: host.shown("NRestarts") == "1" and host.shown("ActiveState") == "active", "it was started again")
    assert "atchdog" in host.inside.run("journalctl", "--unit", "ganger", "--no-pager")
    assert int(host.shown("MainPID")) != main
    assert started()[1] == 2
    let_go()
    assert host.result(running) == 2


def test_a_stop_lets_runs_finish_and_keeps_what_waits(host: Host) -> None:
    running = [host.hold(f"stopped{number}") for number in range(2)]
    for _, started, _ in running:
        started()
    waiting = [host.submit("version", None) for _ in range(5)]
    host.systemctl("stop", "--no-block", "ganger")
    until(lambda: host.shown("StatusText") == "draining", "it drains")
    for _, _, let_go in running:
        let_go()
    until(lambda: host.shown("ActiveState") == "inactive", "it has stopped")
    assert host.shown("Result") == "success"
    host.systemctl("start", "ganger")
    assert [host.result(task_id) for task_id, _, _ in running] == [1, 1]
    assert [host.result(task_id) for task_id in waiting] == ["VERSION 2"] * 5


def test_a_root_that_is_killed_leaves_nobody_and_is_started_again(host: Host) -> None:
    running, started, let_go = host.hold("killed")
    worker, _ = started()
    host.inside.pid_here(worker)
    restarts = int(host.shown("NRestarts"))
    host.systemctl("kill", "--kill-whom=main", "--signal=KILL", "ganger")
    until(lambda: int(host.shown("NRestarts")) == restarts + 1 and host.shown("ActiveState") == "active", "it is back")
    with pytest.raises(AssertionError, match="no process"):
        host.inside.pid_here(worker)
    assert started()[1] == 2
    let_go()
    assert host.result(running) == 2
