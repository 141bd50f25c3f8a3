"""Whose folder an embedded Redis is started in, and that nothing in it is opened through a link."""

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import connect, open_embedded

from engine.adapters.redis.embedded import binary, folder_files, server_supervisor
from engine.errors import EngineError

NOBODY = 65534
ROOT_OF_THE_PROJECT = str(Path(__file__).parents[3])
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def open_as_nobody(folder: Path) -> str:
    """What the user is told who opens the folder. The imports come first: that user may not read the project."""
    program = (f"import os, sys; sys.path.insert(0, {ROOT_OF_THE_PROJECT!r})\n"
               "from pathlib import Path\nfrom engine.adapters.redis.embedded.server import open_embedded\n"
               f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\nopen_embedded(Path({str(folder)!r}))")
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False).stderr


def give_to_nobody(folder: Path, *names: str) -> None:
    for path in (folder, *(folder / name for name in names)):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def state_of(folder: Path) -> list[tuple[str, int, bytes]]:
    return sorted((path.name, path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
                  for path in folder.iterdir())


# -- links and modes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [
    folder_files.USERS_LOCK, folder_files.START_LOCK, folder_files.SUPERVISOR_LOCK,
    folder_files.SERVER_LOCK, folder_files.SERVER_LOG])
def test_nothing_is_opened_through_a_link(folder, name):
    folder.mkdir(mode=0o700)
    target = folder.parent / "somebody's file"
    target.write_text("precious")
    (folder / name).symlink_to(target)
    with pytest.raises(EngineError, match=f"{name} is a symbolic link|Too many levels of symbolic links: .*{name}"):
        open_embedded(folder)
    assert target.read_text() == "precious"
    (folder / name).unlink()


def test_a_link_to_nothing_makes_no_file(folder):
    folder.mkdir(mode=0o700)
    (folder / folder_files.USERS_LOCK).symlink_to(folder.parent / "new")
    with pytest.raises(EngineError, match="is a symbolic link"):
        open_embedded(folder)
    assert not (folder.parent / "new").exists()
    (folder / folder_files.USERS_LOCK).unlink()


def test_a_pipe_in_the_place_of_a_file_does_not_hang_anybody(folder):
    folder.mkdir(mode=0o700)
    os.mkfifo(folder / folder_files.USERS_LOCK)
    with pytest.raises(EngineError, match=r"users\.lock is not a plain file"):
        open_embedded(folder)
    (folder / folder_files.USERS_LOCK).unlink()


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o1777])
def test_a_folder_in_which_others_may_write_is_refused_with_the_remedy(folder, mode):
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(EngineError, match="other users may write in it; close it with chmod go-w"):
        open_embedded(folder)
    assert list(folder.iterdir()) == []
    folder.chmod(0o755)
    with open_embedded(folder) as embedded:
        assert connect(embedded.url).ping()


# -- two users ---------------------------------------------------------------------------------------------------------


@as_root
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o777])
def test_the_folder_of_another_user_is_refused_by_that_users_name(folder, mode):
    folder.parent.chmod(0o755)
    folder.mkdir()
    folder.chmod(mode)
    assert (f"{folder}: it belongs to root, and this command runs as nobody; give it to that user "
            f"(sudo chown -R nobody {folder}), or name another one with --data-dir") in open_as_nobody(folder)


@as_root
def test_root_is_told_first_whose_folder_it_is_in_which_others_may_write(folder):
    folder.mkdir()
    give_to_nobody(folder)
    folder.chmod(0o777)
    with pytest.raises(EngineError, match="it belongs to nobody, and other users may write in it"):
        open_embedded(folder)


@as_root
def test_root_does_not_start_a_server_in_the_folder_of_another_user(folder):
    folder.mkdir(mode=0o700)
    (folder / folder_files.USERS_LOCK).touch()
    give_to_nobody(folder, folder_files.USERS_LOCK)
    before = state_of(folder)
    with pytest.raises(EngineError, match=r"belongs to nobody, and root does not start one there.*sudo -u nobody"):
        open_embedded(folder)
    assert state_of(folder) == before


