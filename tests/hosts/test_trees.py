"""Whole engines on several hosts: a link is cut and healed, a master dies; no task is lost, none runs twice at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import Client
from engine.adapters.redis.wire.addresses import SLOT
from engine.errors import BrokerError
from tests.hosts.servers import Cluster, Node, Sentinels, free_ports, until
from tests.hosts.trees import Ledger, Network, Tree, may_make_networks

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def network() -> Iterator[Network]:
    if not may_make_networks():
        pytest.skip("only root may make network namespaces")
    made = Network()
    yield made
    made.close()


def test_two_hosts_and_the_link_of_one_is_cut_and_healed(network: Network, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    redis = Node(port, {}, host=network.host)
    url = f"redis://{network.host}:{port}"
    names = [network.join(), network.join()]
    trees = [Tree(host, url, tmp_path, name) for host, name in zip(("a", "b"), names, strict=True)]
    try:
        with Client(url) as client:
            ledger = Ledger(client, tmp_path)
            ledger.workers(2)
            ledger.submit(2, seconds=30)  # they outlast the cut, wherever they run
            ledger.submit(2, seconds=30)
            until(lambda: ledger.begun() == 4)  # two on each host, which has two workers
            network.cut(names[0])
            ledger.workers(1)
            until(lambda: client.counters().get("rescued", 0) >= 2)
            ledger.submit(20)
            network.heal(names[0])
            ledger.workers(2)
            ledger.submit(20)
            ledger.check(150)
            moved = [task_id for task_id in ledger.ids if len(client.outcomes(task_id)) > 1]
            assert len(moved) == client.counters()["rescued"] == 2, "those that ran on the other side of the cut"
    finally:
        for tree in trees:
            tree.stop()
        redis.stop()


def follow(servers: Sentinels | Cluster, tmp_path: Path) -> None:
    """An engine through a failover: what was submitted and replicated before it is done, and work goes on."""
    tree = Tree("a", servers.url, tmp_path)
    try:
        with Client(servers.url) as client:
            ledger = Ledger(client, tmp_path)
            ledger.workers(1)
            ledger.submit(20, seconds=0.3)
            until(lambda: ledger.running_on("a"))
            servers.fail_over()
            until(lambda: _submitted(ledger))
            ledger.check()
    finally:
        tree.stop()


def _submitted(ledger: Ledger) -> bool:
    """Not before the Sentinels, or the nodes, agree about the new master."""
    try:
        return len(ledger.submit(10)) == 10
    except BrokerError:
        return False


def test_an_engine_survives_the_failover_of_sentinels(tmp_path: Path) -> None:
    servers = Sentinels()
    try:
        follow(servers, tmp_path)
    finally:
        servers.stop()


def test_an_engine_survives_the_failover_of_a_cluster_node(tmp_path: Path) -> None:
    servers = Cluster(SLOT)
    try:
        follow(servers, tmp_path)
    finally:
        servers.stop()
