"""What a pool does where Redis, time or a hostile hand surprise it."""

from dataclasses import replace

import pytest

from engine.core.task.record import Record
from engine.ports.host import Booted, ServerLost, ServerReady
from engine.ports.supervisor_broker import (
    Handed,
    HeldRunsSynced,
    Joined,
    Parted,
    Refused,
    RegistrationRefused,
    Settlement,
    Stepped,
)
from engine.services.pool.step_pipeline import BEAT_S, QUIET_BEAT_S
from tests.unit.services.pool.pool_harness import HANDLERS, LEASE_S, MARGIN_S, RECORD, A, B, PoolHarness

LEVEL = b'{"do":"level","level":"%s"}'


@pytest.fixture
def harness() -> PoolHarness:
    return PoolHarness()


def test_a_claimed_run_is_sent_to_a_worker(harness: PoolHarness) -> None:
    harness.answer(A, RECORD, b"1 0 0")
    assert [asked[1] for asked in harness.host.verbs("send")] == [0]


def test_a_claim_whose_lease_is_over_before_its_answer_came_is_never_started(harness: PoolHarness) -> None:
    harness.turn(after_s=LEASE_S)
    harness.answer(A, RECORD, b"1 0 0", sent_s=harness.now_s - LEASE_S + MARGIN_S)
    assert not harness.host.verbs("send")
    assert harness.broker.syncs == [[]], "Redis is told that we do not have it"


def test_a_claim_that_came_just_in_time_is_started(harness: PoolHarness) -> None:
    harness.answer(A, RECORD, b"1 0 0", sent_s=harness.now_s - LEASE_S + MARGIN_S + 0.5)
    assert harness.host.verbs("send")


def test_a_task_that_comes_round_while_its_old_run_still_ends_is_not_started_beside_it(harness: PoolHarness) -> None:
    harness.answer(A, RECORD, b"1 0 0")
    harness.answer(A, RECORD, b"2 0 0")
    assert len(harness.host.verbs("send")) == 1
    assert [(one.run, one.verdict) for one in harness.settled()] == [(2, "retry nobody")]
    harness.host.happened = [harness.reply(0)]
    harness.turn()
    assert (1, "complete nobody") in [(one.run, one.verdict) for one in harness.settled()]
    assert not harness.pool.core.runs


def test_an_end_that_is_decided_when_redis_comes_back_is_known_to_redis(harness: PoolHarness) -> None:
    harness.answer(A, RECORD, b"1 0 0")
    harness.host.happened = [harness.reply(0)]
    harness.broker.happened = [Parted("gone", []), Joined()]
    harness.turn()
    assert harness.broker.syncs == [[(A, 1)]], "else Redis would queue it again, though it has completed"


def test_an_end_that_is_decided_counts_as_held(harness: PoolHarness) -> None:
    harness.answer(A, RECORD, b"1 0 0")
    harness.turn(after_s=BEAT_S)
    harness.host.happened = [harness.reply(0)]
    harness.answer(held=1)
    assert not harness.broker.syncs


def test_a_difference_in_what_is_held_is_cleared_up(harness: PoolHarness) -> None:
    harness.answer(A, RECORD, b"1 0 0", held=2)
    assert harness.broker.syncs == [[(A, 1)]]


def test_a_difference_is_cleared_up_when_no_step_is_under_way_that_may_claim_what_we_could_not_name() -> None:
    harness = PoolHarness(settle_max=2)
    harness.answer(A, RECORD, b"1 0 0", B, RECORD, b"1 0 0")
    harness.turn(after_s=BEAT_S)
    harness.host.happened = [harness.reply(0)]
    harness.turn()
    assert len(harness.broker.steps) == 2
    harness.answer(held=5)
    assert not harness.broker.syncs
    harness.answer(held=5)
    assert len(harness.broker.syncs) == 1


def test_what_is_not_ours_any_more_is_ended(harness: PoolHarness) -> None:
    harness.answer(A, RECORD, b"1 0 0")
    harness.broker.happened = [HeldRunsSynced([A])]
    harness.turn()
    assert harness.host.verbs("interrupt")
    harness.turn(after_s=3.0)
    assert harness.host.verbs("kill")


