"""What a pool does where Redis, time or a hostile hand surprise it."""

from dataclasses import replace

import pytest

from engine.core.task.record import Record
from engine.ports.host import Booted, ServerLost, ServerReady
from engine.ports.supervisor_broker import Handed, Joined, NotHeard, Parted, Recovered, Refused, Settlement, Stepped
from engine.services.pool.step_pipeline import BEAT_S, QUIET_BEAT_S
from tests.unit.services.pool.pool_stage import HANDLERS, LEASE_S, MARGIN_S, RECORD, A, B, Stage

LEVEL = b'{"do":"level","level":"%s"}'


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_claimed_run_is_sent_to_a_worker(stage: Stage) -> None:
    stage.answer(A, RECORD, b"1 0 0")
    assert [asked[1] for asked in stage.host.verbs("send")] == [0]


def test_a_claim_whose_lease_is_over_before_its_answer_came_is_never_started(stage: Stage) -> None:
    stage.turn(after_s=LEASE_S)
    stage.answer(A, RECORD, b"1 0 0", sent_s=stage.now_s - LEASE_S + MARGIN_S)
    assert not stage.host.verbs("send")
    assert stage.broker.recovers == [[]], "Redis is told that we do not have it"


def test_a_claim_that_came_just_in_time_is_started(stage: Stage) -> None:
    stage.answer(A, RECORD, b"1 0 0", sent_s=stage.now_s - LEASE_S + MARGIN_S + 0.5)
    assert stage.host.verbs("send")


def test_a_task_that_comes_round_while_its_old_run_still_ends_is_not_started_beside_it(stage: Stage) -> None:
    stage.answer(A, RECORD, b"1 0 0")
    stage.answer(A, RECORD, b"2 0 0")
    assert len(stage.host.verbs("send")) == 1
    assert [(one.run, one.verdict) for one in stage.settled()] == [(2, "retry nobody")]
    stage.host.happened = [stage.reply(0)]
    stage.turn()
    assert (1, "complete nobody") in [(one.run, one.verdict) for one in stage.settled()]
    assert not stage.pool.core.runs


def test_an_end_that_is_decided_when_redis_comes_back_is_known_to_recover(stage: Stage) -> None:
    stage.answer(A, RECORD, b"1 0 0")
    stage.host.happened = [stage.reply(0)]
    stage.broker.happened = [Parted("gone", []), Joined()]
    stage.turn()
    assert stage.broker.recovers == [[(A, 1)]], "else Redis would queue it again, though it has completed"


def test_an_end_that_is_decided_counts_as_held(stage: Stage) -> None:
    stage.answer(A, RECORD, b"1 0 0")
    stage.turn(after_s=BEAT_S)
    stage.host.happened = [stage.reply(0)]
    stage.answer(held=1)
    assert not stage.broker.recovers


def test_a_difference_in_what_is_held_is_cleared_up(stage: Stage) -> None:
    stage.answer(A, RECORD, b"1 0 0", held=2)
    assert stage.broker.recovers == [[(A, 1)]]


def test_a_difference_is_cleared_up_when_no_step_is_under_way_that_may_claim_what_we_could_not_name() -> None:
    stage = Stage(settle_max=2)
    stage.answer(A, RECORD, b"1 0 0", B, RECORD, b"1 0 0")
    stage.turn(after_s=BEAT_S)
    stage.host.happened = [stage.reply(0)]
    stage.turn()
    assert len(stage.broker.steps) == 2
    stage.answer(held=5)
    assert not stage.broker.recovers
    stage.answer(held=5)
    assert len(stage.broker.recovers) == 1


def test_what_is_not_ours_any_more_is_ended(stage: Stage) -> None:
    stage.answer(A, RECORD, b"1 0 0")
    stage.broker.happened = [Recovered([A])]
    stage.turn()
    assert stage.host.verbs("interrupt")
    stage.turn(after_s=3.0)
    assert stage.host.verbs("kill")


def test_it_fences_before_the_lease_is_over_and_once(stage: Stage) -> None:
    stage.answer(A, RECORD, b"1 0 0")
    stage.turn(after_s=LEASE_S - MARGIN_S - 0.05)
    assert not stage.host.verbs("kill")
    stage.turn(after_s=0.06)
    stage.turn()
    assert len(stage.host.verbs("kill")) == 1
    assert stage.pool.stepping.fenced


