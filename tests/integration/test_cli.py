"""The `ganger` command without a pool: arguments, errors, exit codes, JSON. Each command meets a real Redis."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from engine.adapters.redis.embedded import Embedded, await_end, open_embedded
from engine.cli.app import app
from engine.cli.exits import Exit
from engine.cli.nouns import SUMMARIES

ROOT = Path(__file__).parents[2]
NOBODY = "01H5RC2K8D7QZ3V0M4T"  # an id that no task has
Ganger = Callable[..., Any]


@pytest.fixture(scope="module")
def redis() -> Iterator[Embedded]:
    folder = Path(tempfile.mkdtemp(prefix="ganger-test-"))
    with open_embedded(folder / "data") as embedded:
        yield embedded
    await_end(folder / "data")
    shutil.rmtree(folder)


@pytest.fixture
def ganger(redis: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ganger:
    """Calls the command in an empty folder, on keys of its own, without any of our variables."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("GANGER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GANGER_DATA_DIR", str(redis.folder))
    monkeypatch.setenv("GANGER_QUEUE_PREFIX", tmp_path.name[-60:])

    def call(*arguments: str, **options: Any) -> Any:
        return CliRunner().invoke(app, list(arguments), **options)

    return call


def document(result: Any) -> Any:
    """The one JSON document that was printed."""
    assert result.stdout.count("\n") == 1, result.stdout
    return json.loads(result.stdout)


def one_line(result: Any) -> str:
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("ganger: ")
    assert "Traceback" not in result.output
    return str(result.stderr)


# -- help ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [
    *SUMMARIES, "config check", "config show", "config init", "queues list", "queues pause", "queues resume",
    "queues purge", "workers list", "workers level", "workers stack"])
def test_every_command_has_help_with_examples(ganger, name):
    result = ganger(*name.split(), "--help")
    assert result.exit_code == 0, result.output
    if name not in ("config", "queues", "workers"):
        assert f"ganger {name.removesuffix(' list')}" in result.stdout, "an example of it"


def test_the_help_of_all_names_every_command_and_every_exit_code(ganger):
    text = ganger("--help").stdout
    for name, summary in SUMMARIES.items():
        assert name in text
        assert summary in text
    for code in Exit:
        assert f"{code.value}" in text
        assert code.meaning in text


def test_the_documentation_has_every_command_and_exit_code():
    text = (ROOT / "docs" / "cli.md").read_text()
    for name in SUMMARIES:
        assert f"`ganger {name}" in text
    for code in Exit:
        assert f"| {code.value} | {code.meaning} |" in text


def test_without_arguments_it_says_what_it_can_do(ganger):
    assert "Commands:" in ganger().output


def test_an_unknown_command_names_the_nearest(ganger):
    result = ganger("statu")
    assert result.exit_code == Exit.USAGE
    assert "did you mean 'status'?" in result.stderr


@pytest.mark.parametrize(("arguments", "unwanted"), [
    (["--help"], {"pydantic", "redis", "rich", "psutil", "asyncio", "tomllib", "engine.config", "engine.services"}),
    (["submit", "--help"], {"redis", "rich", "psutil", "engine.services"}),
    (["status", NOBODY], {"rich", "psutil", "engine.services", "fastapi", "uvicorn", "setproctitle"}),
])
def test_nothing_is_loaded_that_is_not_needed(redis, arguments, unwanted):
    program = (
        "import sys, atexit\n"
        f"sys.argv[:] = ['ganger', *{arguments!r}]\n"
        "atexit.register(lambda: print('loaded', *sys.modules, file=sys.stderr))\n"
        "from engine.cli import main\nmain()\n")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False,
                          env={**os.environ, "GANGER_DATA_DIR": str(redis.folder)})
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "engine.cli.app" in loaded
    assert not unwanted & loaded