def test_it_fences_before_the_lease_is_over_and_once(harness: PoolHarness) -> None:
    harness.answer(A, RECORD, b"1 0 0")
    harness.turn(after_s=LEASE_S - MARGIN_S - 0.05)
    assert not harness.host.verbs("kill")
    harness.turn(after_s=0.06)
    harness.turn()
    assert len(harness.host.verbs("kill")) == 1
    assert harness.pool.pipeline.fenced


def test_the_fence_is_a_moment_to_wake_for_even_while_a_frozen_redis_has_a_step(harness: PoolHarness) -> None:
    harness.answer(A, RECORD, b"1 0 0")
    harness.turn(after_s=BEAT_S)
    assert harness.pool.pipeline.is_under_way
    assert harness.pool.pipeline.next_deadline_s() <= harness.now_s + LEASE_S - MARGIN_S


def test_nothing_is_claimed_while_fenced(harness: PoolHarness) -> None:
    harness.answer(A, RECORD, b"1 0 0")
    harness.turn(after_s=LEASE_S)
    harness.host.happened = [harness.exit(0)]
    harness.broker.happened = [Parted("gone", []), Joined()]
    harness.turn()
    harness.turn(after_s=1.1)
    assert {want for _, want in harness.broker.steps} == {0}
    assert ("release nobody", "q") in [(one.verdict, one.at) for one in harness.settled()]


def test_on_a_private_socket_there_is_nobody_to_be_fenced_from() -> None:
    harness = PoolHarness(fences=False)
    harness.answer(A, RECORD, b"1 0 0")
    harness.turn(after_s=LEASE_S * 3)
    assert not harness.host.verbs("kill")


@pytest.mark.parametrize("outcome", [b"", b"[]", b"{}", b"nonsense", b'{"retry_after":"soon"}', b'{"retry_after":-1}',
                                     b'{"retry_after":1e300}', b'{"retry_after":null}'])
def test_a_pause_that_makes_no_sense_is_the_usual_one(harness: PoolHarness, outcome: bytes) -> None:
    harness.answer(A, RECORD, b"1 0 0")
    harness.host.happened = [harness.reply(0, b"A", outcome)]
    harness.turn()
    (end,) = harness.settled()
    assert end.verdict == "retry attempt"
    assert 0 < int(end.at) - harness.pool.clock.now_ms() < 2000


def test_a_pause_that_was_asked_for_is_kept(harness: PoolHarness) -> None:
    harness.answer(A, RECORD, b"1 0 0")
    harness.host.happened = [harness.reply(0, b"A", b'{"retry_after":100}')]
    harness.turn()
    (end,) = harness.settled()
    assert 95_000 < int(end.at) - harness.pool.clock.now_ms() <= 100_000


def test_what_was_to_go_to_a_worker_that_is_gone_goes_to_the_next(harness: PoolHarness) -> None:
    """Both workers die at once: the first has not read its run, which is then meant for the second."""
    harness.answer(A, RECORD, b"1 0 0")
    (_, _, message), = harness.host.verbs("send")
    harness.host.happened = [replace(harness.exit(0), unread=[message]), harness.exit(1)]
    harness.turn()
    assert len(harness.host.verbs("send")) == 1
    assert not harness.settled(), "nobody has begun it, so nobody pays"
    harness.host.happened = [Booted(0, 200)]
    harness.turn()
    assert [asked[1:] for asked in harness.host.verbs("send")] == [(0, message), (0, message)]


def test_a_worker_that_has_died_is_not_told_to_go(harness: PoolHarness) -> None:
    harness.answer(A, RECORD, b"1 0 0", commands=(b'{"do":"restart","slot":0}',))
    harness.host.happened = [harness.reply(0), harness.exit(0)]
    harness.turn()
    assert not harness.host.verbs("quit")
    assert [one.verdict for one in harness.settled()] == ["complete nobody"]


def test_when_the_fork_server_dies_nothing_is_claimed_for_workers_that_are_about_to(harness: PoolHarness) -> None:
    harness.answer(A, RECORD, b"1 0 0")
    harness.host.happened = [replace(harness.exit(0), stranded=True)]
    harness.turn(after_s=1.1)
    assert {want for _, want in harness.broker.steps} == {0}
    harness.answer()
    harness.host.happened = [replace(harness.exit(1), stranded=True), ServerLost("killed")]
    harness.turn()
    harness.host.happened = [ServerReady([], {}), Booted(0, 200)]
    harness.turn(after_s=1.1)
    assert [want for _, want in harness.broker.steps] == [1]


