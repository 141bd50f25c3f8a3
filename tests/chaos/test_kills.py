"""Each process of the tree killed with -9, at the phases of its life that differ most. `./dev kills` does it a thousand
times, at all of them."""

from collections.abc import Iterator

import pytest

from tests.chaos.engine_harness import EngineHarness
from tests.chaos.kills import SCENARIOS, Kills

CHOSEN = ("worker_booting", "worker_receiving", "worker_running", "worker_sending", "worker_dying", "server_running",
          "server_booting", "pool_running", "pool_sending", "pool_dying", "keeper_running", "root_running")

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def kills(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kills]:
    harness = EngineHarness(tmp_path_factory.mktemp("kills") / "log")
    harness.start()
    yield Kills(harness, seed=1)
    harness.close()


@pytest.mark.parametrize("name", CHOSEN)
def test_after_a_kill_the_tree_is_whole_and_every_task_ends_once(kills: Kills, name: str) -> None:
    assert name in SCENARIOS
    getattr(kills, name)()
    kills.harness.await_whole()
