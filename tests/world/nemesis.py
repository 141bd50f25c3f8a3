"""Injects faults into a world. The seed chooses which, when, and for how long."""

from collections.abc import Callable
from random import Random

from tests.world.ledger import ENDS, Ledger
from tests.world.network import Network
from tests.world.tree import KeeperProcess, Machine, PoolProcess


class Nemesis:
    """`pause_s_mean`: seconds between two faults, on average."""

    def __init__(self, net: Network, ledger: Ledger, random: Random, machines: list[Machine], pools: list[PoolProcess],
                 keepers: list[KeeperProcess], pause_s_mean: float, *, is_local: bool) -> None:
        self.net, self.ledger, self.random, self.pause_s_mean = net, ledger, random, pause_s_mean
        self.machines, self.pools, self.keepers = machines, pools, keepers
        faults: list[Callable[[], str]] = [
            self.kill_worker, self.kill_worker, self.stop_worker, self.kill_server, self.kill_pool, self.stop_pool,
            self.drain_pool, self.deploy, self.kill_keeper, self.stop_keeper, self.silence_redis, self.restart_redis,
            self.fill_redis, self.load_redis, self.cut_connection, self.cut_connection, self.set_redis_clock]
        if is_local:
            faults += [self.stop_tree, self.stop_tree]
        else:
            faults += [self.partition_host, self.freeze_host]
        # Each world has favourites, so that faults of one kind overlap.
        self.faults = random.sample(faults, random.randint(2, len(faults)))

    def inject_until(self, end_s: float) -> None:
        pause_s = self.random.expovariate(1 / self.pause_s_mean)
        if self.net.timeline.now_s + pause_s < end_s:
            self.net.timeline.after(pause_s, self._inject, end_s)

    def _inject(self, end_s: float) -> None:
        fault = self.random.choice(self.faults)
        self.ledger.count(fault.__name__)
        self.ledger.trace(f"nemesis: {fault.__name__} {fault()}")
        self.inject_until(end_s)

    def _for_s(self, most_s: float) -> float:
        return self.random.choice([self.random.uniform(0, 1), self.random.uniform(0, most_s)])

    def _note_suspension(self, machine: Machine, for_s: float) -> None:
        now_s = self.net.timeline.now_s
        self.ledger.suspensions.append((machine.name, now_s, now_s + for_s))

    # -- processes ------------------------------------------------------------------------------------------------

    def kill_worker(self) -> str:
        pool = self.random.choice(self.pools)
        pool.host.kill_worker()
        return pool.name

    def stop_worker(self) -> str:
        pool, for_s = self.random.choice(self.pools), self._for_s(30)
        pool.host.stop_worker(for_s)
        return f"{pool.name} for {for_s:.1f} s"

    def kill_server(self) -> str:
        pool = self.random.choice(self.pools)
        pool.host.kill_server()
        return pool.name

    def kill_pool(self) -> str:
        pool = self.random.choice(self.pools)
        pool.kill()
        return pool.name

    def stop_pool(self) -> str:
        pool, for_s = self.random.choice(self.pools), self._for_s(40)
        pool.stop_for(for_s)
        self._note_suspension(pool.machine, for_s)
        return f"{pool.name} for {for_s:.1f} s"

    def stop_tree(self) -> str:
        """Stop root and pool, but not the workers. Only a keeper on the same kernel can end the runs."""
        pool, for_s = self.random.choice(self.pools), self._for_s(60)
        super(type(pool), pool).stop_for(for_s)
        return f"{pool.name} for {for_s:.1f} s"

    def drain_pool(self) -> str:
        pool = self.random.choice(self.pools)
        pool.drain()
        return pool.name

    def deploy(self) -> str:
        """Replace the code by one that can run some of the types, or none."""
        pool = self.random.choice(self.pools)
        pool.deployed = frozenset(self.random.sample(sorted(ENDS), self.random.randint(0, len(ENDS))))
        (pool.drain if self.random.random() < 0.7 else pool.kill)()
        return f"{pool.name} with {' '.join(sorted(pool.deployed)) or 'nothing'}"

    def kill_keeper(self) -> str:
        keeper = self.random.choice(self.keepers)
        keeper.kill()
        return keeper.machine.name

    def stop_keeper(self) -> str:
        keeper, for_s = self.random.choice(self.keepers), self._for_s(40)
        keeper.stop_for(for_s)
        return f"{keeper.machine.name} for {for_s:.1f} s"

    def freeze_host(self) -> str:
        """Suspend a virtual machine: no process on it runs, and none notices."""
        machine, for_s = self.random.choice(self.machines), self._for_s(60)
        self._note_suspension(machine, for_s)
        for process in (*self.pools, *self.keepers):
            if process.machine is machine:
                super(type(process), process).stop_for(for_s)
        for pool in self.pools:
            if pool.machine is machine:
                for worker in pool.host.workers.values():
                    worker.stopped_until_s = self.net.timeline.now_s + for_s
        return f"{machine.name} for {for_s:.1f} s"

    # -- Redis ----------------------------------------------------------------------------------------------------

    def silence_redis(self) -> str:
        for_s = self._for_s(60)
        self.net.silent_until_s = self.net.timeline.now_s + for_s
        return f"for {for_s:.1f} s"

    def restart_redis(self) -> str:
        for_s = self._for_s(20)
        self.net.restart(for_s)
        return f"for {for_s:.1f} s"

    def fill_redis(self) -> str:
        for_s = self._for_s(20)
        self.net.full_until_s = self.net.timeline.now_s + for_s
        return f"for {for_s:.1f} s"

    def load_redis(self) -> str:
        """Restart Redis; it refuses every call while it loads its file."""
        for_s = self._for_s(5)
        self.net.restart(0.05)
        self.net.loading_until_s = self.net.timeline.now_s + 0.05 + for_s
        return f"for {for_s:.1f} s"

    def cut_connection(self) -> str:
        if not self.net.connections:
            return "nobody's"
        name = self.random.choice(sorted(self.net.connections))
        self.net.connections[name].cut("killed by an operator")
        return name

    def partition_host(self) -> str:
        machine, for_s = self.random.choice(self.machines), self._for_s(40)
        self.net.partitioned_until_s[machine.name] = self.net.timeline.now_s + for_s
        return f"{machine.name} for {for_s:.1f} s"

    def set_redis_clock(self) -> str:
        by_ms = self.random.choice([1, -1]) * self.random.choice([2_000, 30_000, 600_000])
        self.net.redis_ms.jumped_ms += by_ms
        return f"by {by_ms} ms"
