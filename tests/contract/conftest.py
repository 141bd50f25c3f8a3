from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer
from tests.scripts.shop import Shop


@pytest.fixture
def shop(any_server: RedisServer) -> Iterator[Shop]:
    shop = Shop(any_server)
    yield shop
    shop.close()