@as_root
def test_root_leaves_an_empty_folder_of_another_user_empty(folder):
    folder.mkdir(mode=0o700)
    give_to_nobody(folder)
    with pytest.raises(EngineError, match="root does not start one there"):
        open_embedded(folder)
    assert list(folder.iterdir()) == []


@as_root
@pytest.mark.parametrize("name", [folder_files.USERS_LOCK, folder_files.SUPERVISOR_LOCK])
def test_a_link_in_the_folder_of_another_user_leads_root_nowhere(folder, name):
    folder.mkdir(mode=0o700)
    target = folder.parent / "of root"
    target.write_text('{"pid": 1, "socket": "/precious"}')
    (folder / folder_files.USERS_LOCK).touch()
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)
    give_to_nobody(folder, name)
    with pytest.raises(EngineError):
        open_embedded(folder)
    assert target.read_text() == '{"pid": 1, "socket": "/precious"}'
    (folder / name).unlink()


@pytest.fixture
def server_of_nobody(folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A real server that another user runs in the folder, with the files that its supervisor would have left."""
    folder.parent.chmod(0o755)
    folder.mkdir(mode=0o700)
    program = shutil.copy(str(binary.shipped_server()), folder.parent / "server")
    path = folder / "redis.sock"
    for name in (folder_files.USERS_LOCK, folder_files.SUPERVISOR_LOCK):
        (folder / name).touch()
    give_to_nobody(folder, folder_files.USERS_LOCK, folder_files.SUPERVISOR_LOCK)
    server = subprocess.Popen([program, *server_supervisor.arguments(folder, str(path))], user=NOBODY, group=NOBODY,
                              extra_groups=[], stdout=subprocess.PIPE, cwd=folder)
    assert server.stdout is not None
    assert any(b"eady to accept connections" in line for line in iter(server.stdout.readline, b""))
    lock = folder / folder_files.SUPERVISOR_LOCK
    lock.write_text(json.dumps({"pid": server.pid, "socket": str(path)}))
    yield server
    server.kill()
    server.communicate()


@as_root
def test_root_can_look_at_a_server_that_another_user_runs(folder, server_of_nobody):
    with open_embedded(folder) as embedded:
        assert connect(embedded.url).ping()
        assert not (folder / folder_files.START_LOCK).exists()
    assert server_of_nobody.poll() is None


@as_root
def test_root_does_not_start_the_server_of_another_user_again(folder, server_of_nobody):
    with open_embedded(folder):
        server_of_nobody.kill()
        server_of_nobody.wait()
        with pytest.raises(EngineError, match="root does not start one there"):
            open_embedded(folder)


@as_root
def test_root_speaks_to_no_socket_that_is_not_the_owners(folder):
    """Else the owner of a folder could send root's commands to a server that only root may reach."""
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as of_root:
        of_root.bind(str(folder.parent / "of root"))
        of_root.listen()
        of_root.setblocking(False)
        (folder / folder_files.USERS_LOCK).touch()
        note = {"pid": os.getpid(), "socket": str(folder.parent / "of root")}
        (folder / folder_files.SUPERVISOR_LOCK).write_text(json.dumps(note))
        give_to_nobody(folder, folder_files.USERS_LOCK, folder_files.SUPERVISOR_LOCK)
        with pytest.raises(EngineError, match="root does not start one there"):
            open_embedded(folder)
        with pytest.raises(BlockingIOError):
            of_root.accept()
    shutil.rmtree(folder)


@as_root
def test_a_server_that_root_has_started_in_the_folder_of_a_user_is_told_of_at_once(folder):
    folder.parent.chmod(0o755)
    folder.mkdir(mode=0o700)
    lock = folder / folder_files.SUPERVISOR_LOCK
    lock.write_text(json.dumps({"pid": os.getpid(), "socket": str(folder / "redis.sock")}))
    give_to_nobody(folder, folder_files.SUPERVISOR_LOCK)
    with (folder / folder_files.SUPERVISOR_LOCK).open() as held, socket.socket(socket.AF_UNIX) as of_root:
        fcntl.flock(held, fcntl.LOCK_EX)
        of_root.bind(str(folder / "redis.sock"))
        (folder / "redis.sock").chmod(0o700)
        of_root.listen()
        assert "was started by another user, and does not let nobody in" in open_as_nobody(folder)
    shutil.rmtree(folder)
