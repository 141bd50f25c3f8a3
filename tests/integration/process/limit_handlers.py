"""Handlers that use much, for the tests of limits. Each says "here" when it has begun."""

import mmap
import os
import signal
import subprocess
import sys
import time
from typing import Any

from engine import Context, handler

MIB = 1_048_576


@handler("grow")
def grow(payload: dict[str, Any], ctx: Context) -> int:
    """Take memory at a steady pace, up to an amount."""
    kept, begun_s = [], time.monotonic()
    ctx.progress(None, "here")
    while len(kept) < payload["mib"]:
        kept.append(b"x" * MIB)
        while len(kept) > (time.monotonic() - begun_s) * payload["mib_per_s"]:
            time.sleep(0.001)
    return len(kept)


@handler("grow_below")
def grow_below(payload: dict[str, Any], ctx: Context) -> None:
    """The memory is a grandchild's, in a session of its own."""
    code = f"kept = b'x' * ({payload['mib']} << 20); input()"
    subprocess.run(["setsid", sys.executable, "-c", code], stdin=subprocess.PIPE, check=False, timeout=30)


@handler("share")
def share(payload: dict[str, Any], ctx: Context) -> str:
    """Children that have what their parent has, and perhaps write to it."""
    region = mmap.mmap(-1, payload["mib"] * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, len(region), 4096):
        region[at] = 1
    ready, done = os.pipe(), os.pipe()
    for _ in range(payload["children"]):
        if os.fork() == 0:
            if payload["write"]:
                for at in range(0, len(region), 4096):
                    region[at] = 2
            os.write(ready[1], b".")
            os.read(done[0], 1)
            os._exit(0)
    for _ in range(payload["children"]):
        os.read(ready[0], 1)
    ctx.progress(None, "here")
    time.sleep(payload["hold_s"])
    os.write(done[1], b"." * payload["children"])
    for _ in range(payload["children"]):
        os.wait()
    return "done"


@handler("burn")
def burn(payload: dict[str, Any], ctx: Context) -> None:
    """CPU time of a worker and a child."""
    ctx.progress(None, "here")
    if os.fork() == 0:
        signal.alarm(30)
    while True:
        pass


@handler("multiply")
def multiply(payload: dict[str, Any], ctx: Context) -> int:
    """Start children that wait."""
    for _ in range(payload["children"]):
        subprocess.Popen(["sleep", "60"])
    ctx.progress(None, "here")
    time.sleep(payload["hold_s"])
    return payload["children"]


kept: list[bytes] = []


@handler("leave_over")
def leave_over(payload: dict[str, Any]) -> None:
    """Leave memory, idle processes and busy ones behind."""
    kept.append(b"x" * (payload.get("mib", 0) * MIB))
    for _ in range(payload.get("idle", 0)):
        subprocess.Popen(["sleep", "60"])
    for _ in range(payload.get("busy", 0)):
        if os.fork() == 0:
            signal.alarm(60)
            while True:
                pass


@handler("work")
def work(payload: dict[str, Any]) -> None:
    """Use so much CPU time."""
    until_s = time.process_time() + payload["cpu_s"]
    while time.process_time() < until_s:
        pass


@handler("work_below")
def work_below(payload: dict[str, Any], ctx: Context) -> None:
    """A child uses CPU time and memory; says so when it has, and both stay."""
    code = (f"import time\nkept = b'x' * ({payload['mib']} << 20)\n"
            f"while time.process_time() < {payload['cpu_s']}: pass\nprint(flush=True)\ninput()")
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    ctx.progress(None, "here")
    child.wait()


@handler("rest")
def rest(payload: dict[str, Any], ctx: Context) -> None:
    """Use nothing for a while, or for ever; perhaps wait for what an earlier run has left."""
    ctx.progress(None, "here")
    if payload.get("reap"):
        for pid in [int(pid) for pid in open("/proc/thread-self/children").read().split()]:  # noqa: SIM115
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    time.sleep(payload["hold_s"])


@handler("niceness")
def niceness(payload: Any) -> list[int]:
    """Of this process and of a child."""
    child = subprocess.run(["nice"], capture_output=True, text=True, check=True)
    return [os.getpriority(os.PRIO_PROCESS, 0), int(child.stdout)]


@handler("noop")
def noop(payload: Any) -> None:
    """Nothing."""


@handler("fill_cgroup")
def fill_cgroup(payload: dict[str, Any], ctx: Context) -> None:
    """Move into a memory cgroup that is too small."""
    with open(f"{payload['group']}/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))
    ctx.progress(None, "here")
    b"x" * (payload["mib"] * MIB)


@handler("hungry", max_memory="120M", retry_with_memory="400M", retry_backoff_s=0.01)
def hungry(payload: Any, ctx: Context) -> int:
    """Enough only for the second run."""
    kept = b"x" * (200 * MIB)
    time.sleep(0.5)
    return len(kept)


@handler("glutton", max_memory="100M", max_crashes=2, retry_backoff_s=0.01)
def glutton(payload: Any, ctx: Context) -> None:
    """Too much whatever it is given."""
    print("begins to eat")
    os.write(1, b"and goes round Python\n")
    kept = []
    while True:
        kept.append(b"x" * (10 * MIB))
        time.sleep(0.005)


@handler("die", retry_backoff_s=0.01, max_crashes=2)
def die(payload: Any) -> None:
    """As if by somebody else's hand."""
    os.kill(os.getpid(), signal.SIGKILL)


@handler("crash", max_crashes=1)
def crash(payload: Any) -> None:
    """As often as it is run."""
    os.kill(os.getpid(), signal.SIGSEGV)


@handler("leap")
def leap(payload: dict[str, Any], ctx: Context) -> int:
    """Take memory faster than anybody looks."""
    ctx.progress(None, "here")
    return len(bytearray(b"x") * (payload["mib"] * MIB))


@handler("leave")
def leave(payload: Any, ctx: Context) -> None:
    """A grandchild in a session of its own, whose parent is gone."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writer, str(os.getpid()).encode())
            time.sleep(60)
        os._exit(0)
    os.wait()
    ctx.progress(None, os.read(reader, 20).decode())
    time.sleep(60)


_LEAKED: list[bytes] = []


@handler("leak")
def leak(payload: dict[str, Any]) -> int:
    """Keep some of what is used, and say who we are."""
    if payload["keeps"]:
        _LEAKED.append(b"x" * (payload["mib"] * MIB))
    else:
        len(b"x" * (payload["mib"] * MIB))
    return os.getpid()


@handler("whoami")
def whoami(payload: Any) -> dict[str, Any]:
    """Which process it is that was given this."""
    return {"payload": payload, "pid": os.getpid()}
