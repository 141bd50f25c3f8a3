"""How cores are dealt to workers, and how workers move when others come and go."""

import random

import pytest

from engine.core.pool.cpu_shares import Shares, deal


@pytest.mark.parametrize(("cores", "slots", "sizes"), [(8, 4, [2, 2, 2, 2]), (10, 4, [3, 3, 2, 2]), (2, 5, [1, 1]),
                                                       (4, 1, [4]), (1, 1, [1])])
def test_all_cores_are_dealt_in_nearly_equal_shares(cores: int, slots: int, sizes: list[int]) -> None:
    dealt = deal(range(cores), slots)
    assert [len(share) for share in dealt] == sizes
    assert sorted(core for share in dealt for core in share) == list(range(cores))


def test_each_worker_gets_a_share_of_its_own_while_there_are_any() -> None:
    shares = Shares(deal([4, 5, 6, 7], 2))
    assert [shares.take(slot) for slot in (0, 1)] == [[4, 5], [6, 7]]
    assert shares.take(2) == [4, 5], "one more than there are shares"


def test_a_successor_leaves_no_share_empty() -> None:
    """It is there before the worker that it replaces goes, and cannot know which share becomes free."""
    shares = Shares(deal([0, 1], 2))
    shares.take(0), shares.take(1)
    assert shares.take(2) == [0]
    assert shares.give_back(1) == (2, [1])
    assert shares.give_back(0) is None
    assert shares.take(0) == [0]


def test_however_they_come_and_go_no_share_has_two_more_than_another() -> None:
    chance, shares, alive, at = random.Random(7), Shares(deal(range(6), 3)), [], {}
    for slot in range(300):
        if alive and chance.random() < 0.5:
            gone = alive.pop(chance.randrange(len(alive)))
            del at[gone]
            moved = shares.give_back(gone)
            if moved is not None:
                at[moved[0]] = tuple(moved[1])
        else:
            alive.append(slot)
            at[slot] = tuple(shares.take(slot))
        sizes = [list(at.values()).count(share) for share in deal(range(6), 3)]
        assert max(sizes) - min(sizes) < 2
