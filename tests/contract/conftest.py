from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer
from tests.scripts.broker_rig import BrokerRig


@pytest.fixture
def rig(any_server: RedisServer) -> Iterator[BrokerRig]:
    rig = BrokerRig(any_server)
    yield rig
    rig.close()
