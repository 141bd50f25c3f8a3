"""Servers and networks take their time: `./dev hosts` runs what is slow here, the test run only what is quick."""

import os

import pytest

SLOW = ("failover", "follow", "cut")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("SLOW_TESTS_OF_HOSTS"):
        return
    for item in items:
        if item.path.parent.name == "hosts" and any(word in item.name for word in SLOW):
            item.add_marker(pytest.mark.skip(reason="takes half a minute: ./dev hosts runs it"))
