"""Every bad thing that a handler can do, by name: `misbehaving.segfault`, `misbehaving.hang_in_c` …

For tests and the demo. Each of them is something that real code does one day.
None is retried unless that is its point, and each has a timeout, so that they
all come to an end; what must not happen is that anything else does.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from engine import Cancel, Context, Retry, handler

MIB = 1 << 20
Payload = dict[str, Any]
ONCE: dict[str, Any] = {"timeout": 5, "soft_timeout": 0, "max_retries": 0, "max_deliveries": 1}
AGAIN: dict[str, Any] = {"timeout": 5, "soft_timeout": 0, "retry_backoff_s": 0.2, "retry_factor": 1.5}


# Hanging


@handler("misbehaving.hang_in_python", **ONCE)
def hang_in_python(payload: Payload) -> None:
    """Waits in a loop for something that never comes."""
    _wait_for_ever()


@handler("misbehaving.hang_in_c", **ONCE)
def hang_in_c(payload: Payload) -> int:
    """Stays in C with the GIL held for an hour: Python never sees a signal."""
    return _sum_up_to(10**11)


@handler("misbehaving.hang_in_sleep", **ONCE)
def hang_in_sleep(payload: Payload) -> None:
    """Sleeps for an hour, using no CPU at all."""
    time.sleep(3600)


@handler("misbehaving.deadlock", **ONCE)
def deadlock(payload: Payload) -> None:
    """Takes a lock twice."""
    lock = threading.Lock()
    with lock, lock:
        pass


@handler("misbehaving.ignore_signals", **ONCE)
def ignore_signals(payload: Payload) -> None:
    """Ignores every signal that can be ignored, then hangs."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if number < signal.SIGRTMIN:
            signal.signal(number, signal.SIG_IGN)
    _wait_for_ever()


@handler("misbehaving.swallow_everything", **ONCE)
def swallow_everything(payload: Payload) -> None:
    """Catches whatever is raised inside it, a soft timeout and a cancel included, and goes on."""
    while True:
        try:
            _wait_for_ever()
        except BaseException:  # noqa: BLE001, S112  the bad habit is the point
            continue


@handler("misbehaving.stop_itself", **ONCE)
def stop_itself(payload: Payload) -> None:
    """Stops its own process, as Ctrl-Z would."""
    os.kill(os.getpid(), signal.SIGSTOP)


# Dying


@handler("misbehaving.segfault", **ONCE)
def segfault(payload: Payload) -> None:
    """Reads address 0."""
    ctypes.string_at(0)


@handler("misbehaving.abort", **ONCE)
def abort(payload: Payload) -> None:
    """Calls abort(), as a failed assertion in a C library does."""
    os.abort()


@handler("misbehaving.exit_hard", **ONCE)
def exit_hard(payload: Payload) -> None:
    """Leaves its process without a word, by os._exit. `status`: 3 by default."""
    os._exit(int(payload.get("status", 3)))


@handler("misbehaving.exit_soft", **ONCE)
def exit_soft(payload: Payload) -> None:
    """Calls sys.exit(`status`, 4 by default), as a script turned into a handler does."""
    sys.exit(int(payload.get("status", 4)))


@handler("misbehaving.kill_itself", **ONCE)
def kill_itself(payload: Payload) -> None:
    """Dies of SIGKILL, as by the kernel's out-of-memory killer. `signal`: the name of another one."""
    os.kill(os.getpid(), signal.Signals[payload.get("signal", "SIGKILL")])
    time.sleep(60)


@handler("misbehaving.close_every_descriptor", **ONCE)
def close_every_descriptor(payload: Payload) -> None:
    """Closes all files of the process, its pipe to the supervisor included."""
    os.closerange(0, 4096)


# Taking too much


