"""What is killed under the users of an embedded Redis: the server, the supervisor, the users themselves."""

import os
import signal

from processes import (
    await_death,
    connect,
    is_alive,
    kill,
    open_embedded,
    ping_until_it_answers,
    server_pid,
    supervisor_pid,
)

from engine.adapters.redis.embedded import folder_files


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


def test_when_the_supervisor_is_killed_redis_ends_and_a_user_starts_both_again(folder):
    with open_embedded(folder) as embedded:
        client = connect(embedded.url)
        client.set("kept", "yes")
        server, first = server_pid(client), supervisor_pid(folder)
        server_pidfd = os.pidfd_open(server)
        kill(first)
        await_death(server_pidfd)
        os.close(server_pidfd)
        assert ping_until_it_answers(embedded.url, not_by=server).get("kept") == "yes"
        assert supervisor_pid(folder) != first
        second = os.pidfd_open(supervisor_pid(folder))
    await_death(second)
    os.close(second)


def test_when_the_supervisor_is_killed_and_then_its_users_nothing_is_left(folder, user):
    one = user()
    server = server_pid(connect(one.opened()))
    os.kill(one.process.pid, signal.SIGSTOP)  # it cannot start another
    pidfd = os.pidfd_open(server)
    kill(supervisor_pid(folder))
    await_death(pidfd)
    os.close(pidfd)
    one.kill()
    assert folder_files.holders(folder.resolve() / folder_files.SERVER_LOCK) == []
    with open_embedded(folder) as embedded:
        assert connect(embedded.url).ping()


def test_a_server_that_outlives_its_supervisor_is_ended_before_another_one_writes_there(folder):
    """Two servers with one append-only file would ruin it. A stopped one does not hear the kernel's SIGTERM."""
    with open_embedded(folder) as embedded:
        client = connect(embedded.url)
        client.set("kept", "yes")
        server = server_pid(client)
        os.kill(server, signal.SIGSTOP)
        kill(supervisor_pid(folder))
        embedded.close()
        assert is_alive(server)
        with open_embedded(folder) as again:
            assert connect(again.url).get("kept") == "yes"
            assert not is_alive(server)


def test_a_user_that_is_killed_while_it_starts_does_not_bar_the_others(folder, user):
    for _ in range(4):
        user().kill()
    user().opened()


def test_a_supervisor_told_to_end_ends_redis_and_the_users_start_them_again(folder):
    with open_embedded(folder) as embedded:
        server = server_pid(connect(embedded.url))
        kill(supervisor_pid(folder), signal.SIGTERM)
        assert not is_alive(server)
        ping_until_it_answers(embedded.url, not_by=server)
