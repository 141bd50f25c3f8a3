"""The supervisor's one call: what it settles, what it refuses, and in which order it claims."""

from typing import Any

import orjson
import pytest

from engine.core.task.lifecycle import Move, TaskStatus
from engine.core.task.priority import DESCENDING, TaskPriority
from tests.scripts.broker_rig import HOUR_MS, BrokerRig, messages

LOW, NORMAL, HIGH, URGENT = TaskPriority
ENDS = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
SLICE = 16


class Supervisor:
    """Calls `step` as a pool does. `clock_ms` is what it says the time is."""

    def __init__(self, rig: BrokerRig, name: str = "sup", *queues: str, ageing_ms: int = 0,
                 types: tuple[str, ...] = ("t",)) -> None:
        self.rig, self.name, self.ageing_ms = rig, name, ageing_ms
        self.serves = f",{','.join(queues)}," if queues else "*"
        self.clock_ms = rig.now_ms
        self.learn(*types)
        self.heard = b""  # the last command that a step brought

    def learn(self, *types: str) -> None:
        """Say which types it knows."""
        self.rig.call("register", *(part for one in types for part in (one, f'{{"name":"{one}"}}')),
                       supervisor=self.name, now_ms=self.clock_ms, ttl_ms=HOUR_MS)

    def step(self, settlements: list[tuple[Any, ...]] | None = None, want: int = 0, report: bytes = b"",
             serves: str = "", idle: int | str = 0, held: int = 1000, preempts: str = "",
             ) -> tuple[list[Any], list[tuple[str, str]], list[bytes], int, int]:
        refused, claimed, *rest = self.rig.call(
            "step", *(part for one in settlements or [] for part in one), supervisor=self.name, now_ms=self.clock_ms,
            lease_end_ms=self.clock_ms + 15_000, want=want, ageing_ms=self.ageing_ms, serves=serves or self.serves,
            expired_remove_ms=self.clock_ms + HOUR_MS, report=report, idle_workers=idle, known_runs=held,
            preempts=preempts, last_command=self.heard, slice=SLICE)
        self.heard = rest[0][-1] if rest[0] else b""
        words = [one.decode() if isinstance(one, bytes) else one for one in refused]
        pairs = list(zip([one.decode() for one in claimed[::3]], [one.decode() for one in claimed[2::3]], strict=True))
        return words, pairs, *rest

    def claim(self, count: int) -> list[str]:
        return [task_id for task_id, _ in self.step(want=count)[1]]

    def end(self, task_id: str, verdict: str, run: int = 1, at: object = None,
            outcome: bytes = b'{"run":1}') -> list[Any]:
        when = self.clock_ms + HOUR_MS if at is None else at
        return self.step([(task_id, run, verdict, when, outcome)])[0]


@pytest.fixture
def supervisor(rig: BrokerRig) -> Supervisor:
    return Supervisor(rig)


# -- settling -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verdict", "status", "attempts", "crashes"), [
    ("complete nobody", TaskStatus.COMPLETED, 0, 0), ("fail attempt", TaskStatus.FAILED, 1, 0),
    ("fail crash", TaskStatus.FAILED, 0, 1), ("time_out attempt", TaskStatus.TIMEOUT, 1, 0),
    ("cancel nobody", TaskStatus.CANCELLED, 0, 0)])
def test_an_end_is_kept_with_its_outcome_and_counted(rig: BrokerRig, supervisor: Supervisor, verdict: str,
                                                     status: TaskStatus, attempts: int, crashes: int) -> None:
    task_id = rig.submit()
    assert supervisor.claim(1) == [task_id]
    removal_ms = supervisor.clock_ms + 5000
    assert supervisor.end(task_id, verdict, at=removal_ms) == []
    state = rig.state(task_id)
    assert (state.status, state.run, state.attempts, state.crashes, state.owner) == (status, 1, attempts, crashes, "-")
    keys, state = rig.keys, rig.dump()
    assert state[keys.outcomes] == {f"{task_id}:1".encode(): b'{"run":1}'}
    assert state[keys.ended(status)] == [(task_id.encode(), removal_ms)]
    assert keys.running("sup") not in state
    assert state[keys.counters][status.encode()] == b"1"
    assert state[keys.events][-1] == {b"e": f"{task_id} {status} 1".encode()}


