"""What is written to Redis can be read again, and nothing else is taken for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.task import task_id
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from engine.core.task.record import Record
from engine.core.task.state import StoredState

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)


@given(names, names, st.sampled_from(TaskPriority), st.integers(0, 2**45 - 1), st.binary(max_size=50),
       st.fixed_dictionaries({}, optional={"timeout": st.floats(0, 1e6), "tags": st.lists(names), "name": names}))
def test_a_record_survives_storing(task_type: str, queue: str, priority: TaskPriority, created_ms: int,
                                   payload: bytes, options: dict) -> None:
    record = Record(task_type, queue, priority, created_ms, payload, options)
    assert Record.decode(record.encode(), next(task_id.task_ids(created_ms, 0))) == record


@pytest.mark.parametrize("stored", [
    b"", b"{}", b"[]\n", b"null\n{}", b'["a","b"]\n', b'["a","b",1,{},3]\n', b'[1,"b",1]\n', b'["a",2,1]\n',
    b'["a","b",9]\n', b'["a","b","x"]\n', b'["a","b",1,[]]\n', b"\xff\n", b"no newline",
])
def test_a_corrupted_record_is_refused(stored: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  several, by design: one kind of error for all of them
        Record.decode(stored, "0" * task_id.LENGTH)


@pytest.mark.parametrize(("options", "why"), [
    ('{"name":7}', "name is 7"), ('{"tags":"a"}', "tags is 'a'"), ('{"tags":[1]}', "tags"),
    ('{"due_ms":"x"}', "due_ms"), ('{"due_ms":1e300}', "due_ms"), ('{"expires_ms":-1}', "expires_ms"),
    ('{"expires_ms":100000000000000}', "expires_ms"), ('{"max_retries":1.5}', "max_retries"),
    ('{"timeout":true}', "timeout"), ('{"webhook":[]}', "webhook"), ('{"fair_key":{}}', "fair_key"),
    ("[]", "its options are"), ("null", "its options are"), ('"x"', "its options are"),
])
def test_options_that_no_client_would_have_written_are_refused(options: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Record.decode(f'["a","b",1,{options}]\n{{}}'.encode(), "0" * task_id.LENGTH)


def test_options_of_a_later_version_are_left_alone() -> None:
    record = Record.decode(b'["a","b",1,{"name":null,"flavour":[1]}]\n{}', "0" * task_id.LENGTH)
    assert record.options == {"name": None, "flavour": [1]}


def test_a_record_under_what_is_no_id_is_refused() -> None:
    with pytest.raises(ValueError, match="an id that is none"):
        Record.decode(b'["a","b",1]\n{}', "u" * task_id.LENGTH)


@given(st.sampled_from(TaskStatus), *[st.integers(0, 10**9 - 1)] * 3, st.sampled_from(TaskPriority),
       *[st.integers(0, 10**14 - 1)] * 2, st.from_regex(r"[A-Za-z0-9.\-]{1,30}", fullmatch=True))
def test_a_stored_state_is_read_as_written(status: TaskStatus, run: int, attempts: int, crashes: int,
                                        priority: TaskPriority, rank: int, at_ms: int, owner: str) -> None:
    line = f"{status} {run} {attempts} {crashes} {int(priority)} {rank} {at_ms} {owner}".encode()
    assert StoredState.parse(line) == StoredState(status, run, attempts, crashes, priority, rank, at_ms, owner)


@pytest.mark.parametrize("line", [b"", b"RUNNING", b"NOWHERE 1 0 0 1 5 6 -", b"QUEUED x 0 0 1 5 6 -",
                                  b"QUEUED 1 0 0 7 5 6 -", b"\xff 1 0 0 1 5 6 -",
                                  b"QUEUED 1000000000 0 0 1 5 6 -", b"QUEUED 1 0 0 1 100000000000000 6 -"])
def test_a_corrupted_state_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a stored state"):
        StoredState.parse(line)


@given(st.integers(0, 2**45 - 2), st.integers(0, 2**45 - 1), st.integers(0, task_id.SHARDS_MAX - 1))
def test_ids_sort_as_they_were_made_and_say_when_and_where(now_ms: int, chance: int, shard: int) -> None:
    ids = task_id.task_ids(now_ms, chance, shard)
    alone = task_id.task_id(now_ms, chance, shard)
    assert alone == next(task_id.task_ids(now_ms, chance, shard))
    made = [next(ids) for _ in range(5)]
    assert made == sorted(set(made))
    assert task_id.created_ms(made[0]) == now_ms
    assert all(task_id.is_task_id(one) and task_id.shard(one) == shard for one in made)


def test_ids_run_over_into_the_next_millisecond() -> None:
    ids = task_id.task_ids(7, 2**45 - 1)
    assert [task_id.created_ms(next(ids)) for _ in range(2)] == [7, 8]


@pytest.mark.parametrize("text", ["", "0" * 18, "0" * 20, "0" * 18 + "U", "0" * 18 + "a", "../" + "0" * 16])
def test_what_is_no_id(text: str) -> None:
    assert not task_id.is_task_id(text)


@pytest.mark.parametrize(("written", "meant"), [
    ("urgent", TaskPriority.URGENT), (" High ", TaskPriority.HIGH), (0, TaskPriority.LOW),
    (TaskPriority.NORMAL, TaskPriority.NORMAL)])
def test_priorities_as_users_write_them(written: object, meant: TaskPriority) -> None:
    assert TaskPriority.parse(written) is meant  # type: ignore[arg-type]


@pytest.mark.parametrize("written", ["", "higher", 4, -1, 1.5, True, None, []])
def test_what_is_no_priority_names_the_four(written: object) -> None:
    with pytest.raises(ValueError, match="LOW, NORMAL, HIGH, URGENT"):
        TaskPriority.parse(written)  # type: ignore[arg-type]
