"""The words between pool and workers: whatever is written is read again, however it is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.worker import frames
from engine.core.worker.frames import (
    FIRST,
    FRAME_HEAD,
    FURTHER,
    LAST,
    PACKET_BYTES_MAX,
    Joiner,
    ProtocolError,
    Remainder,
)

MESSAGES = st.lists(st.one_of(
    st.just(frames.QUIT),
    st.builds(lambda token, size: frames.task(token, 1, 0, 0.5, b"0" * 19, b"r" * size),
              st.integers(0, frames.TOKEN_MAX), st.one_of(st.integers(0, 100), st.integers(4000, 20_000)))), max_size=6)


def test_a_task_says_who_it_is() -> None:
    message = frames.task(7, 2, 1, 1.5, b"0123456789ABCDEFGHJ", b"record")
    assert frames.TASK_HEAD.unpack_from(message) == (b"T", 7, 2, 1, 1.5, b"0123456789ABCDEFGHJ")
    assert message[frames.TASK_HEAD.size :] == b"record"
    assert frames.token_of(message) == 7


@given(MESSAGES)
def test_pieces_are_packets_and_join_to_what_they_were(messages: list[bytes]) -> None:
    joiner, joined = Joiner(), []
    for message in messages:
        packets = frames.pieces(message)
        assert all(0 < len(packet) <= PACKET_BYTES_MAX for packet in packets)
        assert (len(packets) == 1) is (len(message) <= PACKET_BYTES_MAX)
        joined.extend(whole for packet in packets if (whole := joiner.feed(packet)) is not None)
    assert joined == messages


@given(MESSAGES, st.data())
def test_what_is_taken_back_and_what_stays_are_all_there_is(messages: list[bytes], data: st.DataObject) -> None:
    """The reader has read some packets, the rest is taken: each message goes to one of the two, whole."""
    packets = [packet for message in messages for packet in frames.pieces(message)]
    cut = data.draw(st.integers(0, len(packets)))
    joiner = Joiner()
    read = [whole for packet in packets[:cut] if (whole := joiner.feed(packet)) is not None]
    taken, begun = frames.sort_taken(packets[cut:])
    read.extend(whole for packet in begun if (whole := joiner.feed(packet)) is not None)
    assert read + taken == messages


def test_a_message_torn_between_two_readers_is_found_by_its_token() -> None:
    message = frames.task(9, 1, 0, 0.0, b"0" * 19, b"r" * 20_000)
    packets = frames.pieces(message)
    taken, begun = frames.sort_taken([packets[0], packets[3]])
    assert (len(taken), begun) == (1, [])
    assert frames.token_of(taken[0]) == 9
    joiner = Joiner()
    assert [joiner.feed(packet) for packet in (packets[1], packets[2], packets[4])] == [None] * 3
    assert joiner.feed(frames.QUIT) == frames.QUIT


@given(st.data())
def test_pieces_that_were_given_back_may_come_in_any_order(data: st.DataObject) -> None:
    message = b"T" + bytes(range(250)) * 100
    first, *others = frames.pieces(message)
    joiner = Joiner()
    joiner.feed(first)
    *most, last = (joiner.feed(packet) for packet in data.draw(st.permutations(others)))
    assert most == [None] * len(most)
    assert last == message
    assert joiner.feed(frames.QUIT) == frames.QUIT


@pytest.mark.parametrize("number", [0, 1])
def test_a_piece_that_comes_twice_is_an_error(number: int) -> None:
    cut = frames.pieces(b"x" * 20_000)
    joiner = Joiner()
    joiner.feed(cut[0])
    joiner.feed(cut[1])
    with pytest.raises(ProtocolError):
        joiner.feed(cut[number])


def test_a_message_amid_the_pieces_of_another_is_an_error() -> None:
    joiner = Joiner()
    joiner.feed(frames.pieces(b"x" * 20_000)[0])
    with pytest.raises(ProtocolError):
        joiner.feed(frames.QUIT)


def test_a_message_without_an_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "BYTES_MAX", 10_000)
    joiner = Joiner()
    with pytest.raises(ProtocolError):
        list(map(joiner.feed, frames.pieces(b"x" * 40_000)))


def test_pieces_are_told_from_messages_by_their_first_byte() -> None:
    assert len({frames.TASK, frames.QUIT, FIRST, FURTHER, LAST}) == 5


@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_frames_are_read_again_however_the_stream_is_cut(bodies: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(frames.frame(frames.LOG, number, body) for number, body in enumerate(bodies))
    remainder, read = Remainder(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found = remainder.join(stream[:size])
        stream = stream[size:]
        start = 0
        while len(found) - start >= FRAME_HEAD.size:
            length, kind, token, verdict, _ = FRAME_HEAD.unpack_from(found, start)
            after = start + FRAME_HEAD.size + length
            if after > len(found):
                break
            assert (kind, verdict) == (frames.LOG, b"-")
            read.append((token, found[start + FRAME_HEAD.size : after]))
            start = after
        remainder.keep(found, start)
    assert read == list(enumerate(bodies))


def test_a_frame_too_long_to_be_one_is_an_error() -> None:
    with pytest.raises(ProtocolError):
        Remainder().keep(FRAME_HEAD.pack(frames.BYTES_MAX + 1, b"R", 1, b"C", 0), 0)


def test_a_run_of_hours_does_not_overflow_its_field() -> None:
    encoded = frames.frame(frames.REPLIED, 1, b"{}", frames.COMPLETED, 10**12)
    assert FRAME_HEAD.unpack_from(encoded)[4] == frames.WALL_US_MAX
    assert set(frames.VERDICTS) == {b"C", b"E", b"F", b"A", b"X", b"S", b"I", b"U"}


@pytest.mark.parametrize("packets", [[b"<"], [b"<\0\0\0\0x", b"+\3\0\0\0y", b".\2\0\0\0z"]])
def test_pieces_that_cannot_be_of_one_message_are_an_error(packets: list[bytes]) -> None:
    joiner = Joiner()
    with pytest.raises(ProtocolError):
        list(map(joiner.feed, packets))