def test_a_retry_is_due_later_and_the_keeper_hears_of_it(rig: BrokerRig, supervisor: Supervisor) -> None:
    task_id = rig.submit()
    supervisor.claim(1)
    with rig.hearing(rig.keys.keeper_wakeup) as heard:
        assert supervisor.end(task_id, "retry attempt", at=supervisor.clock_ms + 700) == []
        assert messages(heard, 1) == [b"%d" % (supervisor.clock_ms + 700)]
    assert rig.state(task_id).status is TaskStatus.RETRYING
    assert rig.dump()[rig.keys.due] == [(task_id.encode(), supervisor.clock_ms + 700)]


def test_a_release_goes_back_to_its_place_and_its_next_run_has_a_higher_number(rig: BrokerRig,
                                                                               supervisor: Supervisor) -> None:
    first, second = rig.submit(), rig.submit()
    assert supervisor.claim(1) == [first]
    assert supervisor.end(first, "release nobody", at="q", outcome=b"") == []
    assert supervisor.step(want=2)[1] == [(first, "2 0 0 1"), (second, "1 0 0")]
    assert rig.keys.outcomes not in rig.dump()


def test_a_release_wakes_another_supervisor(rig: BrokerRig, supervisor: Supervisor) -> None:
    task_id, other = rig.submit(), Supervisor(rig, "other")
    supervisor.claim(1)
    other.step(want=1, serves=",q,")
    with rig.hearing(rig.keys.wakeup("other")) as heard:
        supervisor.end(task_id, "release nobody", at="q", outcome=b"")
        assert messages(heard, 1) == [b"q"]
    assert b"other" not in rig.dump().get(rig.keys.idle_supervisors, {})


def test_clients_that_wait_are_told_once(rig: BrokerRig, supervisor: Supervisor) -> None:
    ids = [rig.submit() for _ in range(3)]
    supervisor.claim(3)
    for task_id in ids[:2]:
        rig.client.hset(rig.keys.waiters, task_id, ",me")
    with rig.hearing(rig.keys.done("me")) as heard:
        supervisor.step([(one, 1, "complete nobody", supervisor.clock_ms, b"{}") for one in ids])
        assert messages(heard, 1) == [",".join(ids[:2]).encode()]
    assert rig.keys.waiters not in rig.dump()


REFUSALS = {  # case -> word, run, verdict, at
    "run": ("STALE", 2, "complete nobody", 1), "low run": ("STALE", 0, "complete nobody", 1),
    "other verdict": ("STALE", 7, "fail attempt", 1), "move": ("ILLEGAL", 1, "promote nobody", 1),
    "word": ("ILLEGAL", 1, "nonsense", 1), "queue": ("ILLEGAL", 1, "release nobody", "no/queue"),
    "due": ("ILLEGAL", 1, "retry attempt", "soon"), "removal": ("ILLEGAL", 1, "fail attempt", ""),
    "removal of a completed one": ("ILLEGAL", 1, "complete nobody", "never"),
    "endless": ("ILLEGAL", 1, "complete nobody", "inf"), "before all time": ("ILLEGAL", 1, "retry crash", -1),
}


