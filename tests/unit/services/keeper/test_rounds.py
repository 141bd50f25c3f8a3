"""When the keeper believes that a lease is over."""

from collections.abc import Iterable
from typing import Any

import pytest
from redis.exceptions import ResponseError

from engine.errors import BrokerError, BrokerUnavailable
from engine.ports.keeper_broker import AuditResult, PollResult, RescueResult
from engine.services.keeper.duty_list import make_rounds
from engine.services.keeper.reports import SupervisorReports
from engine.services.keeper.rounds import POLL_S, TICK_S

LEASE_S = 15.0
NEVER = float("inf")


class Leases:
    """Redis with nothing but leases in it. Its clock runs beside ours, until somebody sets it."""

    def __init__(self) -> None:
        self.now_s, self.ahead_ms = 1000.0, 5_000_000
        self.ends: dict[str, int] = {}
        self.rescued: list[str] = []
        self.is_away = False
        self.is_led_by_us = True
        self.reconciled = self.polls = self.cancels = self.insisted = self.moved_away = 0
        self.refusal: ResponseError | None = None

    def monotonic_s(self) -> float:
        return self.now_s

    def now_ms(self) -> int:
        return int(self.now_s * 1000) + self.ahead_ms

    def renew(self, name: str, lease_s: float = LEASE_S) -> None:
        self.ends[name] = self.now_ms() + int(lease_s * 1000)

    def poll(self, keeper: str, until_ms: int) -> PollResult:
        if self.is_away:
            raise BrokerUnavailable("away")
        if self.refusal is not None:
            raise BrokerError("Redis could not do what was asked") from self.refusal
        self.polls += 1
        return PollResult(self.is_led_by_us, dict(self.ends), NEVER, NEVER, NEVER, self.cancels)

    def reapply_cancel_requests(self, cursor: Any = None) -> tuple[int, Any]:
        self.insisted += 1
        return 0, None

    def promote(self, limit: int) -> tuple[int, int | None]:
        return 0, None

    expire = sweep = promote

    def expire_lease(self, name: str, seen_ms: int | None = None) -> bool:
        if seen_ms is None or self.ends.get(name) != seen_ms:
            return False
        self.ends[name] = 0
        return True

    def rescue(self, supervisor: str, limit: int) -> Any:
        self.rescued.append(supervisor)
        self.ends.pop(supervisor, None)
        return RescueResult()

    def rename_misplaced(self) -> int:
        self.moved_away += 1
        return 0

    def audit(self, cursor: Any = None) -> Any:
        self.reconciled += 1
        return AuditResult(None)


class Presence:
    """Of this host: `absent` are gone; `ended` notes whom we were told to end, and whether before the rescue."""

    def __init__(self, redis: Leases) -> None:
        self.redis = redis
        self.absent: list[str] = []
        self.ended: list[str] = []

    def gone(self, now_s: float, supervisors: Iterable[str]) -> list[str]:
        return [name for name in self.absent if name in self.redis.ends]

    def end(self, supervisor: str) -> None:
        assert supervisor not in self.redis.rescued
        self.ended.append(supervisor)


class Watch:
    def __init__(self) -> None:
        self.redis = Leases()
        self.reports: list[dict[str, Any]] = []
        self.presence = Presence(self.redis)
        self.rounds = make_rounds("k", self.redis, SupervisorReports(lambda: self.reports),
                             self.presence, LEASE_S, self.redis.monotonic_s)  # type: ignore[arg-type]

    def pass_time(self, seconds: float, *renewing: str, tick_s: float = 1.0) -> None:
        end_s = self.redis.now_s + seconds
        while self.redis.now_s < end_s:
            self.redis.now_s = min(end_s, self.redis.now_s + tick_s)
            if not self.redis.is_away:
                for name in renewing:
                    self.redis.renew(name)
            self.rounds.go()


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_a_lease_that_is_renewed_is_left_alone(watch: Watch) -> None:
    watch.pass_time(60, "a")
    assert not watch.redis.rescued


def test_a_lapsed_lease_is_reaped_in_time(watch: Watch) -> None:
    watch.pass_time(10, "a", "b")
    watch.pass_time(LEASE_S - 0.5, "b")
    assert not watch.redis.rescued, "the supervisor may still believe in it"
    watch.pass_time(2.5, "b")
    assert watch.redis.rescued == ["a"]


def test_a_keeper_that_just_came_first_watches_for_a_whole_lease(watch: Watch) -> None:
    watch.redis.ends["a"] = 1
    watch.pass_time(LEASE_S - 1)
    assert not watch.redis.rescued
    watch.pass_time(2.5)
    assert watch.redis.rescued == ["a"]


