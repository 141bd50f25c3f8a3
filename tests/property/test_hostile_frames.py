"""Whatever a worker writes to its pipe, or comes over the wire to a pool, ends in a refusal at most: never in a crash.

A handler runs in its worker with all of the worker's descriptors: it can write anything there.
"""

from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from engine.adapters.process.pool.forensics import OutputTail
from engine.adapters.process.pool.worker_messages import WorkerMessages
from engine.core.worker import frames
from engine.core.worker.frames import FRAME_HEAD, Joiner, ProtocolError, Remainder
from engine.ports.host import Grown, Logged, Progressed, Replied, Spilled, Waits
from engine.ports.supervisor_broker import Stepped
from tests.property.test_hostile_records import JSON
from tests.unit.services.pool.pool_harness import RECORD, A, PoolHarness

MANY = settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
BYTES = some.binary(max_size=60)
BODIES = BYTES | JSON.map(orjson.dumps) | some.just(b'{"error":null}') | some.just(b'{"error":{}}')
KINDS = some.sampled_from([frames.BOOTED, frames.REPLIED, frames.PROGRESS, frames.LOG, frames.GROWN,
                           frames.WAITING, b"?", b"\0"])
WORDS = some.sampled_from([*frames.VERDICTS, b"?", b"-", b"\xff"])
HEADS = some.builds(FRAME_HEAD.pack, some.integers(0, 2**32 - 1) | some.integers(0, 80), KINDS,
                    some.integers(0, 2**32 - 1), WORDS, some.integers(0, 2**32 - 1))
STREAMS = some.lists(BYTES | HEADS | some.builds(frames.frame, KINDS, some.integers(0, 9), BODIES, WORDS), max_size=6)
PIECES = some.tuples(some.sampled_from([frames.FIRST, frames.FURTHER, frames.LAST]),
                     some.integers(0, 3).map(lambda number: number.to_bytes(4, "little")), BYTES).map(b"".join)
PACKETS = some.lists(BYTES | PIECES, max_size=8)
CLAIMS = some.tuples(BYTES, BYTES | some.just(RECORD), BYTES | some.sampled_from([b"1 0 0", b"2 9 9"]))


@MANY
@given(STREAMS)
def test_a_stream_of_frames_is_read_or_refused(parts: list[bytes]) -> None:
    messages: Any = WorkerMessages.__new__(WorkerMessages)
    messages._slot, messages._events, messages._remainder, messages.tail = 0, [], Remainder(), OutputTail()
    messages._booted = lambda: None
    try:
        for part in parts:
            messages._take_frames(messages._remainder.join(part))
    except ProtocolError:
        return
    assert isinstance(messages.tail.of(1), str)
    assert all(type(event) in (Replied, Logged, Progressed, Grown, Waits) for event in messages._events)


@MANY
@given(PACKETS)
def test_packets_are_joined_or_refused(packets: list[bytes]) -> None:
    joiner = Joiner()
    for packet in packets:
        try:
            message = joiner.feed(packet)
        except ProtocolError:
            return
        assert message is None or isinstance(message, bytes)
    messages, begun = frames.sort_taken(packets)
    assert len(messages) + len(begun) <= len(packets)


@MANY
@given(some.lists(some.tuples(WORDS, BODIES, some.booleans()), min_size=1, max_size=3))
def test_a_pool_bears_every_reply(replies: list[tuple[bytes, bytes, bool]]) -> None:
    harness = PoolHarness()
    harness.answer(A, RECORD, b"1 0 0")
    for verdict, outcome, cancelled in replies:
        if cancelled:
            harness.pool.core.cancel(A, "why", harness.now_s)
        if not harness.pool.core.slots[0].runs:
            break
        harness.host.happened = [harness.reply(0, verdict, outcome), Progressed(0, 1, outcome), Logged(0, 1, outcome),
                               Spilled(0, outcome.decode(errors="replace"), 3)]
        harness.turn()
    assert all(isinstance(end.outcome, bytes) for end in harness.settled())


@MANY
@given(some.lists(CLAIMS, max_size=3), some.lists(BODIES, max_size=3))
def test_a_pool_bears_every_claim_and_command(claimed: list[tuple[bytes, bytes, bytes]], commands: list[bytes]) -> None:
    harness = PoolHarness()
    flat = [part for one in claimed for part in one]
    harness.broker.happened.append(Stepped([], flat, False, commands, len(claimed), harness.now_s))
    harness.turn()
    harness.turn()