@pytest.mark.parametrize(("word", "run", "verdict", "at"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_settlement_that_does_not_fit_changes_nothing(rig: BrokerRig, supervisor: Supervisor, word: str, run: int,
                                                        verdict: str, at: object) -> None:
    task_id = rig.submit()
    supervisor.claim(1)
    assert rig.unchanged(lambda: supervisor.end(task_id, verdict, run, at=at)) == [1, word]


@pytest.mark.parametrize("clock_ms", [999_999_999_999, 10_000_000_000_000], ids=["in 2001", "in 2286"])
def test_a_run_is_settled_whatever_the_clock_said_when_it_was_claimed(rig: BrokerRig, supervisor: Supervisor,
                                                                      clock_ms: int) -> None:
    """A stored state whose moment has a digit more or less is not cut in the wrong place."""
    today_ms, task_id = supervisor.clock_ms, rig.submit()
    supervisor.clock_ms = clock_ms
    assert supervisor.claim(1) == [task_id]
    supervisor.clock_ms = today_ms
    assert supervisor.end(task_id, "complete nobody") == []
    state = rig.state(task_id)
    assert (state.status, state.rank, state.owner) == (TaskStatus.COMPLETED, 1, "-")


def test_a_second_step_that_asks_for_nothing_leaves_what_the_first_said_of_its_sleep(rig: BrokerRig,
                                                                                     supervisor: Supervisor) -> None:
    supervisor.step(want=4, idle=4)
    noted = rig.dump()[rig.keys.idle_supervisors]
    supervisor.step(want=0, idle="")
    assert rig.dump()[rig.keys.idle_supervisors] == noted
    supervisor.step(want=0)
    assert rig.keys.idle_supervisors not in rig.dump(), "it wants nothing: nobody is to ring for it"


def test_nobody_settles_the_run_of_another(rig: BrokerRig, supervisor: Supervisor) -> None:
    task_id, thief = rig.submit(), Supervisor(rig, "thief")
    supervisor.claim(1)
    thief.step()
    assert rig.unchanged(lambda: thief.end(task_id, "complete nobody")) == [1, "STALE"]
    assert rig.unchanged(lambda: thief.end(task_id, "fail attempt")) == [1, "STALE"]


def test_a_settlement_may_be_sent_again(rig: BrokerRig, supervisor: Supervisor) -> None:
    task_id = rig.submit()
    supervisor.claim(1)
    supervisor.end(task_id, "complete nobody")
    assert rig.unchanged(lambda: supervisor.end(task_id, "complete nobody")) == [1, "ALREADY"]
    assert rig.unchanged(lambda: supervisor.end(task_id, "fail attempt")) == [1, "STALE"]


def test_a_task_that_is_gone_is_gone(rig: BrokerRig, supervisor: Supervisor) -> None:
    supervisor.step()
    assert rig.unchanged(lambda: supervisor.end("0" * 19, "complete nobody")) == [1, "GONE"]


def test_good_settlements_pass_beside_bad_ones(rig: BrokerRig, supervisor: Supervisor) -> None:
    good, bad = rig.submit(), rig.submit()
    supervisor.claim(2)
    words = supervisor.step([(bad, 5, "complete nobody", 1, b"{}"), (good, 1, "complete nobody", 1, b"{}"),
                             (good, 1, "complete nobody", 1, b"{}")])[0]
    assert words == [1, "STALE", 3, "STALE"]
    assert rig.state(good).status is TaskStatus.COMPLETED
    assert rig.state(bad).status is TaskStatus.RUNNING


# -- mail ---------------------------------------------------------------------------------------------------------


def test_commands_stay_until_they_were_heard(rig: BrokerRig, supervisor: Supervisor) -> None:
    orders = rig.keys.commands("sup")
    rig.client.rpush(orders, "one", "two")
    assert supervisor.step()[2] == [b"one", b"two"]
    supervisor.heard = b""  # the answer was lost
    assert supervisor.step()[2] == [b"one", b"two"]
    rig.client.rpush(orders, "three")
    assert supervisor.step()[2] == [b"three"], "the others were heard"
    assert supervisor.step()[2] == []
    assert orders not in rig.dump()


def test_a_step_that_comes_late_throws_away_what_was_heard_and_nothing_else(
        rig: BrokerRig, supervisor: Supervisor) -> None:
    orders = rig.keys.commands("sup")
    rig.client.rpush(orders, "one")
    supervisor.step()
    late = supervisor.heard
    supervisor.step()
    rig.client.rpush(orders, "two")
    supervisor.heard = late
    assert supervisor.step()[2] == [b"two"]


def test_one_answer_brings_a_hundred_commands(rig: BrokerRig, supervisor: Supervisor) -> None:
    rig.client.rpush(rig.keys.commands("sup"), *map(str, range(150)))
    assert supervisor.step()[2] == [b"%d" % n for n in range(100)]
    assert supervisor.step()[2] == [b"%d" % n for n in range(100, 150)]
    assert supervisor.step()[2] == []


# -- claiming -----------------------------------------------------------------------------------------------------


def test_a_claim_says_all_that_the_supervisor_needs(rig: BrokerRig, supervisor: Supervisor) -> None:
    task_id = rig.submit(priority=HIGH)
    words, claimed, orders, queues, held = supervisor.step(want=5)
    assert (words, claimed, orders, queues, held) == ([], [(task_id, "1 0 0")], [], 1, 1)
    state = rig.state(task_id)
    assert (state.status, state.owner, state.priority) == (TaskStatus.RUNNING, "sup", HIGH)
    state = rig.dump()
    assert state[rig.keys.running("sup")] == {task_id.encode()}
    assert state[rig.keys.supervisors] == [(b"sup", supervisor.clock_ms + 15_000)]
    assert state[rig.keys.idle_supervisors] == {  # it wanted more than there was
        b"sup": b"* 0 %d" % supervisor.clock_ms}


def test_higher_priorities_always_go_first(rig: BrokerRig, supervisor: Supervisor) -> None:
    by_priority = {priority: rig.submit(priority=priority) for priority in (NORMAL, LOW, URGENT, HIGH)}
    assert supervisor.claim(9) == [by_priority[priority] for priority in DESCENDING]


def test_queues_of_one_level_take_turns_over_all_supervisors(rig: BrokerRig) -> None:
    mine = {queue: [rig.submit(queue) for _ in range(4)] for queue in ("a", "b", "c")}
    one, two = Supervisor(rig, "one", "a", "b", "c"), Supervisor(rig, "two", "a", "b", "c")
    taken = [one.claim(1)[0], two.claim(1)[0], one.claim(1)[0]]
    assert sorted(taken) == sorted(ids[0] for ids in mine.values()), "each queue once"
    both = one.claim(6)
    assert sorted(both[:3]) == sorted(ids[1] for ids in mine.values())
    assert sorted(both[3:]) == sorted(ids[2] for ids in mine.values())


def test_a_long_queue_fills_what_short_ones_leave(rig: BrokerRig) -> None:
    long, short = [rig.submit("a") for _ in range(9)], [rig.submit("b")]
    assert sorted(Supervisor(rig, "sup", "a", "b").claim(8)) == sorted(long[:7] + short)


def test_fair_keys_take_turns_within_a_queue(rig: BrokerRig, supervisor: Supervisor) -> None:
    greedy = [rig.submit(fair_key="greedy") for _ in range(5)]
    modest = [rig.submit(fair_key="modest") for _ in range(2)]
    taken = supervisor.claim(7)
    assert sorted(taken[:2]) == sorted([greedy[0], modest[0]])
    assert sorted(taken[2:4]) == sorted([greedy[1], modest[1]])
    assert taken[4:] == greedy[2:]


def test_one_who_comes_late_is_not_behind_what_others_have_queued(rig: BrokerRig, supervisor: Supervisor) -> None:
    greedy = [rig.submit(fair_key="greedy") for _ in range(5)]
    assert supervisor.claim(2) == greedy[:2]
    late = rig.submit(fair_key="late")
    assert late in supervisor.claim(2)


def test_a_line_passed_over_for_too_long_is_served_once(rig: BrokerRig) -> None:
    supervisor = Supervisor(rig, ageing_ms=30_000)
    low = [rig.submit(priority=LOW) for _ in range(2)]
    high = [rig.submit(priority=HIGH) for _ in range(6)]
    turn_us = rig.client.zscore(rig.keys.round_robin(LOW), "q")
    assert turn_us is not None
    supervisor.clock_ms = int(turn_us) // 1000
    assert supervisor.claim(1) == high[:1]
    supervisor.clock_ms += 29_999
    assert supervisor.claim(1) == high[1:2]
    supervisor.clock_ms += 1
    assert supervisor.claim(2) == [low[0], high[2]]
    assert supervisor.claim(1) == high[3:4], "its waiting began anew"


def test_nobody_starves_under_a_load_that_never_ends(rig: BrokerRig) -> None:
    supervisor, low = Supervisor(rig, ageing_ms=1000), rig.submit(priority=LOW)
    for _ in range(20):
        rig.submit(priority=URGENT)
        supervisor.clock_ms += 100
        if supervisor.claim(1) == [low]:
            return
    pytest.fail("it was never served")


def test_without_ageing_low_waits(rig: BrokerRig, supervisor: Supervisor) -> None:
    rig.submit(priority=LOW)
    urgent = [rig.submit(priority=URGENT) for _ in range(3)]
    for one in urgent:
        supervisor.clock_ms += 10 * HOUR_MS
        assert supervisor.claim(1) == [one]


def test_a_paused_queue_is_left_alone(rig: BrokerRig) -> None:
    rig.submit("a")
    other = rig.submit("b")
    rig.broker.pause("a")
    supervisor = Supervisor(rig, "sup", "a", "b", ageing_ms=1)
    supervisor.clock_ms += HOUR_MS
    assert supervisor.claim(9) == [other]


def test_only_the_queues_that_it_serves(rig: BrokerRig) -> None:
    rig.submit("other")
    assert Supervisor(rig, "sup", "q").claim(9) == []


def test_what_expired_in_the_queue_is_not_started(rig: BrokerRig, supervisor: Supervisor) -> None:
    late, good = rig.submit(expires_ms=supervisor.clock_ms + 500), rig.submit()
    supervisor.clock_ms += 500
    assert supervisor.claim(2) == [good]
    assert rig.state(late).status is TaskStatus.FAILED
    stored = rig.broker.read([late])[0]
    assert stored is not None
    assert stored.outcome is not None
    assert stored.outcome["cause"] == "expired"
    assert rig.keys.expiring not in rig.dump()


def test_a_retried_task_that_expires_in_its_lane_keeps_the_outcome_of_its_run(rig: BrokerRig,
                                                                             supervisor: Supervisor) -> None:
    task_id = rig.retrying(due_ms=-1, expires_ms=supervisor.clock_ms + HOUR_MS)
    assert rig.keeper.promote(1)[0] == 1
    supervisor.clock_ms += HOUR_MS
    assert supervisor.claim(1) == []
    assert (rig.state(task_id).status, rig.state(task_id).run) == (TaskStatus.FAILED, 2)
    assert [outcome["cause"] for outcome in rig.broker.outcomes(task_id)] == ["raised", "expired"]


def test_a_claim_stays_below_what_redis_owes_a_subscriber_and_the_rest_keeps_its_place(rig: BrokerRig,
                                                                                       supervisor: Supervisor) -> None:
    ids = [rig.submit() for _ in range(40)]
    for task_id in ids:
        record = rig.client.hget(rig.keys.tasks, task_id)
        assert record is not None
        rig.client.hset(rig.keys.tasks, task_id, record + b" " * (1 << 20))
    with rig.hearing(rig.keys.wakeup("sup")) as heard:
        assert supervisor.claim(40) == ids[:16]
        assert messages(heard, 1) == [b"!"], "it is to come again at once"
    assert supervisor.rig.keys.idle_supervisors not in rig.dump()
    assert rig.client.zcard(rig.keys.lane("q", NORMAL)) == 24
    assert supervisor.claim(40) == ids[16:32]
    assert supervisor.claim(40) == ids[32:]


def test_a_stray_id_in_a_line_is_dropped(rig: BrokerRig, supervisor: Supervisor) -> None:
    good = rig.submit()
    rig.client.zadd(rig.keys.lane("q", NORMAL), {"0" * 19: 0})
    ended = rig.ended()
    rig.client.zadd(rig.keys.lane("q", NORMAL), {ended: 0})
    assert supervisor.claim(5) == [good]
    assert rig.dump()[rig.keys.counters][b"strays"] == b"2"
    assert rig.state(ended).status is TaskStatus.FAILED


def test_a_retried_task_keeps_its_counters_and_its_place(rig: BrokerRig, supervisor: Supervisor) -> None:
    first = rig.submit()
    supervisor.claim(1)
    supervisor.end(first, "retry attempt", at=rig.now_ms - 1)
    second = rig.submit()
    assert rig.keeper.promote(10)[0] == 1
    assert supervisor.step(want=2)[1] == [(first, "2 1 0 1"), (second, "1 0 0")]


# -- the rest -----------------------------------------------------------------------------------------------------


def test_the_lease_is_renewed_by_every_step(rig: BrokerRig, supervisor: Supervisor) -> None:
    for _ in range(2):
        supervisor.clock_ms += 1000
        supervisor.step()
        assert rig.client.zscore(rig.keys.supervisors, "sup") == supervisor.clock_ms + 15_000


def test_the_mail_is_taken_once_and_the_report_kept(rig: BrokerRig, supervisor: Supervisor) -> None:
    supervisor.step(report=b'{"pool":"p"}')
    rig.broker.send_command("sup", {"do": "level", "level": "DEBUG"})
    [command] = map(orjson.loads, supervisor.step()[2])
    assert (command["do"], command["level"]) == ("level", "DEBUG")
    assert supervisor.step()[2] == []
    assert rig.dump()[rig.keys.reports] == {b"sup": b'{"pool":"p"}'}


def test_every_move_out_of_running_is_one_that_a_supervisor_can_settle_with(rig: BrokerRig,
                                                                           supervisor: Supervisor) -> None:
    for move in (Move.COMPLETE, Move.RETRY, Move.RELEASE, Move.FAIL, Move.TIME_OUT, Move.CANCEL):
        task_id = rig.submit()
        supervisor.claim(1)
        run = rig.state(task_id).run
        assert supervisor.end(task_id, f"{move} nobody", run, at="q" if move is Move.RELEASE else None) == [], move
        if move is Move.RELEASE:
            assert supervisor.claim(1) == [task_id]
            supervisor.end(task_id, "complete nobody", run + 1)
