"""The `ganger` command: its help, its errors and exit codes, and what it loads."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from printed import document, one_line

from engine.cli.commands.submit import submit
from engine.cli.exit_codes import Exit
from engine.cli.registry import SUMMARIES
from engine.tasks.options import SubmitOptions

ROOT = Path(__file__).parents[3]
BELOW = {"keys": ("create", "open"), "workers": ("history", "level"), "queues": ("purge",),
         "config": ("show",)}
NOBODY = "01H5RC2K8D7QZ3V0M4T"  # an id that no task has


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


def test_every_option_of_a_submit_can_be_given_on_the_command_line():
    known = set(inspect.signature(submit).parameters)
    assert SubmitOptions.__annotations__.keys() <= known


CALLS = re.compile(r"(?:^ +|`)ganger ([a-z][a-z-]*(?: [a-z]+)?)", re.MULTILINE)
COMMANDS = sorted({words for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
                   for words in CALLS.findall(path.read_text())})
ROWS = re.compile(r"`ganger ([a-z][^`]*)`[^\n]*")
OPTIONS = sorted({(row[1].split()[0], flag) for row in ROWS.finditer((ROOT / "docs" / "cli.md").read_text())
                  for flag in re.findall(r"--[a-z][a-z-]+", row[0])} - {("COMMAND", "--help")})


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_in_the_documentation_exists(ganger, words):
    name, _, below = words.partition(" ")
    assert name in SUMMARIES, words
    if name in ("config", "keys", "queues", "workers") and below:
        assert ganger(name, below, "--help").exit_code == Exit.OK


@pytest.mark.parametrize(("command", "flag"), OPTIONS)
def test_every_option_in_the_table_of_commands_exists(ganger, command, flag):
    names = [command, *(f"{command} {below}" for below in BELOW.get(command, ()))]
    assert any(flag in ganger(*name.split(), "--help").stdout for name in names)


def test_without_arguments_it_says_what_it_can_do(ganger):
    assert "Commands:" in ganger().output


def test_an_unknown_command_names_the_nearest(ganger):
    result = ganger("statu")
    assert result.exit_code == Exit.USAGE
    assert "did you mean 'status'?" in result.stderr


@pytest.mark.parametrize(("arguments", "unwanted"), [
    (["--help"], {"pydantic", "redis", "rich", "psutil", "asyncio", "tomllib", "engine.config", "engine.services"}),
    (["submit", "--help"], {"redis", "rich", "psutil", "engine.services"}),
    (["status", NOBODY], {"rich", "engine.services", "engine.adapters.kernel.probe", "fastapi", "uvicorn"}),
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
    line = one_line(result)
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


def test_help_calls_arguments_by_their_names_alone(ganger):
    for command in ("status", "cancel", "queues pause"):
        assert "<" not in ganger(*command.split(), "--help").stdout
