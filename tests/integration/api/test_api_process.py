"""The API as a part of `ganger run`: how it begins where its port is in use, and how it ends."""

import signal
import socket

import pytest

from tests.integration.api.api_kit import PATIENCE_S, Engine


def test_a_port_in_use_is_one_line_and_the_pools_run() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        engine = Engine(api_port=port, serves=False)
        try:
            told = engine.await_line(lambda row: row["message"].startswith("there is no API for now"))
            assert told["reason"] == f"the API cannot listen on 127.0.0.1:{port}: Address already in use"
            assert engine.ganger("submit", "double", "--payload", '{"number": 4}', "--wait") == '{"doubled":8}\n'
            taken.close()
            assert engine.await_line(lambda row: row["message"] == "the API listens")["url"].endswith(f":{port}/api/v1")
            said = [row["message"] for row in engine.said]
            assert [text for text in said if "Traceback" in text or text == "giving up"] == []
            assert sum(text.startswith("there is no API for now") for text in said) == 1
            assert engine.await_line(lambda row: row["message"].startswith("the API serves everybody"))
            assert engine.stop() == 0
            open_to_all = [row["message"].startswith("the API serves everybody") for row in engine.said]
            assert sum(open_to_all) == 1, "only once it serves"
        finally:
            engine.close()


def test_the_api_alone_says_in_one_line_that_its_port_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        engine = Engine("api")
        try:
            done = engine.popen("api", "--port", str(port))
            _, said = done.communicate(timeout=PATIENCE_S)
            assert done.returncode == 5
            assert said.splitlines() == [
                f"ganger: the API cannot listen on 127.0.0.1:{port}: Address already in use"]
        finally:
            engine.close()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_without_a_traceback(end: signal.Signals) -> None:
    engine = Engine()
    try:
        engine.http.get("/queues")
        engine.process.send_signal(end)
        assert engine.process.wait(PATIENCE_S) == 0
        engine.reader.join(PATIENCE_S)
        ended = [row for row in engine.said if row["message"] == "ended" and row["child"] == "api"]
        assert [row["exit_code"] for row in ended] == [0]
        assert not any("Traceback" in str(row) for row in engine.said)
    finally:
        engine.close()


def test_a_client_that_goes_away_in_its_body_is_no_fault() -> None:
    engine = Engine("api")
    try:
        address = engine.url.removeprefix("http://").split("/")[0].split(":")
        for path, quick in (("/tasks", True), ("/tasks/search", False)):
            with socket.create_connection((address[0], int(address[1])), PATIENCE_S) as raw:
                raw.sendall(f"POST /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                            "Expect: 100-continue\r\nContent-Length: 50\r\n\r\n".encode())
                assert b"100 Continue" in raw.recv(100), quick
            row = engine.await_line(lambda row, path=path: row.get("what") == f"POST /api/v1{path}")
            assert row["status"] == 499
        assert not any(row.get("level") == "ERROR" or "Traceback" in str(row) for row in engine.said)
    finally:
        engine.close()
