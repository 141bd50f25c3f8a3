"""Redis is lost in each of the ways that there are, and work goes on by itself. `./dev chaos --outages 60` loses it for
longer, and prints how soon."""

from collections.abc import Iterator

import pytest

from tests.chaos.outages import LOSSES, Outages

LOST_S = 0.8
BACK_S_MAX = 20.0  # it is promised within 5 s, on a machine that has nothing else to do

pytestmark = pytest.mark.timeout(150)


@pytest.fixture(scope="module")
def outages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outages]:
    outages = Outages(tmp_path_factory.mktemp("outages"))
    yield outages
    outages.close()


@pytest.mark.parametrize("loss", LOSSES)
def test_work_goes_on_by_itself(outages: Outages, loss: str) -> None:
    if reason := outages.why_not(loss):
        pytest.skip(reason)
    recovery = outages.lose(loss, LOST_S)
    print(f"{loss}: {recovery}")
    assert recovery.longest_s < BACK_S_MAX
