"""What is left behind in the folder of an embedded Redis, or stands in its way."""

from pathlib import Path

import pytest
from processes import connect, open_embedded

from engine.adapters.redis.embedded import data_folder, folder_files
from engine.adapters.redis.embedded.server import await_end
from engine.errors import EngineError


def last_append_only_file(folder: Path) -> Path:
    """Redis 6.2 has one file, later servers have a folder of them."""
    return max(path for path in folder.rglob("appendonly.aof*") if path.suffix == ".aof")


def test_a_stale_socket_and_stale_notes_are_no_obstacle(folder):
    with open_embedded(folder):
        pass
    await_end(folder)
    (folder / "redis.sock").write_text("")
    (folder / folder_files.SUPERVISOR_LOCK).write_text('{"pid": 1, "socket": "/nowhere"}')
    with open_embedded(folder) as embedded:
        assert connect(embedded.url).ping()
    await_end(folder)
    (folder / folder_files.SUPERVISOR_LOCK).write_text('not json')
    with open_embedded(folder) as embedded:
        assert connect(embedded.url).ping()


def test_an_append_only_file_that_ends_in_the_middle_is_loaded_up_to_there(folder):
    with open_embedded(folder) as embedded:
        client = connect(embedded.url)
        client.set("first", "yes")
        client.set("second", "yes")
    await_end(folder)
    written = last_append_only_file(folder)
    written.write_bytes(written.read_bytes()[:-5])
    with open_embedded(folder) as embedded:
        client = connect(embedded.url)
        assert client.get("first") == "yes"
        assert client.get("second") is None


def test_a_server_that_cannot_start_is_told_of_in_its_own_words(folder):
    with open_embedded(folder) as embedded:
        connect(embedded.url).set("a", 1)
    await_end(folder)
    written = last_append_only_file(folder)
    written.write_bytes(b"*3\r\nnonsense\r\n" * 9)
    with pytest.raises(EngineError, match=r"does not start: .*Bad file format"):
        open_embedded(folder)
    await_end(folder)


@pytest.mark.parametrize("path", ["/proc/ganger", "/dev/null/data", "/sys/ganger"])
def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(path):
    with pytest.raises(EngineError, match=f"cannot keep data in the folder {path}: .*--data-dir"):
        open_embedded(Path(path))


def test_a_private_folder_that_somebody_else_made_first_is_refused(folder, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(folder.parent))
    long = folder / ("x" * 150)
    long.mkdir(parents=True)
    place = Path(data_folder.socket_path(long.resolve())).parent
    place.chmod(0o777)
    with pytest.raises(EngineError, match="open to others"):
        open_embedded(long)


def test_a_large_log_is_put_aside(folder):
    with open_embedded(folder):
        pass
    await_end(folder)
    (folder / folder_files.SERVER_LOG).write_bytes(b"x" * 2_000_000)
    with open_embedded(folder):
        pass
    await_end(folder)
    assert (folder / folder_files.SERVER_LOG).stat().st_size < 100_000
    assert (folder / "redis.log.1").exists()
