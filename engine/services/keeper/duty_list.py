"""What a keeper does, in the order of importance. A new duty is a class in `duties` and a line here."""

import time
from collections.abc import Callable, Sequence

from engine.ports.keeper_broker import KeeperBroker
from engine.services.keeper.duties.audit import Audit
from engine.services.keeper.duties.due_tasks import CancelRequests, Expiry, Promotion, Removal
from engine.services.keeper.duties.duty import Duty, Refusals
from engine.services.keeper.duties.rescue import Rescue
from engine.services.keeper.presence import SupervisorPresence
from engine.services.keeper.reports import SupervisorReports
from engine.services.keeper.rounds import Rounds


def make_rounds(name: str, broker: KeeperBroker, reports: SupervisorReports, presence: SupervisorPresence,
                lease_s: float, monotonic_s: Callable[[], float] = time.monotonic,
                more: Sequence[Duty] = ()) -> Rounds:
    """Make the rounds of a keeper.

    Args:
        name: of this keeper, among all that run.
        lease_s: how long the lease of a supervisor lasts that does not say so.
        monotonic_s: a clock, in seconds.
        more: duties that need more than the keeper's broker; they come last.
    """
    refusals = Refusals(monotonic_s)
    audit = Audit(broker, monotonic_s)
    refusals.listeners.append(audit.on_refusal)
    duties: list[Duty] = [
        Rescue(broker, reports, presence, lease_s, refusals, monotonic_s),
        CancelRequests(broker, monotonic_s),
        Promotion(broker, monotonic_s),
        Expiry(broker, monotonic_s),
        Removal(broker, monotonic_s),
        audit,
        *more,
    ]
    return Rounds(name, broker, duties, refusals, monotonic_s)
