"""The network to Redis. Each connection keeps its order. Between connections there is no order, and each may be cut.

What a cut connection carried is lost, or reaches Redis all the same: late, in its order, and nobody gets the answer.
"""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from engine.ports.supervisor_broker import BrokerEvent, Parted, Settlement
from engine.testing.model import ReferenceModel
from tests.world.clock import RedisTime, Timeline

if TYPE_CHECKING:
    from tests.world.brokers import WorldBroker


class Network:
    """Redis and the connections to it. `slowness`: seconds that a rare message may take."""

    def __init__(self, timeline: Timeline, random: Random, model: ReferenceModel, slowness: float) -> None:
        self.timeline, self.random, self.model, self.slowness = timeline, random, model, slowness
        self.redis_ms = RedisTime(timeline)
        self.silent_until_s = 0.0  # Redis is stopped: it neither reads nor answers
        self.down_until_s = 0.0  # it is not there
        self.full_until_s = 0.0  # it refuses what may grow
        self.loading_until_s = 0.0  # it refuses everything
        self.partitioned_until_s: dict[str, float] = {}  # host -> until when nothing passes
        self.connections: dict[str, Connection] = {}  # supervisor -> its open connection
        self.keepers: list[Callable[[], None]] = []

    def delay_s(self) -> float:
        return self.random.uniform(0, 0.001) if self.random.random() < 0.9 else self.random.uniform(0, self.slowness)

    def reachable_s(self, host: str) -> float:
        """When a message that this host sends now would reach Redis."""
        return max(self.timeline.now_s, self.silent_until_s, self.partitioned_until_s.get(host, 0.0))

    @property
    def is_down(self) -> bool:
        return self.timeline.now_s < self.down_until_s

    @property
    def is_full(self) -> bool:
        return self.timeline.now_s < self.full_until_s

    @property
    def is_loading(self) -> bool:
        return self.timeline.now_s < self.loading_until_s

    @property
    def takes_writes(self) -> bool:
        return not (self.is_down or self.is_full or self.is_loading)

    def restart(self, for_s: float) -> None:
        self.down_until_s = self.timeline.now_s + for_s
        for connection in list(self.connections.values()):
            connection.cut("Redis was restarted", late=False)

    def heal(self) -> None:
        self.silent_until_s = self.down_until_s = self.full_until_s = self.loading_until_s = 0.0
        self.partitioned_until_s.clear()

    def notify(self, supervisor: str, event: BrokerEvent) -> bool:
        """Publish to a supervisor; say whether it listens."""
        connection = self.connections.get(supervisor)
        if connection is None:
            return False
        connection.answer(event)
        return True

    def notify_keepers(self) -> None:
        for wake in self.keepers:
            self.timeline.after(self.delay_s(), wake)


class Connection:
    """One connection of a supervisor."""

    def __init__(self, net: Network, host: str, broker: "WorldBroker") -> None:
        self.net, self.host, self.broker = net, host, broker
        self.is_cut = False
        self.late = False
        self.unanswered: list[tuple[float, list[Settlement]]] = []
        self._sent_s = self._answered_s = 0.0
        self._there: deque[Callable[[], BrokerEvent | None]] = deque()  # on their way, in the order in which they go
        self._back: deque[tuple[BrokerEvent | None, bool]] = deque()
        net.connections[broker.supervisor] = self

    def send(self, settlements: list[Settlement], do: Callable[[], BrokerEvent | None]) -> None:
        self.unanswered.append((self.net.timeline.now_s, settlements))
        self._sent_s = max(self._sent_s + 1e-9, self.net.timeline.now_s + self.net.delay_s())
        self._there.append(do)
        self.net.timeline.at(self._sent_s, self._arrive)

    def answer(self, event: BrokerEvent | None, *, is_reply: bool = False) -> None:
        self._answered_s = max(self._answered_s + 1e-9, self.net.timeline.now_s + self.net.delay_s())
        self._back.append((event, is_reply))
        self.net.timeline.at(self._answered_s, self._come_back)

    def cut(self, reason: str, *, late: bool | None = None) -> None:
        """Cut the connection; the supervisor notices at once."""
        if self.is_cut:
            return
        self.is_cut, self.late = True, self.net.random.random() < 0.5 if late is None else late
        if self.net.connections.get(self.broker.supervisor) is self:
            del self.net.connections[self.broker.supervisor]
        unsettled = [one for _, settlements in self.unanswered for one in settlements]
        self.broker.parted(Parted(reason, unsettled))

    def _arrive(self) -> None:
        """Redis executes the first message that is under way; later, while nothing gets through."""
        net = self.net
        if self.is_cut:
            if not self.late:
                return
            if net.random.random() < 0.5:  # the first waits, and those behind it with it
                self._sent_s = max(self._sent_s, net.timeline.now_s) + 1e-9
        reachable_s = net.reachable_s(self.host)
        if reachable_s > net.timeline.now_s or net.is_down:
            net.timeline.at(max(reachable_s, net.down_until_s), self._arrive)
            return
        event = self._there.popleft()()
        if not self.is_cut:
            self.answer(event, is_reply=True)

    def _come_back(self) -> None:
        reachable_s = self.net.reachable_s(self.host)
        if self.is_cut:
            return
        if reachable_s > self.net.timeline.now_s:
            self.net.timeline.at(reachable_s, self._come_back)
            return
        event, is_reply = self._back.popleft()
        if is_reply:
            self.unanswered.pop(0)
        if event is not None:
            self.broker.heard(event)