@handler("misbehaving.leak_memory", **{**ONCE, "timeout": 60})
def leak_memory(payload: Payload, ctx: Context) -> dict[str, int]:
    """Takes `mib` of memory (512 by default), MiB by MiB, and holds it for `hold_s` seconds (0 by default)."""
    leak: list[bytearray] = []
    wanted = int(payload.get("mib", 512))
    for number in range(wanted):
        leak.append(bytearray(os.urandom(4096) * (MIB // 4096)))
        ctx.progress((number + 1) / wanted, f"{number + 1} MiB")
    time.sleep(float(payload.get("hold_s", 0)))
    return {"mib": len(leak)}


@handler("misbehaving.flood_stdout", **{**ONCE, "timeout": 60})
def flood_stdout(payload: Payload) -> dict[str, int]:
    """Prints `lines` lines (a million by default), and as many bytes past Python, from C's side."""
    lines = int(payload.get("lines", 1_000_000))
    for number in range(lines):
        print(f"line {number} of {lines} that nobody asked for")  # noqa: T201  the flood is the point
        if number % 1000 == 0:
            os.write(1, b"and a thousand at once past sys.stdout\n" * 1000)
    return {"lines": lines}


@handler("misbehaving.flood_progress", **{**ONCE, "timeout": 60})
def flood_progress(payload: Payload, ctx: Context) -> dict[str, int]:
    """Reports progress `reports` times (a million by default) as fast as it can."""
    reports = int(payload.get("reports", 1_000_000))
    for number in range(reports):
        ctx.progress(number / reports, "still going")
    return {"reports": reports}


@handler("misbehaving.recurse", **ONCE)
def recurse(payload: Payload) -> int:
    """Recurses without end."""
    return recurse(payload) + 1


# Children and threads


@handler("misbehaving.fork_and_hang", **ONCE)
def fork_and_hang(payload: Payload) -> None:
    """Forks children that hang, and hangs too.

    `children`: how many (2 by default). `pid_file`: where to note their pids.
    """
    for _ in range(int(payload.get("children", 2))):
        pid = os.fork()
        if pid == 0:
            _wait_for_ever()
        _note(payload, pid)
    _wait_for_ever()


@handler("misbehaving.leave_a_daemon", **ONCE)
def leave_a_daemon(payload: Payload) -> str:
    """Forks twice with setsid in between, as daemons do, and returns; the grandchild hangs on.

    `pid_file`: where to note its pid. `hang`: true to hang too instead of returning.
    """
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            _note(payload, os.getpid())
            _wait_for_ever()
        os._exit(0)
    os.waitpid(child, 0)
    if payload.get("hang"):
        _wait_for_ever()
    return "gone, but not quite"


@handler("misbehaving.leave_a_thread", **ONCE)
def leave_a_thread(payload: Payload) -> str:
    """Returns while a thread of it, which is no daemon, goes on for ever."""
    threading.Thread(target=_wait_for_ever).start()
    return "done, says the main thread"


# Returning what cannot be returned


@handler("misbehaving.return_not_json", **ONCE)
def return_not_json(payload: Payload) -> object:
    """Returns an object that is not JSON."""
    return {"answer": threading.Lock()}


@handler("misbehaving.return_100_mb", **{**ONCE, "timeout": 30})
def return_100_mb(payload: Payload) -> str:
    """Returns `bytes` bytes of text (100,000,000 by default)."""
    return "x" * int(payload.get("bytes", 100_000_000))


# Raising


@handler("misbehaving.raise_error", **ONCE)
def raise_error(payload: Payload) -> NoReturn:
    """Raises a ValueError with `message`."""
    raise ValueError(payload.get("message", "this was not the input that I was written for"))


class Unpicklable(Exception):
    """Neither pickled nor printed without trouble."""

    def __init__(self, lock: object) -> None:
        super().__init__(lock)
        self.lock = lock

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle me")

    def __str__(self) -> NoReturn:
        raise RuntimeError("cannot print me")

    __repr__ = __str__


@handler("misbehaving.raise_unpicklable", **ONCE)
def raise_unpicklable(payload: Payload) -> NoReturn:
    """Raises an exception that can neither be pickled nor printed."""
    raise Unpicklable(threading.Lock())


@handler("misbehaving.give_up", **ONCE)
def give_up(payload: Payload) -> NoReturn:
    """Cancels itself: good manners, in fact."""
    raise Cancel(payload.get("reason", "there was nothing to do"))


# Being difficult, then fine


@handler("misbehaving.slow_then_fine", **{**ONCE, "timeout": 30})
def slow_then_fine(payload: Payload) -> dict[str, float]:
    """Uses a core for `seconds` (2 by default), then returns."""
    seconds = float(payload.get("seconds", 2))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return {"seconds": seconds}


@handler("misbehaving.fail_then_succeed", **AGAIN, max_retries=10)
def fail_then_succeed(payload: Payload, ctx: Context) -> dict[str, int]:
    """Fails `failures` times (2 by default), then succeeds."""
    failures = int(payload.get("failures", 2))
    if ctx.attempt <= failures:
        raise ConnectionError(f"the other side hung up, {ctx.attempt} of {failures} times")
    return {"failures": failures, "run": ctx.run}


@handler("misbehaving.crash_then_succeed", **AGAIN, max_retries=0, max_crashes=5)
def crash_then_succeed(payload: Payload, ctx: Context) -> dict[str, int]:
    """Dies of a segmentation fault `crashes` times (1 by default), then succeeds."""
    if ctx.run <= int(payload.get("crashes", 1)):
        ctypes.string_at(0)
    return {"run": ctx.run}


@handler("misbehaving.ask_for_more_time", **AGAIN, max_retries=5)
def ask_for_more_time(payload: Payload, ctx: Context) -> dict[str, int]:
    """Asks to be run again `after` seconds (0.2 by default), `times` times (2 by default)."""
    if ctx.run <= int(payload.get("times", 2)):
        raise Retry("not yet", after=float(payload.get("after", 0.2)))
    return {"run": ctx.run}


def _wait_for_ever() -> None:
    """Waits in Python, using a core."""
    while True:
        pass


def _sum_up_to(limit: int) -> int:
    return sum(range(limit))


def _note(payload: Payload, pid: int) -> None:
    if "pid_file" in payload:
        with Path(payload["pid_file"]).open("a") as file:
            file.write(f"{pid}\n")
