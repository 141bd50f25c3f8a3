"""The embedded Redis: one for a folder, shared by all who name it, ended with the last; its data is kept.

Nothing here waits for time: pipes end, locks are let go of, pidfds become readable.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from processes import await_death, connect, note, open_embedded, server_pid, supervisor_pid

from engine.adapters.redis.embedded import data_folder, folder_files
from engine.adapters.redis.embedded.server import await_end


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
        parent = int(Path(f"/proc/{supervisor_pid(folder)}/stat").read_text().rpartition(")")[2].split()[1])
        assert parent != os.getpid()


@pytest.mark.parametrize("name", ["with space and ü", "x" * 150, "quote's %41"])
def test_any_name_of_a_folder_will_do(folder, name):
    folder = folder / name
    try:
        with open_embedded(folder) as embedded:
            assert len(str(note(folder)["socket"])) <= data_folder.SOCKET_PATH_BYTES_MAX
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
    lock = folder.resolve() / folder_files.SERVER_LOCK
    assert len(folder_files.holders(lock)) == 2, "one supervisor, one server"


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
