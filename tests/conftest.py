"""Fixtures that all tests share: a real Redis, empty at the start of each test."""

import ctypes
import os
from collections.abc import Iterator

import hypothesis
import pytest

from tests.redis_server import RedisServer, binaries, embedded_binary, identity

# A busy machine is no failure; examples that are kept between runs would make two runs differ.
hypothesis.settings.register_profile("ganger", deadline=None, database=None)
hypothesis.settings.load_profile("ganger")

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

# For every engine and command that a test starts without a URL.
if embedded_binary() is not None:
    os.environ["GANGER_REDIS_BINARY"] = str(embedded_binary())


@pytest.fixture(autouse=True, scope="module")
def _no_orphans_for_later_modules() -> Iterator[None]:
    """A test may have this process adopt orphans; the tests after it see the processes that a user sees."""
    yield
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One server for the whole test run: the one that users get, unless TEST_REDIS names another."""
    server = RedisServer(binaries()[0])
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of an empty Redis."""
    with redis_server.client() as client:
        client.flushall()
    return redis_server.url


def _name(binary: str) -> str:
    _, name, (major, minor) = identity(binary)
    return f"{name}-{major}.{minor}".lower()


@pytest.fixture(scope="session", params=binaries(), ids=_name)
def any_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Each kind of server that TEST_REDIS names, one after the other."""
    server = RedisServer(request.param)
    yield server
    server.stop()