def test_the_fence_is_a_moment_to_wake_for_even_with_a_step_in_the_hands_of_a_frozen_redis(stage: Stage) -> None:
    stage.answer(A, RECORD, b"1 0 0")
    stage.turn(after_s=BEAT_S)
    assert stage.pool.stepping.is_under_way
    assert stage.pool.stepping.next_deadline_s() <= stage.now_s + LEASE_S - MARGIN_S


def test_nothing_is_claimed_while_fenced(stage: Stage) -> None:
    stage.answer(A, RECORD, b"1 0 0")
    stage.turn(after_s=LEASE_S)
    stage.host.happened = [stage.exit(0)]
    stage.broker.happened = [Parted("gone", []), Joined()]
    stage.turn()
    stage.turn(after_s=1.1)
    assert {want for _, want in stage.broker.steps} == {0}
    assert ("release nobody", "q") in [(one.verdict, one.at) for one in stage.settled()]


def test_on_a_private_socket_there_is_nobody_to_be_fenced_from() -> None:
    stage = Stage(fences=False)
    stage.answer(A, RECORD, b"1 0 0")
    stage.turn(after_s=LEASE_S * 3)
    assert not stage.host.verbs("kill")


@pytest.mark.parametrize("outcome", [b"", b"[]", b"{}", b"nonsense", b'{"retry_after":"soon"}', b'{"retry_after":-1}',
                                     b'{"retry_after":1e300}', b'{"retry_after":null}'])
def test_a_pause_that_makes_no_sense_is_the_usual_one(stage: Stage, outcome: bytes) -> None:
    stage.answer(A, RECORD, b"1 0 0")
    stage.host.happened = [stage.reply(0, b"A", outcome)]
    stage.turn()
    (end,) = stage.settled()
    assert end.verdict == "retry attempt"
    assert 0 < int(end.at) - stage.pool.clock.now_ms() < 2000


def test_a_pause_that_was_asked_for_is_kept(stage: Stage) -> None:
    stage.answer(A, RECORD, b"1 0 0")
    stage.host.happened = [stage.reply(0, b"A", b'{"retry_after":100}')]
    stage.turn()
    (end,) = stage.settled()
    assert 95_000 < int(end.at) - stage.pool.clock.now_ms() <= 100_000


def test_what_was_to_go_to_a_worker_that_is_gone_goes_to_the_next(stage: Stage) -> None:
    """Both workers die at once: the first has not read its run, which is then meant for the second."""
    stage.answer(A, RECORD, b"1 0 0")
    (_, _, message), = stage.host.verbs("send")
    stage.host.happened = [replace(stage.exit(0), unread=[message]), stage.exit(1)]
    stage.turn()
    assert len(stage.host.verbs("send")) == 1
    assert not stage.settled(), "nobody has begun it, so nobody pays"
    stage.host.happened = [Booted(0, 200)]
    stage.turn()
    assert [asked[1:] for asked in stage.host.verbs("send")] == [(0, message), (0, message)]


def test_a_worker_that_has_died_is_not_told_to_go(stage: Stage) -> None:
    stage.answer(A, RECORD, b"1 0 0", orders=(b'{"do":"restart","slot":0}',))
    stage.host.happened = [stage.reply(0), stage.exit(0)]
    stage.turn()
    assert not stage.host.verbs("quit")
    assert [one.verdict for one in stage.settled()] == ["complete nobody"]


def test_when_the_fork_server_dies_nothing_is_claimed_for_workers_that_are_about_to(stage: Stage) -> None:
    stage.answer(A, RECORD, b"1 0 0")
    stage.host.happened = [replace(stage.exit(0), stranded=True)]
    stage.turn(after_s=1.1)
    assert {want for _, want in stage.broker.steps} == {0}
    stage.answer()
    stage.host.happened = [replace(stage.exit(1), stranded=True), ServerLost("killed")]
    stage.turn()
    stage.host.happened = [ServerReady([], {}), Booted(0, 200)]
    stage.turn(after_s=1.1)
    assert [want for _, want in stage.broker.steps] == [1]