def test_a_worker_with_a_verdict_of_its_own_making_is_ended(harness: PoolHarness) -> None:
    harness.answer(A, RECORD, b"1 0 0")
    harness.host.happened = [harness.reply(0, b"?")]
    harness.turn()
    assert len(harness.host.verbs("kill")) == 1
    assert A in harness.pool.core.runs


@pytest.mark.parametrize("command", [
    b"", b"nonsense", b"[]", b"7", b"{}", b'{"do":"cancel"}', b'{"do":"cancel","id":7}', b'{"do":"stack"}',
    b'{"do":"stack","slot":"x"}', b'{"do":"stack","slot":99}', b'{"do":"stack","slot":-1}', LEVEL % b"LOUD",
    b'{"do":"level"}', b'{"do":["level"]}', b'\xff\xfe', b'{"do":"cancel","id":"\\ud800"}'])
def test_a_command_that_makes_no_sense_is_put_aside(harness: PoolHarness, command: bytes) -> None:
    harness.answer(A, RECORD, b"1 0 0", commands=(command, b'{"do":"cancel","id":"%b","reason":"r"}' % A))
    assert harness.host.verbs("interrupt") or not harness.pool.core.runs, "the next command is obeyed all the same"


@pytest.mark.parametrize(("head", "why"), [
    (b'["t","q",1,{"timeout":"long"}]', "timeout"), (b'["t","q",1,{"timeout":-1}]', "timeout"),
    (b'["t","q",1,{"result_ttl":1e300}]', "result_ttl"), (b'["t","q",1,{"max_retries":"many"}]', "max_retries"),
    (b'["t","q",1,{"max_deliveries":true}]', "max_deliveries"), (b'["t","q",1,7]', ""),
    (b'["t",["q"],1]', "text"),
    (b"[5,null,1]", "text"), (b"[[],1,1]", ""), (b"{}", ""), (b"[]", ""), (b"7", ""), (b"nonsense", ""), (b"", "")])
def test_a_record_that_no_client_wrote_fails_and_the_others_go_on(harness: PoolHarness, head: bytes, why: str) -> None:
    harness.answer(A, head + b"\n{}", b"1 0 0", B, RECORD, b"1 0 0")
    assert set(harness.pool.core.runs) == {B}
    (end,) = harness.settled()
    assert (end.task_id, end.run, end.verdict) == (A, 1, "fail nobody")
    assert b"UnreadableRecord" in end.outcome
    assert why.encode() in end.outcome


@pytest.mark.parametrize("counters", [b"1e+20 0 0", b"4294967296 0 0", b"99999999999999999999 0 0", b"x", b"1 0"])
def test_a_run_that_no_script_counted_is_not_started(harness: PoolHarness, counters: bytes) -> None:
    harness.answer(A, RECORD, counters, B, RECORD, b"1 0 0")
    assert set(harness.pool.core.runs) == {B}


@pytest.mark.parametrize("task_id", [b"x", b"", b"\xff" * 19, b"0" * 20])
def test_an_id_that_is_none_is_not_started(harness: PoolHarness, task_id: bytes) -> None:
    harness.answer(task_id, RECORD, b"1 0 0", B, RECORD, b"1 0 0")
    assert set(harness.pool.core.runs) == {B}


def test_a_record_without_an_end_of_line_fails(harness: PoolHarness) -> None:
    harness.answer(A, b'["t","q",1]', b"1 0 0")
    assert [one.verdict for one in harness.settled()] == ["fail nobody"]


def test_no_more_is_claimed_while_too_many_ends_wait_to_be_told(harness: PoolHarness) -> None:
    harness.pool.pipeline.terms = type(harness.pool.terms)("sup", "default", (), harness.pool.terms.policy,
                                                       outcomes_pending_max=1)
    harness.answer(A, RECORD, b"1 0 0")
    harness.host.happened = [harness.reply(0)]
    harness.broker.steps.clear()
    harness.turn(after_s=0.1)
    assert [want for _, want in harness.broker.steps] in ([0], [])