def test_after_an_outage_there_is_time_to_renew(watch: Watch) -> None:
    watch.pass_time(10, "a", "b")
    watch.redis.is_away = True
    watch.pass_time(60)
    watch.redis.is_away = False
    watch.pass_time(LEASE_S - 2)
    assert not watch.redis.rescued
    watch.pass_time(4, "b")
    assert watch.redis.rescued == ["a"]


def test_a_keeper_that_was_frozen_watches_anew(watch: Watch) -> None:
    watch.pass_time(10, "a")
    watch.rounds.ring()
    watch.rounds.go()  # it has seen the lease as it is
    watch.redis.now_s += 60
    watch.rounds.go()
    watch.pass_time(LEASE_S - 2)
    assert not watch.redis.rescued


@pytest.mark.parametrize("jump_s", [-3600, -60, 60, 3600])
def test_a_jump_of_redis_s_clock_ends_no_lease(watch: Watch, jump_s: int) -> None:
    """The keeper hears of it at once, the supervisor half a minute later, as each sets its clock in its own time."""
    watch.pass_time(10, "a")
    for _ in range(30):
        watch.redis.renew("a")
        watch.redis.ahead_ms += jump_s * 1000
        watch.pass_time(1)
        watch.redis.ahead_ms -= jump_s * 1000
    assert not watch.redis.rescued
    watch.redis.ahead_ms += jump_s * 1000
    watch.pass_time(60, "a")
    assert not watch.redis.rescued


def test_a_longer_lease_than_ours_is_respected(watch: Watch) -> None:
    watch.redis.renew("a", 40.0)
    watch.pass_time(38)
    assert not watch.redis.rescued
    watch.pass_time(4)
    assert watch.redis.rescued == ["a"]


def test_the_lease_of_one_that_is_gone_ends_although_the_clock_was_set_back(watch: Watch) -> None:
    watch.pass_time(10, "a")
    watch.rounds.ring()
    watch.rounds.go()
    watch.redis.ahead_ms -= 3_600_000
    watch.pass_time(LEASE_S - 2)
    assert not watch.redis.rescued
    watch.pass_time(3)
    assert watch.redis.rescued == ["a"]


def test_a_lease_from_before_the_clock_was_set_back_is_not_believed_in_for_ever(watch: Watch) -> None:
    watch.redis.renew("a", lease_s=3600.0)
    watch.pass_time(LEASE_S * 4 + 2)
    assert watch.redis.rescued == ["a"]


def test_a_lease_that_is_renewed_in_the_last_moment_is_not_ended(watch: Watch) -> None:
    watch.pass_time(2, "a")
    seen = watch.redis.poll("k", 0)

    def poll(keeper: str, until_ms: int) -> PollResult:
        return seen

    watch.redis.poll = poll  # type: ignore[method-assign]
    watch.pass_time(LEASE_S - 1)
    watch.redis.renew("a")
    watch.pass_time(5)
    assert not watch.redis.rescued


def test_who_follows_has_counted_when_the_leader_goes(watch: Watch) -> None:
    watch.redis.is_led_by_us = False
    watch.pass_time(10, "a")
    watch.pass_time(4)
    assert not watch.redis.rescued
    watch.redis.is_led_by_us = True
    watch.pass_time(LEASE_S - 4 + 2)
    assert watch.redis.rescued == ["a"], "within the lease and 2 s, whoever led meanwhile"


def test_all_is_looked_at_when_the_clock_was_set_back(watch: Watch) -> None:
    watch.pass_time(30)
    assert watch.redis.reconciled == 1
    watch.redis.ahead_ms += 60_000
    watch.pass_time(2)
    assert watch.redis.reconciled == 1
    watch.redis.ahead_ms -= 60_000
    watch.pass_time(2)
    assert watch.redis.reconciled == 2


def test_it_goes_by_redis_again_when_it_is_rung_and_not_before(watch: Watch) -> None:
    watch.pass_time(10)
    asked = watch.redis.polls
    watch.rounds.ring(0.5)
    watch.pass_time(0.4, tick_s=0.1)
    assert watch.redis.polls == asked
    watch.pass_time(0.2, tick_s=0.1)
    assert watch.redis.polls == asked + 1


def test_an_idle_engine_is_asked_after_every_other_second(watch: Watch) -> None:
    watch.pass_time(60, "a")
    assert 60 / TICK_S > watch.redis.polls > 60 / POLL_S / 2