def test_python_m_engine_is_the_command():
    program = [sys.executable, "-m", "engine", "--version"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ganger ")


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (["status", NOBODY], Exit.FAILED, ["no task has the id", NOBODY]),
    (["status", "x"], Exit.FAILED, ["'x'"]),
    (["result", NOBODY, "--wait", "5"], Exit.FAILED, [NOBODY]),
    (["cancel", NOBODY], Exit.FAILED, [NOBODY]),
    (["retry", NOBODY], Exit.FAILED, [NOBODY]),
    (["priority", NOBODY, "high"], Exit.FAILED, [NOBODY]),
    (["logs", NOBODY], Exit.FAILED, [NOBODY]),
    (["workers", "stack", NOBODY], Exit.FAILED, [NOBODY]),
    (["submit", "echo", "--payload", "{nope"], Exit.USAGE, ["payload", "not JSON", "{nope"]),
    (["submit", "echo", "--payload", "@/gone.json"], Exit.USAGE, ["/gone.json", "No such file"]),
    (["submit", "echo", "--queue", "a b"], Exit.USAGE, ["queue", "'a b'", "1 to 64"]),
    (["submit", "echo", "--priority", "asap"], Exit.USAGE, ["priority", "asap", "URGENT"]),
    (["submit", "echo", "--delay=-1"], Exit.USAGE, ["delay", "-1"]),
    (["submit", "echo", "--max-retries=-1"], Exit.USAGE, ["max_retries", "-1"]),
    (["tasks", "--status", "DONE"], Exit.USAGE, ["status", "DONE", "COMPLETED"]),
    (["tasks", "--queue", "a b"], Exit.USAGE, ["queue", "'a b'"]),
    (["queues", "pause", "a,b"], Exit.USAGE, ["'a,b'"]),
    (["queues", "purge", "ab"], Exit.USAGE, ["nothing was purged"]),
    (["workers", "level", "LOUD"], Exit.USAGE, ["LOUD", "DEBUG"]),
    (["retry"], Exit.USAGE, ["--all"]),
    (["retry", NOBODY, "--all"], Exit.USAGE, ["--all"]),
    (["run", "--max-workers", "0"], Exit.USAGE, ["max_workers = 0", "from 1 to 1024", "flag --max-workers"]),
    (["run", "--set", "lease=3"], Exit.USAGE, ["'lease'", "lease_s"]),
    (["run", "--set", "lease_s"], Exit.USAGE, ["NAME=VALUE"]),
    (["run", "--handlers", "not a module"], Exit.USAGE, ["handlers.0"]),
    (["--redis-url", "redis://127.0.0.1:1/0", "tasks"], Exit.BROKER, ["Redis cannot be reached"]),
    (["tasks", "--redis-url", "redis://127.0.0.1:1/0"], Exit.BROKER, ["Redis cannot be reached"]),
    (["tasks", "--redis-url", "http://x"], Exit.USAGE, ["redis_url", "redis://"]),
    (["tasks", "--config", "gone.toml"], Exit.USAGE, ["gone.toml"]),
    (["tasks", "--data-dir", "/proc/ganger"], Exit.ENGINE, ["/proc/ganger", "--data-dir"]),
    (["run", "--data-dir", "/proc/ganger"], Exit.ENGINE, ["/proc/ganger", "--data-dir"]),
])
def test_an_error_is_one_line_and_an_exit_code(ganger, arguments, code, words):
    result = ganger(*arguments, input="n\n")
    assert result.exit_code == code, result.output
    line = one_line(result) if "purge" not in arguments else result.stderr
    assert all(word in line for word in words), line


def test_with_json_an_error_is_a_document_too(ganger):
    result = ganger("submit", "echo", "--queue", "a b", "--json")
    error = document(result)["error"]
    assert error["kind"] == "InvalidOption"
    assert error["field"] == "queue"
    assert error["message"] in one_line(result)


@pytest.mark.parametrize("arguments", [["tasks", "--limt", "3"], ["tasks", "--limit", "many"], ["submit"],
                                       ["priority", NOBODY]])
def test_wrong_usage_has_the_exit_code_of_bad_input(ganger, arguments):
    assert ganger(*arguments).exit_code == Exit.USAGE


