"""Limits of a run: which one is passed, when to look again, and what holds after a crash."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.adapters.process.pool.forensics import OutputTail
from engine.core.pool.ending import Ending
from engine.core.pool.slot import Run
from engine.core.task.lifecycle import Move
from engine.core.task.limits import (
    GROWTH_BYTES_PER_S_MAX,
    MIB,
    SAMPLE_S_MAX,
    SAMPLE_S_MIN,
    Limits,
    Usage,
    exceeded_limit,
    needs_exact_memory,
    next_sample_s,
)
from engine.core.task.outcome import Cause, Outcome
from engine.core.task.policy import RunPolicy
from engine.core.task.retry import ChargedTo, RetryPolicy


def usage(memory: int = 0, cpu_s: float = 0.0, processes: int = 1, least: int | None = None) -> Usage:
    return Usage(memory, memory if least is None else least, cpu_s, processes)


@pytest.mark.parametrize(("limits", "used", "cause", "words"), [
    (Limits(memory_bytes=512 * MIB), usage(531 * MIB, processes=3), Cause.OUT_OF_MEMORY,
     "it uses 531.0 MiB in 3 processes, over its max_memory of 512.0 MiB"),
    (Limits(memory_bytes=MIB), usage(2 * MIB), Cause.OUT_OF_MEMORY,
     "it uses 2.0 MiB in 1 process, over its max_memory of 1.0 MiB"),
    (Limits(cpu_s=1.5), usage(cpu_s=1.52), Cause.CPU_TIME,
     "it has used 1.52 CPU seconds, over its max_cpu_seconds of 1.5"),
    (Limits(processes=4), usage(processes=5), Cause.PROCESSES, "it has 5 processes, over its max_processes of 4"),
])
def test_a_limit_that_is_passed_is_told_with_its_figures(limits: Limits, used: Usage, cause: Cause, words: str) -> None:
    found = exceeded_limit(limits, used)
    assert found is not None
    assert (found.cause, found.message) == (cause, words)


def test_what_is_used_up_to_the_limit_is_allowed() -> None:
    assert exceeded_limit(Limits(100, 2.0, 3), usage(100, 2.0, 3)) is None
    assert exceeded_limit(Limits(nice=3), usage(1 << 60, 1e9, 9999)) is None


def test_memory_that_may_be_shared_is_a_doubt_and_no_breach() -> None:
    limits = Limits(memory_bytes=100)
    assert exceeded_limit(limits, usage(150, least=100)) is None
    assert needs_exact_memory(limits, usage(150, least=100))
    assert not needs_exact_memory(limits, usage(100))
    assert not needs_exact_memory(limits, usage(150, least=101))
    assert not needs_exact_memory(Limits(cpu_s=1), usage(150, least=10))


@given(limit=st.integers(MIB, 64 << 30), start=st.integers(0, 64 << 30),
       pace=st.integers(1 << 20, GROWTH_BYTES_PER_S_MAX))
def test_no_growth_is_seen_later_than_the_shortest_look(limit: int, start: int, pace: int) -> None:
    """A simulated run that grows steadily: it is found over its limit at most one shortest look after passing it."""
    limits, now_s, size = Limits(memory_bytes=limit), 0.0, min(start, limit)
    for _ in range(500):
        wait_s = next_sample_s(limits, usage(int(size)), cores=2)
        assert SAMPLE_S_MIN <= wait_s <= SAMPLE_S_MAX
        now_s, size = now_s + wait_s, size + wait_s * pace
        if size > limit:
            assert (size - limit) / pace <= SAMPLE_S_MIN + 1e-6
            return


def test_the_next_look_comes_before_any_limit_can_be_passed() -> None:
    assert next_sample_s(Limits(cpu_s=10), usage(cpu_s=9.8), cores=2) == pytest.approx(0.1)
    assert next_sample_s(Limits(cpu_s=10), usage(cpu_s=1), cores=2) == SAMPLE_S_MAX
    assert next_sample_s(Limits(cpu_s=10), usage(cpu_s=11), cores=2) == SAMPLE_S_MIN
    assert next_sample_s(Limits(processes=10), usage(), cores=2) == 0.025


def test_each_crash_climbs_the_ladder_until_its_end() -> None:
    limits = Limits(memory_bytes=1, nice=2, retry_memory_bytes=(2, 4))
    assert [limits.after_crashes(crashes).memory_bytes for crashes in range(5)] == [1, 2, 4, 4, 4]
    assert limits.after_crashes(1).nice == 2
    assert Limits(memory_bytes=1).after_crashes(3) == Limits(memory_bytes=1)


def test_a_handler_a_task_and_the_settings_each_have_their_say() -> None:
    default = RunPolicy(limits=Limits(memory_bytes=100, nice=3))
    assert default.with_handler({"max_cpu_seconds": 5.0}).limits == Limits(100, 5.0, 0, 3)
    assert default.with_options({"max_memory": 7, "max_processes": 2}).limits == Limits(7, 0.0, 2, 3)
    assert default.with_options({"max_memory": 0, "nice": 0}).limits is None
    assert RunPolicy().with_handler({"timeout": 5}).limits is None


def test_more_memory_than_the_ladder_offers_is_not_taken_away_by_it() -> None:
    policy = RunPolicy().with_handler({"max_memory": 10, "retry_with_memory": [20, 40]})
    assert policy.after_crashes(1).limits == Limits(20, retry_memory_bytes=(20, 40))
    asked = policy.with_options({"max_memory": 30})
    assert asked.limits == Limits(30, retry_memory_bytes=(40,))
    assert asked.after_crashes(2).limits == Limits(40, retry_memory_bytes=(40,))
    assert policy.with_options({"max_memory": 0}).limits is None
    assert RunPolicy().after_crashes(2) == RunPolicy()
    assert policy.after_crashes(0) is policy


def ended(kill_cause: Cause, *, crashes: int = 0, max_crashes: int = 2,
          cancelled: str | None = None) -> tuple[Move, ChargedTo, Outcome]:
    ending = Ending([], lambda: 0.0)
    policy = RunPolicy(retry=RetryPolicy(max_retries=0, max_crashes=max_crashes))
    run = Run(b"a", 1, 0, crashes, "t", "q", policy, b"", 1, cancelled=cancelled)
    ending.runs[b"a"] = run
    ending.killed(run, kill_cause, Outcome.killed(1, "SIGKILL", post_mortem={"stacks": "x"}), "it uses too much")
    settle = ending.actions[0]
    return settle.verdict.move, settle.verdict.charged_to, settle.outcome  # type: ignore[union-attr,return-value]


@pytest.mark.parametrize(("kill_cause", "move", "charged_to", "kind"), [
    (Cause.OUT_OF_MEMORY, Move.RETRY, ChargedTo.CRASH, "OutOfMemory"),
    (Cause.CPU_TIME, Move.TIME_OUT, ChargedTo.ATTEMPT, "CpuTimeExceeded"),
    (Cause.PROCESSES, Move.FAIL, ChargedTo.ATTEMPT, "TooManyProcesses"),
])
def test_causes_decide_who_pays(kill_cause: Cause, move: Move, charged_to: ChargedTo, kind: str) -> None:
    assert ended(kill_cause)[:2] == (move, charged_to)
    outcome = ended(kill_cause)[2]
    assert (outcome.cause, outcome.kind, outcome.message) == (kill_cause, kind, "it uses too much")
    assert outcome.post_mortem == {"stacks": "x"}
    assert not outcome.quarantined


def test_a_task_that_has_cost_its_last_worker_is_quarantined() -> None:
    move, charged_to, outcome = ended(Cause.OUT_OF_MEMORY, crashes=1)
    assert (move, charged_to) == (Move.FAIL, ChargedTo.CRASH)
    assert outcome.quarantined
    assert outcome.message == "it uses too much; quarantined, as it has cost 2 workers"
    assert b'"quarantined":true' in outcome.encode()


def test_a_task_that_may_cost_one_worker_is_said_to_have_cost_one() -> None:
    outcome = ended(Cause.OUT_OF_MEMORY, max_crashes=1)[2]
    assert outcome.message == "it uses too much; quarantined, as it has cost a worker"


def test_a_run_that_was_to_be_cancelled_is_cancelled_whatever_it_uses() -> None:
    assert ended(Cause.OUT_OF_MEMORY, cancelled="no longer wanted")[0] is Move.CANCEL


def test_the_last_words_are_those_of_the_run_that_ended() -> None:
    tail = OutputTail()
    tail.logged(1, b'{"text":"another run\'s\\n"}')
    tail.spilled("another's too")
    tail.new_run()
    tail.logged(2, b'{"text":"one\\n"}')
    tail.spilled("two\n")
    tail.spilled("")
    tail.logged(2, b"not JSON")
    assert tail.of(2) == "one\ntwo\nb'not JSON'"
    assert tail.of(3) == "two"
    assert OutputTail().of(2) == ""


def test_the_last_progress_is_that_of_the_run_that_ended() -> None:
    tail = OutputTail()
    assert tail.progress_of(1) is None
    tail.progressed(1, b"{}")
    tail.progressed(2, b'{"fraction":0.5}')
    assert (tail.progress_of(1), tail.progress_of(2)) == (None, b'{"fraction":0.5}')


def test_the_kernel_s_oom_killer_is_named() -> None:
    outcome = Outcome.out_of_memory(3, "its cgroup's counter rose")
    assert (outcome.cause, outcome.run, outcome.kind) == (Cause.OUT_OF_MEMORY, 3, "OutOfMemory")
    assert "OOM killer (its cgroup's counter rose)" in outcome.message