def test_a_worker_with_a_verdict_of_its_own_making_is_ended(stage: Stage) -> None:
    stage.answer(A, RECORD, b"1 0 0")
    stage.host.happened = [stage.reply(0, b"?")]
    stage.turn()
    assert len(stage.host.verbs("kill")) == 1
    assert A in stage.pool.core.runs


@pytest.mark.parametrize("letter", [
    b"", b"nonsense", b"[]", b"7", b"{}", b'{"do":"cancel"}', b'{"do":"cancel","id":7}', b'{"do":"stack"}',
    b'{"do":"stack","slot":"x"}', b'{"do":"stack","slot":99}', b'{"do":"stack","slot":-1}', LEVEL % b"LOUD",
    b'{"do":"level"}', b'{"do":["level"]}', b'\xff\xfe', b'{"do":"cancel","id":"\\ud800"}'])
def test_a_letter_that_cannot_be_obeyed_is_put_aside(stage: Stage, letter: bytes) -> None:
    stage.answer(A, RECORD, b"1 0 0", orders=(letter, b'{"do":"cancel","id":"%b","reason":"r"}' % A))
    assert stage.host.verbs("interrupt") or not stage.pool.core.runs, "the next letter is obeyed all the same"


@pytest.mark.parametrize(("head", "why"), [
    (b'["t","q",1,{"timeout":"long"}]', "timeout"), (b'["t","q",1,{"timeout":-1}]', "timeout"),
    (b'["t","q",1,{"result_ttl":1e300}]', "result_ttl"), (b'["t","q",1,{"max_retries":"many"}]', "max_retries"),
    (b'["t","q",1,{"max_deliveries":true}]', "max_deliveries"), (b'["t","q",1,7]', ""),
    (b'["t",["q"],1]', "text"),
    (b"[5,null,1]", "text"), (b"[[],1,1]", ""), (b"{}", ""), (b"[]", ""), (b"7", ""), (b"nonsense", ""), (b"", "")])
def test_a_record_that_no_client_wrote_fails_and_the_others_go_on(stage: Stage, head: bytes, why: str) -> None:
    stage.answer(A, head + b"\n{}", b"1 0 0", B, RECORD, b"1 0 0")
    assert set(stage.pool.core.runs) == {B}
    (end,) = stage.settled()
    assert (end.task_id, end.run, end.verdict) == (A, 1, "fail nobody")
    assert b"UnreadableRecord" in end.outcome
    assert why.encode() in end.outcome


@pytest.mark.parametrize("counters", [b"1e+20 0 0", b"4294967296 0 0", b"99999999999999999999 0 0", b"x", b"1 0"])
def test_a_run_that_no_script_counted_is_not_started(stage: Stage, counters: bytes) -> None:
    stage.answer(A, RECORD, counters, B, RECORD, b"1 0 0")
    assert set(stage.pool.core.runs) == {B}


@pytest.mark.parametrize("task_id", [b"x", b"", b"\xff" * 19, b"0" * 20])
def test_an_id_that_is_none_is_not_started(stage: Stage, task_id: bytes) -> None:
    stage.answer(task_id, RECORD, b"1 0 0", B, RECORD, b"1 0 0")
    assert set(stage.pool.core.runs) == {B}


def test_a_record_without_an_end_of_line_fails(stage: Stage) -> None:
    stage.answer(A, b'["t","q",1]', b"1 0 0")
    assert [one.verdict for one in stage.settled()] == ["fail nobody"]


def test_no_more_is_claimed_while_too_many_ends_wait_to_be_told(stage: Stage) -> None:
    stage.pool.stepping.terms = type(stage.pool.terms)("sup", "default", (), stage.pool.terms.policy,
                                                       outcomes_pending_max=1)
    stage.answer(A, RECORD, b"1 0 0")
    stage.host.happened = [stage.reply(0)]
    stage.broker.steps.clear()
    stage.turn(after_s=0.1)
    assert [want for _, want in stage.broker.steps] in ([0], [])


def test_a_run_that_was_handed_over_is_sent_at_once(stage: Stage) -> None:
    stage.broker.happened = [Handed(A, RECORD)]
    stage.turn()
    assert [asked[2][:1] for asked in stage.host.verbs("send")]
    assert stage.pool.core.runs[A].number == 1