# -- tasks ---------------------------------------------------------------------------------------------------------


def test_submit_prints_the_id_and_nothing_else(ganger):
    result = ganger("submit", "echo", "--payload", '{"a": 1}')
    assert result.exit_code == 0
    task_id = result.stdout.strip()
    task = document(ganger("status", task_id, "--json"))
    assert task["id"] == task_id
    assert task["payload"] == {"a": 1}
    assert (task["task_type"], task["status"]) == ("echo", "QUEUED")
    assert (task["priority"], task["queue"]) == ("NORMAL", "default")
    assert {"name", "attempts", "result", "error", "created_at", "cpu_s", "peak_rss_bytes", "wall_s"} <= set(task)


def test_every_option_of_submit_reaches_the_task(ganger):
    task = document(ganger(
        "submit", "echo", "--name", "cover", "--queue", "images", "--priority", "urgent", "--delay", "60", "--expires",
        "90", "--timeout", "30", "--soft-timeout", "20", "--max-retries", "5", "--tag", "a", "--tag", "b", "--fair-key",
        "k", "--max-deliveries", "1", "--result-ttl", "60", "--idempotency-key", "once", "--json"))
    assert (task["name"], task["queue"], task["priority"], task["status"]) == ("cover", "images", "URGENT", "PENDING")
    assert task["tags"] == ["a", "b"]
    assert task["due_at"] < task["expires_at"]
    again = ganger("submit", "echo", "--idempotency-key", "once")
    assert again.stdout.strip() == task["id"]


def test_the_payload_can_come_from_a_file_or_from_standard_input(ganger):
    Path("payload.json").write_text('["from a file"]')
    first = document(ganger("submit", "echo", "--payload", "@payload.json", "--json"))
    second = document(ganger("submit", "echo", "--payload", "-", "--json", input='["from stdin"]'))
    assert (first["payload"], second["payload"]) == (["from a file"], ["from stdin"])


def test_common_options_may_stand_before_the_command_too(ganger):
    task_id = ganger("--queue-prefix", "elsewhere", "submit", "echo").stdout.strip()
    assert document(ganger("--queue-prefix", "elsewhere", "--json", "status", task_id))["id"] == task_id
    assert ganger("status", task_id).exit_code == Exit.FAILED
    assert document(ganger("--json", "queues", "--queue-prefix", "elsewhere"))[0]["queue"] == "default"


def test_a_result_that_is_not_there_yet_is_waited_for_and_then_says_so(ganger):
    task_id = ganger("submit", "echo").stdout.strip()
    result = ganger("result", task_id)
    assert result.exit_code == Exit.WAITED
    assert "still QUEUED" in one_line(result)
    assert ganger("submit", "echo", "--wait-timeout", "0.05").exit_code == Exit.WAITED


def test_cancel_retry_and_priority_of_a_task_that_waits(ganger):
    task_id = ganger("submit", "echo").stdout.strip()
    assert ganger("priority", task_id, "urgent").stdout == f"{task_id} is URGENT\n"
    cancelled = document(ganger("cancel", task_id, "--reason", "no need", "--json"))
    assert cancelled == [{"id": task_id, "status": "CANCELLED"}]
    refused = ganger("cancel", task_id)
    assert refused.exit_code == Exit.FAILED
    assert "CANCELLED" in one_line(refused)
    ended = ganger("result", task_id)
    assert ended.exit_code == Exit.FAILED
    assert "no need" in one_line(ended)
    assert document(ganger("result", task_id, "--json"))["cause"] == "cancelled"
    assert document(ganger("retry", "--status", "CANCELLED", "--json")) == [{"id": task_id, "status": "QUEUED"}]
    assert document(ganger("status", task_id, "--json"))["priority"] == "URGENT"


def test_status_of_several_is_a_list(ganger):
    ids = [ganger("submit", "echo", "--name", name).stdout.strip() for name in ("one", "two")]
    assert [task["id"] for task in document(ganger("status", *ids, "--json"))] == ids
    text = ganger("status", *ids).stdout
    assert "one" in text
    assert "two" in text