def test_who_leads_insists_while_something_was_to_be_cancelled(watch: Watch) -> None:
    watch.pass_time(5)
    assert watch.redis.insisted == 0
    watch.redis.cancels = 1
    watch.pass_time(5)
    assert watch.redis.insisted > 1
    watch.redis.is_led_by_us, watch.redis.insisted = False, 0
    watch.pass_time(5)
    assert not watch.redis.insisted


@pytest.mark.parametrize("lease_s", [5.0, 60.0, 600.0])
def test_a_lease_lasts_as_long_as_its_supervisor_says(watch: Watch, lease_s: float) -> None:
    watch.reports.append({"supervisor": "a", "lease_s": lease_s})
    watch.redis.renew("a", lease_s)
    watch.pass_time(lease_s - 1)
    assert not watch.redis.rescued
    watch.pass_time(3)
    assert watch.redis.rescued == ["a"], "within its own length and 2 s, whatever ours is"


def test_what_is_left_of_a_lapsed_supervisor_is_ended_before_its_runs_are_given_away(watch: Watch) -> None:
    watch.redis.renew("a")
    watch.pass_time(LEASE_S + 2)
    assert watch.presence.ended == watch.redis.rescued == ["a"]


def test_one_that_is_gone_is_taken_over_at_once_and_not_ended(watch: Watch) -> None:
    watch.redis.renew("a")
    watch.pass_time(2)
    watch.presence.absent.append("a")
    watch.pass_time(TICK_S)
    assert (watch.redis.rescued, watch.presence.ended) == (["a"], [])


class Busy(Leases):
    """Nothing ever ends here, and each call takes a while."""

    def poll(self, keeper: str, until_ms: int) -> PollResult:
        self.polls += 1
        return PollResult(True, dict(self.ends), 0, 0, 0, 1)

    def reapply_cancel_requests(self, cursor: Any = None) -> tuple[int, Any]:
        return self._takes("reapply_cancel_requests", (0, b"1"))

    def promote(self, limit: int) -> tuple[int, int | None]:
        return self._takes("promote", (limit, None))

    def expire(self, limit: int) -> tuple[int, int | None]:
        return self._takes("expire", (limit, None))

    def sweep(self, limit: int) -> tuple[int, int | None]:
        return self._takes("sweep", (limit, None))

    def rescue(self, supervisor: str, limit: int) -> Any:
        return self._takes("rescue", RescueResult(released=limit, is_over=False))

    def audit(self, cursor: Any = None) -> Any:
        return self._takes("audit", AuditResult((1, b"1")))

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def _takes(self, what: str, answer: Any) -> Any:
        self.now_s += 0.02
        self.calls.append(what)
        return answer


def test_no_duty_starves_another_and_a_round_ends_however_much_there_is(watch: Watch) -> None:
    busy = Busy()
    watch.rounds = make_rounds("k", busy, SupervisorReports(list), watch.presence, LEASE_S, busy.monotonic_s)  # type: ignore[arg-type]
    watch.presence.redis = busy
    watch.presence.absent = ["a", "b"]
    busy.renew("a")
    busy.renew("b")
    for _ in range(3):
        busy.calls.clear()
        began_s = busy.now_s
        assert watch.rounds.go() == 0.0, "there is more to do"
        assert busy.now_s - began_s < 2.0
        assert list(dict.fromkeys(busy.calls)) == [
            "rescue", "reapply_cancel_requests", "promote", "expire", "sweep", "audit"]


@pytest.mark.parametrize(("error", "words"), [
    (BrokerUnavailable("connection refused"), "Redis is away"),
    (BrokerError("WRONGTYPE Operation against a key holding the wrong kind of value"), "Redis cannot do")])
def test_a_redis_that_answers_is_not_called_away(watch: Watch, monkeypatch: pytest.MonkeyPatch,
                                                 caplog: pytest.LogCaptureFixture, error: BrokerError,
                                                 words: str) -> None:
    def poll(*asked: Any) -> Any:
        raise error

    monkeypatch.setattr(watch.redis, "poll", poll)
    watch.pass_time(5)
    (record,) = [record for record in caplog.records if record.name == "ganger.errors"]
    assert record.message.startswith(words)
    assert record.reason == str(error)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("refusal", "is_looked_for"), [("WRONGTYPE Operation against a key", True),
                                                        ("NOPERM this user has no permission", False)])
def test_keys_of_the_wrong_type_are_looked_for_only_where_redis_met_one(watch: Watch, refusal: str,
                                                                        is_looked_for: bool) -> None:
    watch.redis.refusal = ResponseError(refusal)
    watch.rounds.go()
    assert bool(watch.redis.moved_away) is is_looked_for