def test_a_run_that_was_handed_over_while_redis_took_stock_is_not_ours(stage: Stage) -> None:
    stage.answer(held=1)
    stage.broker.happened = [Handed(A, RECORD), Recovered([])]
    stage.turn()
    assert not stage.host.verbs("send"), "Redis has queued it again"
    stage.broker.happened = [Handed(B, RECORD)]
    stage.turn()
    assert list(stage.pool.core.runs) == [B]


def test_a_run_that_was_handed_over_and_heard_of_too_late_is_never_started(stage: Stage) -> None:
    stage.broker.happened = [Handed(A, RECORD)]
    stage.turn(after_s=LEASE_S - MARGIN_S + 0.1)
    assert not stage.host.verbs("send")
    stage.answer(held=1)
    assert stage.broker.recovers == [[]], "it is given back"


def test_redis_hears_how_many_workers_are_idle(stage: Stage) -> None:
    stage.turn(after_s=1.1)
    assert stage.broker.wants[-1] == (2, 2, 0)
    stage.answer(A, RECORD, b"1 0 0")
    stage.turn(after_s=1.1)
    assert stage.broker.wants[-1] == (1, 1, 1)


def test_what_waits_for_redis_is_dated_anew_when_its_clock_was_set(stage: Stage) -> None:
    stage.answer(A, RECORD, b"1 0 0", B, RECORD, b"1 0 0")
    stage.broker.up = False
    stage.broker.happened = [Parted("gone", [])]
    stage.turn()
    stage.host.happened = [stage.reply(0, b"E")]
    stage.turn()
    [before] = stage.pool.stepping.outbox
    stage.pool.clock.offset_ms -= 600_000
    stage.broker.happened = [Joined()]
    stage.turn()
    assert [one.at for one in stage.pool.stepping.outbox] == [before.at - 600_000], "it is due after a pause"


def test_a_clock_that_drifted_dates_nothing_anew(stage: Stage) -> None:
    stage.answer(A, RECORD, b"1 0 0")
    stage.broker.happened = [Parted("gone", [Settlement(A, 1, "retry attempt", 5_000, b"{}")])]
    stage.turn()
    stage.pool.clock.offset_ms += 900
    stage.broker.happened = [Joined()]
    stage.turn()
    assert [one.at for one in stage.settled()] == [5_000]


def test_a_type_that_it_does_not_know_is_given_back_uncharged_and_waits_for_one_that_does(stage: Stage) -> None:
    foreign = Record("new", "images", 1, 1, b"{}").encode()
    stage.answer(A, foreign, b"2 1 0 1", B, RECORD, b"1 0 0")
    assert set(stage.pool.core.runs) == {B}
    (end,) = stage.settled()
    assert (end.task_id, end.run, end.verdict, end.at, end.outcome) == (A, 2, "release nobody", "images new", b"")


def test_a_run_whose_worker_does_not_know_the_type_is_given_back_too(stage: Stage) -> None:
    stage.answer(A, RECORD, b"1 0 0")
    stage.host.happened = [stage.reply(0, b"U")]
    stage.turn()
    (end,) = stage.settled()
    assert (end.task_id, end.verdict, end.at, end.outcome) == (A, "release nobody", "q t", b"")


def test_redis_is_told_again_what_it_can_run_where_that_was_forgotten(stage: Stage) -> None:
    stage.now_s += 2
    told = len(stage.broker.announced)
    stage.answer(types=0)
    assert stage.broker.announced[told:] == [HANDLERS]
    for _ in range(10):
        stage.pool.accord.stepped(Stepped([], [], False, [], 0, stage.now_s), stage.now_s)
    assert len(stage.broker.announced) == told + 1, "not as fast as it can forget"
    stage.now_s += 2
    stage.answer(types=0)
    assert len(stage.broker.announced) == told + 2


def test_redis_is_told_each_minute_what_it_can_run(stage: Stage) -> None:
    told = len(stage.broker.announced)
    stage.answer()
    stage.now_s += 50
    stage.answer()
    assert len(stage.broker.announced) == told
    stage.now_s += 10
    stage.answer()
    assert stage.broker.announced[told:] == [HANDLERS]


