"""What the keeper makes of what is rung for it: anybody who reaches Redis may ring."""

import pytest

from engine.adapters.clock import RedisClock
from engine.adapters.poller import EpollPoller
from engine.adapters.redis.keeper.keeper_broker import RedisKeeperBroker
from engine.adapters.redis.tasks.broker import RedisClientBroker
from engine.adapters.redis.wire.supervisor_link import Pushed, SupervisorLink
from engine.config import Settings
from engine.services.bootstrap import Bootstrap
from engine.services.keeper.duty_list import make_rounds
from engine.services.keeper.presence import SupervisorPresence
from engine.services.keeper.process import KeeperLoop, make_loop
from engine.services.keeper.reports import SupervisorReports
from engine.services.keeper.sampling import ProcessSampler

SOON_S = 60.0


class Ringing:
    """A keeper that is only rung for."""

    def __init__(self) -> None:
        poller, broker = EpollPoller(), RedisClientBroker("redis://127.0.0.1:1")
        keeping, reports = RedisKeeperBroker(broker), SupervisorReports(list)
        self.told: list[object] = []
        self.wakeup_link = SupervisorLink("redis://127.0.0.1:1", "wakeup", RedisClock(), poller)
        sampler = ProcessSampler(lambda *sample: None, 1.0, self.wakeup_link.clock.now_ms)
        self.loop = KeeperLoop(make_rounds("k", keeping, reports, SupervisorPresence(reports), 15.0), sampler, broker,
                               self.wakeup_link, poller, self.told.append)

    def ring(self, message: bytes) -> float:
        """Ring, and return in how many seconds it goes its next round."""
        self.loop._round_s = SOON_S
        self.loop._ring(message, 0.0)
        return self.loop._round_s


def test_the_setting_of_rescues_reaches_the_keeper() -> None:
    settings = Settings(redis_url="redis://127.0.0.1:1", max_rescues=7)
    loop = make_loop("keeper", Bootstrap(settings=settings), EpollPoller(), lambda message: None)
    assert isinstance(loop.rounds.broker, RedisKeeperBroker)
    assert loop.rounds.broker._rescues_max == 7


@pytest.mark.parametrize("message", [b"9" * 5000, b"9" * 15, b"", b"-1", b"1e5", "\u0665".encode(), b"\xff", b"0"])
def test_whatever_names_no_moment_rings_for_now(message: bytes) -> None:
    assert Ringing().ring(message) == 0.0


def test_a_moment_is_waited_for() -> None:
    ringing = Ringing()
    in_s = ringing.ring(b"%d" % (ringing.loop.wakeup_link.clock.now_ms() + 20_000))
    assert in_s == pytest.approx(20, abs=5)
    assert ringing.ring(b"9" * 14) == SOON_S


@pytest.mark.parametrize("order", [b"", b"{", b"[1]", b"7", b"[" * 20_000, b"{}" * 9000])
def test_an_order_that_makes_no_sense_is_not_handed_on(order: bytes) -> None:
    ringing = Ringing()
    ringing.loop.wakeup_link._events.append(Pushed(b"control " + order))
    ringing.loop._hand_on(order)
    assert not ringing.told
