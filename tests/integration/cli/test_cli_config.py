"""`ganger config` and `ganger doctor`."""

from pathlib import Path
from typing import Any

import pytest
from printed import document, one_line

from engine.cli.exit_codes import Exit
from tests.redis_server import RedisServer, binaries

ROOT = Path(__file__).parents[3]


def test_config_show_names_the_source_of_each_value(ganger):
    Path("ganger.toml").write_text("lease_s = 20\n")
    shown = document(ganger("config", "show", "--set", "max_retries=9", "--json"))
    assert shown["lease_s"] == {"value": 20.0, "source": "file ganger.toml"}
    assert shown["max_retries"] == {"value": 9, "source": "flag --max-retries"}
    assert shown["data_dir"]["source"] == "environment GANGER_DATA_DIR"
    assert shown["window_max"]["source"] == "default"
    assert "file ganger.toml" in ganger("config", "show").stdout


def test_config_show_hides_the_password(ganger):
    url = "redis://user:hunter2@localhost:6379/0"
    for flags in ([], ["--json"]):
        result = ganger("config", "show", "--redis-url", url, *flags)
        assert "hunter2" not in result.output
        assert "user:***@localhost" in result.stdout


def test_config_check_says_everything_that_is_wrong(ganger):
    assert ganger("config", "check").stdout.startswith("ok: no file")
    Path("ganger.toml").write_text("max_worker = 2\nlease_s = 0\n")
    result = ganger("config", "check")
    assert result.exit_code == Exit.USAGE
    assert result.stderr.count("\n") == 2
    problems = document(ganger("config", "check", "--json"))
    assert problems["ok"] is False
    assert {problem["field"] for problem in problems["problems"]} == {"max_worker", "lease_s"}


def test_config_init_writes_a_file_once(ganger):
    assert ganger("config", "init").stdout == "wrote ganger.toml\n"
    assert Path("ganger.toml").read_text() == (ROOT / "config" / "ganger.toml").read_text()
    assert ganger("config", "check").stdout.startswith("ok: file ganger.toml; 2 of")
    assert "--force" in one_line(ganger("config", "init"))
    assert ganger("config", "init", "--force").exit_code == 0
    assert ganger("config", "init", "/proc/x/ganger.toml").exit_code == Exit.ENGINE


# -- doctor --------------------------------------------------------------------------------------------------------


def findings(result: Any) -> dict[str, dict[str, str]]:
    return {finding["name"]: finding for finding in document(result)["findings"]}


def test_the_doctor_finds_nothing_wrong_with_the_embedded_redis(ganger):
    Path("my_tasks.py").write_text("from engine import handler\n@handler('mine')\ndef mine(payload): return 1\n")
    result = ganger("doctor", "--handlers", "my_tasks", "--json")
    found = findings(result)
    assert result.exit_code == Exit.OK, result.stdout
    assert found["eviction"]["detail"] == "noeviction"
    assert found["persistence"]["detail"] == "append-only file, appendfsync everysec"
    assert found["handlers"]["detail"] == "1: mine"
    assert {"python", "settings", "redis", "version", "role", "maxmemory", "clock", "cgroup", "open files", "subreaper",
            "memory", "stack dumps"} <= set(found)
    assert all(finding["state"] in ("ok", "warn") for finding in found.values())


@pytest.mark.parametrize(("text", "words"), [
    ("import no_such_module_at_all", "ModuleNotFoundError"),
    ("raise SystemExit(3)", "SystemExit: 3"),
    ("import os; os._exit(3)", "ended the process with 3"),
    ("x = 1", "register no handler"),
    ("def broken(:", "SyntaxError"),
])
def test_the_doctor_tells_why_handlers_cannot_be_imported(ganger, text, words):
    Path("my_tasks.py").write_text(text)
    result = ganger("doctor", "--handlers", "my_tasks", "--json")
    assert result.exit_code == Exit.FAILED
    assert findings(result)["handlers"]["state"] == "fail"
    assert words in findings(result)["handlers"]["detail"]


def test_the_doctor_names_threads_that_workers_would_not_have(ganger):
    Path("my_tasks.py").write_text(
        "import threading\nfrom engine import handler\n"
        "threading.Thread(target=threading.Event().wait, name='reader', daemon=True).start()\n"
        "@handler('my-task')\ndef mine(payload): return 1\n")
    found = findings(ganger("doctor", "--handlers", "my_tasks", "--json"))["handlers"]
    assert found["state"] == "warn"
    assert "1: my-task" in found["detail"]
    assert "the imports of my_tasks have started 1 thread (reader)" in found["detail"]
    assert "spawn" in found["remedy"]


def test_the_doctor_does_not_wait_for_ever_for_handlers(ganger):
    Path("my_tasks.py").write_text("import threading; threading.Event().wait()")
    result = ganger("doctor", "--handlers", "my_tasks", "--set", "boot_timeout_s=1", "--json")
    assert "longer than 1 s" in findings(result)["handlers"]["detail"]


def test_the_doctor_sees_what_is_wrong_with_a_redis(ganger):
    """A Redis that evicts, keeps nothing and is nearly full."""
    server = RedisServer(binaries()[0], maxmemory="1100kb", **{"maxmemory-policy": "allkeys-lru"})
    try:
        result = ganger("doctor", "--redis-url", server.url, "--json")
        found = findings(result)
        assert result.exit_code == Exit.FAILED
        assert found["eviction"]["state"] == "fail"
        assert "noeviction" in found["eviction"]["remedy"]
        assert found["persistence"]["state"] == "warn"
        assert "loses every task" in found["persistence"]["detail"]
        text = ganger("doctor", "--redis-url", server.url).stdout
        assert "remedy: redis-cli CONFIG SET maxmemory-policy noeviction" in text
    finally:
        server.stop()


def test_the_doctor_goes_on_without_redis(ganger):
    result = ganger("doctor", "--redis-url", "redis://:hunter2@127.0.0.1:1/0", "--json")
    assert result.exit_code == Exit.FAILED
    assert findings(result)["redis"]["state"] == "fail"
    assert "python" in findings(result)
    assert "hunter2" not in result.output


def test_the_doctor_tells_of_settings_that_are_wrong(ganger):
    result = ganger("doctor", "--set", "lease_s=0", "--json")
    assert result.exit_code == Exit.FAILED
    assert "lease_s" in findings(result)["settings"]["detail"]


def test_the_doctor_repairs_on_demand(ganger):
    result = ganger("doctor", "--repair", "--json")
    assert findings(result)["repair"]["detail"].endswith("entries looked at, 0 mended")
    assert "repair" not in findings(ganger("doctor", "--json"))
