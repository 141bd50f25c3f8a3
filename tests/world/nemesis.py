"""What is done to a world to break its promises, each at a moment and for a time that the seed has chosen."""

from collections.abc import Callable
from random import Random

from tests.world.ledger import ENDS, Ledger
from tests.world.network import Network
from tests.world.tree import KeeperProcess, Machine, PoolProcess


class Nemesis:
    """`often_s` is the mean pause between two blows."""

    def __init__(self, net: Network, ledger: Ledger, chance: Random, machines: list[Machine], pools: list[PoolProcess],
                 keepers: list[KeeperProcess], often_s: float, *, is_local: bool) -> None:
        self.net, self.ledger, self.chance, self.often_s = net, ledger, chance, often_s
        self.machines, self.pools, self.keepers = machines, pools, keepers
        blows: list[Callable[[], str]] = [
            self.kill_worker, self.kill_worker, self.stop_worker, self.kill_server, self.kill_pool, self.stop_pool,
            self.drain_pool, self.deploy, self.kill_keeper, self.stop_keeper, self.silence_redis, self.restart_redis,
            self.fill_redis, self.load_redis, self.cut_connection, self.cut_connection, self.set_redis_clock]
        if is_local:
            blows += [self.stop_tree, self.stop_tree]
        else:
            blows += [self.part_host, self.freeze_host]
        # Each world has favourites, so that one kind of trouble meets itself.
        self.blows = chance.sample(blows, chance.randint(2, len(blows)))

    def strike_until(self, end_s: float) -> None:
        pause_s = self.chance.expovariate(1 / self.often_s)
        if self.net.timeline.now_s + pause_s < end_s:
            self.net.timeline.after(pause_s, self._strike, end_s)

    def _strike(self, end_s: float) -> None:
        blow = self.chance.choice(self.blows)
        self.ledger.count(blow.__name__)
        self.ledger.trace(f"nemesis: {blow.__name__} {blow()}")
        self.strike_until(end_s)

    def _for_s(self, most_s: float) -> float:
        return self.chance.choice([self.chance.uniform(0, 1), self.chance.uniform(0, most_s)])

    def _stand_still(self, machine: Machine, for_s: float) -> None:
        now_s = self.net.timeline.now_s
        self.ledger.stood_still.append((machine.name, now_s, now_s + for_s))

    # -- processes ------------------------------------------------------------------------------------------------

    def kill_worker(self) -> str:
        pool = self.chance.choice(self.pools)
        pool.host.kill_worker()
        return pool.name

    def stop_worker(self) -> str:
        pool, for_s = self.chance.choice(self.pools), self._for_s(30)
        pool.host.stop_worker(for_s)
        return f"{pool.name} for {for_s:.1f} s"

    def kill_server(self) -> str:
        pool = self.chance.choice(self.pools)
        pool.host.kill_server()
        return pool.name

    def kill_pool(self) -> str:
        pool = self.chance.choice(self.pools)
        pool.kill()
        return pool.name

    def stop_pool(self) -> str:
        pool, for_s = self.chance.choice(self.pools), self._for_s(40)
        pool.stop_for(for_s)
        self._stand_still(pool.machine, for_s)
        return f"{pool.name} for {for_s:.1f} s"

    def stop_tree(self) -> str:
        """Root and pool, and not the workers: nobody of it can end its runs, but a keeper of the same kernel can."""
        pool, for_s = self.chance.choice(self.pools), self._for_s(60)
        super(type(pool), pool).stop_for(for_s)
        return f"{pool.name} for {for_s:.1f} s"

    def drain_pool(self) -> str:
        pool = self.chance.choice(self.pools)
        pool.drain()
        return pool.name

    def deploy(self) -> str:
        """Other code, which can run some of the types, or none."""
        pool = self.chance.choice(self.pools)
        pool.deployed = frozenset(self.chance.sample(sorted(ENDS), self.chance.randint(0, len(ENDS))))
        (pool.drain if self.chance.random() < 0.7 else pool.kill)()
        return f"{pool.name} with {' '.join(sorted(pool.deployed)) or 'nothing'}"

    def kill_keeper(self) -> str:
        keeper = self.chance.choice(self.keepers)
        keeper.kill()
        return keeper.machine.name

    def stop_keeper(self) -> str:
        keeper, for_s = self.chance.choice(self.keepers), self._for_s(40)
        keeper.stop_for(for_s)
        return f"{keeper.machine.name} for {for_s:.1f} s"

    def freeze_host(self) -> str:
        """A virtual machine that is suspended: nothing on it runs, and nothing on it knows."""
        machine, for_s = self.chance.choice(self.machines), self._for_s(60)
        self._stand_still(machine, for_s)
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
        """It restarts, and refuses everything while it reads its file."""
        for_s = self._for_s(5)
        self.net.restart(0.05)
        self.net.loading_until_s = self.net.timeline.now_s + 0.05 + for_s
        return f"for {for_s:.1f} s"

    def cut_connection(self) -> str:
        if not self.net.connections:
            return "nobody's"
        name = self.chance.choice(sorted(self.net.connections))
        self.net.connections[name].cut("killed by an operator")
        return name

    def part_host(self) -> str:
        machine, for_s = self.chance.choice(self.machines), self._for_s(40)
        self.net.apart_until_s[machine.name] = self.net.timeline.now_s + for_s
        return f"{machine.name} for {for_s:.1f} s"

    def set_redis_clock(self) -> str:
        by_ms = self.chance.choice([1, -1]) * self.chance.choice([2_000, 30_000, 600_000])
        self.net.redis_ms.jumped_ms += by_ms
        return f"by {by_ms} ms"
