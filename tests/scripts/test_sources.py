"""The scripts as text: what is put together for Redis, and the rules that each file keeps."""

import re
from pathlib import Path

import pytest

from engine.adapters.redis.wire import scripts
from engine.adapters.redis.wire.keys import Keys
from engine.adapters.redis.wire.layouts import LAYOUTS, Layout
from engine.ports.supervisor_broker import Settlement
from tests.scripts.broker_rig import BrokerRig

LUA = Path(__file__).parents[2] / "engine/adapters/redis/lua"
FILES = {path.stem: path for path in LUA.glob("*/*.lua")}
WRITE_LINE = "-" * 67 + " write"
WRITES = re.compile(r"'(?:H?SET|H?SETNX|[SZX]ADD|H?DEL|UNLINK|[SZ]REM|HINCRBY|[LR]PUSH|LTRIM|PUBLISH|P?EXPIRE|RENAME|"
                    r"ZPOPMIN|ZREMRANGEBYRANK)'")
READ_ONLY = {"get_tasks", "get_lane_waits"}


@pytest.mark.parametrize("verb", scripts.verbs())
def test_redis_understands_it(rig: BrokerRig, verb: str) -> None:
    assert rig.client.script_load(scripts.source(verb)) == scripts.sha(verb)


@pytest.mark.parametrize("verb", scripts.verbs())
def test_nothing_is_written_above_the_line(verb: str) -> None:
    text = FILES[verb].read_text(encoding="utf-8")
    above, line, _ = text.partition(WRITE_LINE)
    assert bool(line) is (verb not in READ_ONLY)
    statements = re.sub(r"^local function .*?^end$", "", above, flags=re.MULTILINE | re.DOTALL)
    statements = re.sub(r"^local \w+ = \{$.*?^\}$", "", statements, flags=re.MULTILINE | re.DOTALL)
    assert not WRITES.search(statements)


def test_each_script_has_its_layout() -> None:
    assert set(scripts.verbs()) == set(LAYOUTS)


def test_every_key_that_keys_must_name_is_there() -> None:
    keys, elsewhere = Keys(), {"ended", "lane", "cursors", "new_lane", "new_cursors", "processes", "history", "lock"}
    for layout in LAYOUTS.values():
        for name in set(layout.key_names.single) - elsewhere:
            assert keys.named(name, "sup").startswith(keys.base)


def test_a_settlement_is_sent_as_the_script_reads_it() -> None:
    assert LAYOUTS["step"].arg_names.groups["settlements"] == Settlement._fields


@pytest.mark.parametrize("path", [*FILES.values()], ids=lambda path: path.stem)
def test_lists_are_sent_in_chunks_and_states_move_in_one_place(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name != "commands.lua":
        assert "unpack(" not in text, "Lua's unpack ends at some 8,000 values: see call_many"
    if path.name != "state.lua":
        assert not re.search(r"'H(?:SET|DEL|SETNX)', KEYS\.states\b", text), "see move_task"
    assert not re.search(r"(?:KEYS|ARGV)\[", text), "keys and arguments have names"


def test_the_step_is_a_recipe() -> None:
    assert len(FILES["step"].read_text(encoding="utf-8").splitlines()) < 80


def test_a_name_that_a_script_does_not_have_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LAYOUTS, "lead", Layout("other", "name until_ms now_ms"))
    with pytest.raises(ValueError, match=r"lead.lua: KEYS has no lock"):
        scripts.source.__wrapped__("lead")  # past the cache


def test_arguments_go_by_name() -> None:
    layout = LAYOUTS["lead"]
    assert layout.args(now_ms=3, name="one", until_ms=2) == ["one", 2, 3]
    with pytest.raises(TypeError, match="the arguments are name, until_ms, now_ms"):
        layout.args(name="one")
    with pytest.raises(KeyError):
        layout.args(name="one", until_ms=2, later_ms=3)
    assert LAYOUTS["requeue"].rows("tasks", [
        {"fair_key": "f", "id": "1", "lane": 2, "state": b"s", "is_stored": 1}]) == ["1", b"s", 1, 2, "f"]