def test_tasks_are_listed_as_a_table_that_is_not_cut_off_in_a_pipe(ganger):
    name = "n" * 150
    task_id = ganger("submit", "echo", "--name", name, "--priority", "high").stdout.strip()
    ganger("submit", "other")
    text = ganger("tasks", "--type", "echo").stdout
    assert task_id in text
    assert name in text
    assert "other" not in text
    assert [task["id"] for task in document(ganger("tasks", "--priority", "high", "--json"))] == [task_id]
    assert document(ganger("tasks", "--name", "nobody", "--json")) == []
    assert "no task matches" in ganger("tasks", "--name", "nobody").stderr


# -- queues --------------------------------------------------------------------------------------------------------


def test_queues_are_listed_paused_resumed_and_purged(ganger):
    for priority in ("low", "high", "high"):
        ganger("submit", "echo", "--queue", "images", "--priority", priority)
    for command in (["queues"], ["queues", "list"]):
        assert document(ganger(*command, "--json"))[0]["queued"] == {"URGENT": 0, "HIGH": 2, "NORMAL": 0, "LOW": 1}
    assert document(ganger("queues", "pause", "images", "--json")) == {"queue": "images", "paused": True}
    assert "paused" in ganger("queues").stdout
    assert ganger("queues", "resume", "images").stdout == "images is open\n"
    assert document(ganger("queues", "purge", "images", "--yes", "--json")) == {"queue": "images", "purged": 3}
    assert document(ganger("tasks", "--status", "CANCELLED", "--json"))


def test_purging_asks_first(ganger):
    ganger("submit", "echo", "--queue", "images")
    assert ganger("queues", "purge", "images", input="n\n").exit_code == Exit.USAGE
    asked = ganger("queues", "purge", "images", input="y\n")
    assert "Cancel the 1 tasks that wait in images?" in asked.stderr
    assert asked.stdout.endswith("1 tasks of images cancelled\n")


# -- the engine, without one ---------------------------------------------------------------------------------------


def test_without_a_pool_the_views_say_so(ganger):
    assert document(ganger("workers", "--json")) == []
    assert document(ganger("tree", "--json")) == []
    assert "no pool is running" in ganger("workers").stderr
    assert "no engine is running" in ganger("tree").stderr
    ganger("submit", "echo", "--priority", "urgent")
    seen = document(ganger("top", "--json"))
    assert seen["queues"][0]["queued"]["URGENT"] == 1
    assert seen["counters"]["submitted"] == 1
    assert seen["statuses"]["QUEUED"] == 1
    assert "submitted 1" in ganger("top", "--once").stdout


# -- settings ------------------------------------------------------------------------------------------------------


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


def test_the_doctor_does_not_wait_for_ever_for_handlers(ganger):
    Path("my_tasks.py").write_text("import threading; threading.Event().wait()")
    result = ganger("doctor", "--handlers", "my_tasks", "--set", "boot_timeout_s=1", "--json")
    assert "longer than 1 s" in findings(result)["handlers"]["detail"]


def test_the_doctor_sees_what_is_wrong_with_a_redis(ganger, tmp_path):
    """A Redis that evicts, keeps nothing and is nearly full."""
    path = tmp_path / "r.sock"
    server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--maxmemory",
                               "1100kb", "--maxmemory-policy", "allkeys-lru"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        assert any("ready to accept connections" in line for line in iter(server.stdout.readline, ""))
        result = ganger("doctor", "--redis-url", f"unix://{path}", "--json")
        found = findings(result)
        assert result.exit_code == Exit.FAILED
        assert found["eviction"]["state"] == "fail"
        assert "noeviction" in found["eviction"]["remedy"]
        assert found["persistence"]["state"] == "warn"
        assert "loses every task" in found["persistence"]["detail"]
        text = ganger("doctor", "--redis-url", f"unix://{path}").stdout
        assert "remedy: redis-cli CONFIG SET maxmemory-policy noeviction" in text
    finally:
        server.kill()
        server.communicate()


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