def test_a_run_that_was_handed_over_is_sent_at_once(harness: PoolHarness) -> None:
    harness.broker.happened = [Handed(A, RECORD)]
    harness.turn()
    assert [asked[2][:1] for asked in harness.host.verbs("send")]
    assert harness.pool.core.runs[A].number == 1


def test_a_run_that_was_handed_over_while_redis_took_stock_is_not_ours(harness: PoolHarness) -> None:
    harness.answer(held=1)
    harness.broker.happened = [Handed(A, RECORD), HeldRunsSynced([])]
    harness.turn()
    assert not harness.host.verbs("send"), "Redis has queued it again"
    harness.broker.happened = [Handed(B, RECORD)]
    harness.turn()
    assert list(harness.pool.core.runs) == [B]


def test_a_run_that_was_handed_over_and_heard_of_too_late_is_never_started(harness: PoolHarness) -> None:
    harness.broker.happened = [Handed(A, RECORD)]
    harness.turn(after_s=LEASE_S - MARGIN_S + 0.1)
    assert not harness.host.verbs("send")
    harness.answer(held=1)
    assert harness.broker.syncs == [[]], "it is given back"


def test_redis_hears_how_many_workers_are_idle(harness: PoolHarness) -> None:
    harness.turn(after_s=1.1)
    assert harness.broker.wants[-1] == (2, 2, 0)
    harness.answer(A, RECORD, b"1 0 0")
    harness.turn(after_s=1.1)
    assert harness.broker.wants[-1] == (1, 1, 1)


def test_what_waits_for_redis_is_dated_anew_when_its_clock_was_set(harness: PoolHarness) -> None:
    harness.answer(A, RECORD, b"1 0 0", B, RECORD, b"1 0 0")
    harness.broker.up = False
    harness.broker.happened = [Parted("gone", [])]
    harness.turn()
    harness.host.happened = [harness.reply(0, b"E")]
    harness.turn()
    [before] = harness.pool.pipeline.outbox
    harness.pool.clock.offset_ms -= 600_000
    harness.broker.happened = [Joined()]
    harness.turn()
    assert [one.at for one in harness.pool.pipeline.outbox] == [before.at - 600_000], "it is due after a pause"


def test_a_clock_that_drifted_dates_nothing_anew(harness: PoolHarness) -> None:
    harness.answer(A, RECORD, b"1 0 0")
    harness.broker.happened = [Parted("gone", [Settlement(A, 1, "retry attempt", 5_000, b"{}")])]
    harness.turn()
    harness.pool.clock.offset_ms += 900
    harness.broker.happened = [Joined()]
    harness.turn()
    assert [one.at for one in harness.settled()] == [5_000]


def test_a_type_that_it_does_not_know_is_given_back_uncharged_and_waits_for_one_that_does(harness: PoolHarness) -> None:
    foreign = Record("new", "images", 1, 1, b"{}").encode()
    harness.answer(A, foreign, b"2 1 0 1", B, RECORD, b"1 0 0")
    assert set(harness.pool.core.runs) == {B}
    (end,) = harness.settled()
    assert (end.task_id, end.run, end.verdict, end.at, end.outcome) == (A, 2, "release nobody", "images new", b"")


def test_a_run_whose_worker_does_not_know_the_type_is_given_back_too(harness: PoolHarness) -> None:
    harness.answer(A, RECORD, b"1 0 0")
    harness.host.happened = [harness.reply(0, b"U")]
    harness.turn()
    (end,) = harness.settled()
    assert (end.task_id, end.verdict, end.at, end.outcome) == (A, "release nobody", "q t", b"")


def test_redis_is_told_again_what_it_can_run_where_that_was_forgotten(harness: PoolHarness) -> None:
    harness.now_s += 2
    told = len(harness.broker.announced)
    harness.answer(types=0)
    assert harness.broker.announced[told:] == [HANDLERS]
    for _ in range(10):
        harness.pool.reconciler.stepped(Stepped([], [], False, [], 0, harness.now_s), harness.now_s)
    assert len(harness.broker.announced) == told + 1, "not as fast as it can forget"
    harness.now_s += 2
    harness.answer(types=0)
    assert len(harness.broker.announced) == told + 2


def test_redis_is_told_each_minute_what_it_can_run(harness: PoolHarness) -> None:
    told = len(harness.broker.announced)
    harness.answer()
    harness.now_s += 50
    harness.answer()
    assert len(harness.broker.announced) == told
    harness.now_s += 10
    harness.answer()
    assert harness.broker.announced[told:] == [HANDLERS]