def test_what_redis_refused_to_hear_is_told_again(stage: Stage) -> None:
    stage.answer(A, RECORD, b"1 0 0")
    stage.broker.happened = [Joined(), NotHeard("LOADING Redis is loading the dataset in memory", True)]
    stage.turn()
    stage.answer()
    assert stage.broker.recovers == [[(A, 1)]], "not as fast as it can refuse"
    stage.answer()
    assert stage.broker.recovers == [[(A, 1)], [(A, 1)]]
    stage.answer()
    assert len(stage.broker.recovers) == 2, "and not for ever"


def test_the_root_may_ask_for_the_end_while_a_worker_has_just_died(stage: Stage) -> None:
    """The wish comes before the turn has heard of the death: nothing may be asked of the worker that is gone."""
    stage.host.happened = [stage.exit(0)]
    stage.pool.drain()
    stage.turn()
    assert [asked[1] for asked in stage.host.verbs("quit", "kill", "take_back")] == [1]


def test_a_wish_wakes_the_pool(stage: Stage) -> None:
    stage.pool.stop()
    stage.turn()
    assert stage.poller.waited_s == 0.0
    assert stage.pool.core.draining


CANCEL = b'{"do":"cancel","id":"%b","reason":"r"}' % A
DUMP, DUMP_TOO = b'{"do":"stack","slot":0,"letter":"1"}', b'{"do":"stack","slot":0,"letter":"2"}'


def test_a_letter_that_comes_again_is_obeyed_once(stage: Stage) -> None:
    for letters in [(DUMP,), (DUMP, DUMP_TOO), (DUMP_TOO,), ()]:
        stage.turn(after_s=QUIET_BEAT_S)
        stage.answer(orders=letters)
    assert stage.host.verbs("dump") == [("dump", 0)] * 2


def test_redis_is_told_at_once_which_letter_was_heard_last_until_it_brings_none(stage: Stage) -> None:
    stage.answer(orders=(DUMP, DUMP_TOO))
    assert stage.broker.heard == DUMP_TOO
    stage.broker.happened.append(Parted("gone", []))
    stage.turn()
    stage.broker.steps.clear()
    stage.broker.heard = b""
    stage.broker.happened.append(Joined())
    stage.turn()
    assert stage.broker.heard == DUMP_TOO, "it may not have come to know"
    stage.answer(orders=())
    stage.turn(after_s=QUIET_BEAT_S)
    assert stage.broker.heard == b""


def test_what_could_not_be_told_of_letters_is_told_with_the_next_step(stage: Stage) -> None:
    stage.answer(A, RECORD, b"1 0 0", orders=(CANCEL,))
    stage.broker.steps.clear()
    stage.broker.heard = b""
    stage.broker.happened.append(Refused("full", []))
    stage.turn(after_s=1.1)
    stage.turn(after_s=1.1)
    assert stage.broker.heard == CANCEL


def test_a_stopped_pool_that_redis_never_hears_again_ends_with_its_lease(stage: Stage) -> None:
    """Its root is gone, and Redis with it: what it has still to tell must not keep it for ever."""
    stage.answer(A, RECORD, b"1 0 0")
    stage.broker.up = False
    stage.broker.happened = [Parted("gone", [])]
    stage.pool.stop()
    stage.turn()
    stage.host.happened = [stage.exit(0), stage.exit(1)]
    stage.turn()
    assert [one.task_id for one in stage.settled()] == [A]
    assert not stage.pool.is_done, "Redis may come back while the lease holds"
    stage.turn(after_s=LEASE_S)
    assert stage.pool.is_done


def test_a_drained_pool_waits_for_redis_as_long_as_its_root_lets_it(stage: Stage) -> None:
    stage.answer(A, RECORD, b"1 0 0")
    stage.broker.up = False
    stage.broker.happened = [Parted("gone", [])]
    stage.host.happened = [stage.reply(0)]
    stage.pool.drain()
    stage.turn()
    stage.host.happened = [stage.exit(0), stage.exit(1)]
    stage.turn(after_s=2 * LEASE_S)
    assert not stage.pool.is_done
