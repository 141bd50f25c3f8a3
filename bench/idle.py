"""What an engine costs that has nothing to do: CPU of the whole tree and of Redis, and commands to Redis.

Commands are counted by MONITOR, which tells those of clients from those inside scripts.
"""

import threading
import time
from typing import Any

import redis

from bench import rig
from bench.processes import Tree, cpu_s

SETTLING_S = 2.0


def measure(seconds: float = 10.0, transport: str = "tcp") -> dict[str, Any]:
    """Watch an idle engine with two workers for so long."""
    with rig.bench(transport) as bench:
        time.sleep(SETTLING_S)
        tree = Tree.of(bench.scheduler)
        redis_before, before = rig.redis_cpu_s(bench.connection), [cpu_s(process) for process in tree.all]
        outer, inner = _commands(bench.url, seconds)
        after, redis_after = [cpu_s(process) for process in tree.all], rig.redis_cpu_s(bench.connection)
    return {
        "seconds": seconds, "transport": transport, "processes": len(before),
        "tree_cpu_percent": round((sum(after) - sum(before)) / seconds * 100, 3),
        "redis_cpu_percent": round((redis_after - redis_before) / seconds * 100, 3),
        "redis_commands_per_s": round(outer / seconds, 2),
        "redis_commands_in_scripts_per_s": round(inner / seconds, 2),
    }



def _commands(url: str, seconds: float) -> tuple[int, int]:
    """How many commands came over the network, and how many were carried out inside scripts."""
    counts = {"client": 0, "lua": 0}
    with redis.Redis.from_url(url).monitor() as monitor:  # type: ignore[no-untyped-call]
        end = threading.Timer(seconds, lambda: redis.Redis.from_url(url).echo("the end"))
        end.start()
        for told in monitor.listen():
            if told["command"].startswith("ECHO the end"):
                break
            counts["lua" if told["client_type"] == "lua" else "client"] += 1
        end.join()
    connecting = 2  # CLIENT SETINFO of the connection that says the end
    return max(0, counts["client"] - connecting), counts["lua"]