def test_what_redis_refused_to_hear_is_told_again(harness: PoolHarness) -> None:
    harness.answer(A, RECORD, b"1 0 0")
    harness.broker.happened = [Joined(), RegistrationRefused("LOADING Redis is loading the dataset in memory", True)]
    harness.turn()
    harness.answer()
    assert harness.broker.syncs == [[(A, 1)]], "not as fast as it can refuse"
    harness.answer()
    assert harness.broker.syncs == [[(A, 1)], [(A, 1)]]
    harness.answer()
    assert len(harness.broker.syncs) == 2, "and not for ever"


def test_the_root_may_ask_for_the_end_while_a_worker_has_just_died(harness: PoolHarness) -> None:
    """The wish comes before the turn has heard of the death: nothing may be asked of the worker that is gone."""
    harness.host.happened = [harness.exit(0)]
    harness.pool.drain()
    harness.turn()
    assert [asked[1] for asked in harness.host.verbs("quit", "kill", "take_back")] == [1]


def test_a_wish_wakes_the_pool(harness: PoolHarness) -> None:
    harness.pool.stop()
    harness.turn()
    assert harness.poller.waited_s == 0.0
    assert harness.pool.core.draining


CANCEL = b'{"do":"cancel","id":"%b","reason":"r"}' % A
DUMP, DUMP_TOO = b'{"do":"stack","slot":0,"command_id":"1"}', b'{"do":"stack","slot":0,"command_id":"2"}'


def test_a_command_that_comes_again_is_obeyed_once(harness: PoolHarness) -> None:
    for commands in [(DUMP,), (DUMP, DUMP_TOO), (DUMP_TOO,), ()]:
        harness.turn(after_s=QUIET_BEAT_S)
        harness.answer(commands=commands)
    assert harness.host.verbs("dump") == [("dump", 0)] * 2


def test_redis_is_told_at_once_which_command_came_last_until_it_brings_none(harness: PoolHarness) -> None:
    harness.answer(commands=(DUMP, DUMP_TOO))
    assert harness.broker.last_command == DUMP_TOO
    harness.broker.happened.append(Parted("gone", []))
    harness.turn()
    harness.broker.steps.clear()
    harness.broker.last_command = b""
    harness.broker.happened.append(Joined())
    harness.turn()
    assert harness.broker.last_command == DUMP_TOO, "it may not have come to know"
    harness.answer(commands=())
    harness.turn(after_s=QUIET_BEAT_S)
    assert harness.broker.last_command == b""


def test_what_could_not_be_told_of_commands_is_told_with_the_next_step(harness: PoolHarness) -> None:
    harness.answer(A, RECORD, b"1 0 0", commands=(CANCEL,))
    harness.broker.steps.clear()
    harness.broker.last_command = b""
    harness.broker.happened.append(Refused("full", []))
    harness.turn(after_s=1.1)
    harness.turn(after_s=1.1)
    assert harness.broker.last_command == CANCEL


def test_a_stopped_pool_that_redis_never_hears_again_ends_with_its_lease(harness: PoolHarness) -> None:
    """Its root is gone, and Redis with it: what it has still to tell must not keep it for ever."""
    harness.answer(A, RECORD, b"1 0 0")
    harness.broker.up = False
    harness.broker.happened = [Parted("gone", [])]
    harness.pool.stop()
    harness.turn()
    harness.host.happened = [harness.exit(0), harness.exit(1)]
    harness.turn()
    assert [one.task_id for one in harness.settled()] == [A]
    assert not harness.pool.is_done, "Redis may come back while the lease holds"
    harness.turn(after_s=LEASE_S)
    assert harness.pool.is_done


def test_a_drained_pool_waits_for_redis_as_long_as_its_root_lets_it(harness: PoolHarness) -> None:
    harness.answer(A, RECORD, b"1 0 0")
    harness.broker.up = False
    harness.broker.happened = [Parted("gone", [])]
    harness.host.happened = [harness.reply(0)]
    harness.pool.drain()
    harness.turn()
    harness.host.happened = [harness.exit(0), harness.exit(1)]
    harness.turn(after_s=2 * LEASE_S)
    assert not harness.pool.is_done
