"""Handlers that do every bad thing, for the tests of the process host. Each says "here" when it has begun."""

import ctypes
import io
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel

from engine import Cancel, Context, Retry, SoftTimeout, TaskInterrupted, handler

print("said at import")


class Order(BaseModel):
    amount: int
    name: str = "x"


class Grumpy(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("cannot be pickled")
        self.lock = threading.Lock()


@handler("noop")
def noop(payload: Any) -> None:
    """Nothing."""


@handler("echo")
def echo(payload: Any) -> Any:
    return payload


@handler("facts")
def facts(payload: Any, ctx: Context) -> dict[str, Any]:
    left_s = ctx.left_s
    return {"task_id": ctx.task_id, "type": ctx.task_type, "name": ctx.name, "run": ctx.run, "attempt": ctx.attempt,
            "has_time": left_s is not None and 0 < left_s <= 7}


@handler("typed")
def typed(order: Order) -> int:
    return order.amount * 2


@handler('quo"ted')
def quoted(payload: Any) -> str:
    return "found"


@handler("misbehave", no_retry_on=(KeyError,))
def misbehave(how: str) -> Any:
    return {
        "raise": lambda: _raise(ValueError("wrong \udc80 value")),
        "no_retry": lambda: _raise(KeyError("x")),
        "retry": lambda: _raise(Retry(after=2)),
        "cancel": lambda: _raise(Cancel("enough")),
        "sys.exit": lambda: sys.exit(3),
        "grumpy": lambda: _raise(Grumpy()),
        "unpicklable": lambda: _raise(Unpicklable()),
        "interrupt": lambda: _raise(KeyboardInterrupt()),
        "recurse": lambda: _recurse(),
        "set": lambda: {1, 2},
        "nan": lambda: {"rates": [0.5, float("nan")], "none": None},
        "large": lambda: "x" * 100_000_000,
        "deep": lambda: _deep(),
        "os._exit": lambda: os._exit(7),
        "segfault": lambda: ctypes.string_at(0),
        "abort": lambda: os.abort(),
        "suicide": lambda: os.kill(os.getpid(), signal.SIGKILL),
    }[how]()


def _raise(error: BaseException) -> NoReturn:
    raise error


def _recurse() -> Any:
    return _recurse()


def _deep() -> list[Any]:
    inner: list[Any] = []
    for _ in range(100_000):
        inner = [inner]
    return inner


@handler("hang_python")
def hang_python(payload: Any, ctx: Context) -> None:
    ctx.progress(message="here")
    while True:
        pass


@handler("hang_c")
def hang_c(payload: Any, ctx: Context) -> int:
    ctx.progress(message="here")
    return sum(range(10**12))


@handler("hang_deaf")
def hang_deaf(payload: Any, ctx: Context) -> None:
    """Blocks and ignores all that can be."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ctx.progress(message="here")
    while True:
        with suppress(BaseException):
            while True:
                pass


@handler("hang_own_sigusr2")
def hang_own_sigusr2(payload: Any, ctx: Context) -> None:
    signal.signal(signal.SIGUSR2, lambda number, frame: None)
    hang_python(payload, ctx)


@handler("cores")
def cores(payload: Any) -> list[int]:
    """Those that this process may use, and a child of it."""
    child = "import os; print(*os.sched_getaffinity(0))"
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert [int(core) for core in done.stdout.split()] == list(os.sched_getaffinity(0))
    return sorted(os.sched_getaffinity(0))


@handler("hang_threads")
def hang_threads(payload: Any, ctx: Context) -> None:
    threading.Thread(target=_park, name="parked", daemon=True).start()
    hang_c(payload, ctx)


def _park() -> None:
    threading.Event().wait()


@handler("family")
def family(payload: Any, ctx: Context) -> None:
    """Children in every position: a child, one in its own session, and a double-forked one; then hang or go."""
    pids = []
    for shape in ("plain", "session", "double"):
        reader, writer = os.pipe()
        if os.fork() == 0:
            if shape != "plain":
                os.setsid()
            if shape == "double" and os.fork() != 0:
                os._exit(0)
            os.write(writer, b"%d" % os.getpid())
            os.close(writer)
            signal.pause()
        os.close(writer)
        pids.append(int(os.read(reader, 20)))
        os.close(reader)
    ctx.progress(message=" ".join(map(str, pids)))
    if payload == "exit":
        os._exit(0)
    signal.pause()


@handler("fork_and_return")
def fork_and_return(payload: Any) -> str:
    """A fork that forgets to exit comes back through the engine."""
    pid = os.fork()
    if pid == 0:
        return "from the copy"
    os.waitpid(pid, 0)
    return "from the original"


@handler("fork_twice")
def fork_twice(payload: Any) -> int:
    """The fork of a fork keeps the descriptors that its parent opened; its exit code says so."""
    child = os.fork()
    if child == 0:
        mine = [fd for _ in range(10) for fd in os.pipe()]
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(sum(not os.path.exists(f"/proc/self/fd/{fd}") for fd in mine))
        os._exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@handler("soft")
def soft(payload: Any, ctx: Context) -> str:
    """Run until interrupted; say by what."""
    try:
        ctx.progress(message="here")
        while True:
            pass
    except SoftTimeout:
        if payload == "clean up":
            return "cleaned up after SoftTimeout"
        raise
    except TaskInterrupted:
        if payload == "clean up":
            return "cleaned up after TaskInterrupted"
        raise


@handler("soft_asleep")
def soft_asleep(payload: Any, ctx: Context) -> None:
    ctx.progress(message="here")
    time.sleep(60)


@handler("shielded")
def shielded(payload: Any, ctx: Context) -> None:
    """Ends with AssertionError unless SoftTimeout comes at the end of the outer block and not before."""
    inside = True
    try:
        with ctx.shield():
            with ctx.shield():
                ctx.progress(message="here")
                while not os.path.exists(payload):
                    pass
            inside = False
        raise AssertionError("the interrupt never came")
    except SoftTimeout:
        assert not inside
        raise


@handler("chatter")
def chatter(payload: Any, ctx: Context) -> None:
    ctx.progress(message="here")
    while True:
        print("x", end="")
        ctx.progress(0.5)


class _Finaliser:
    def __del__(self) -> None:
        for _ in range(50_000):
            pass


@handler("finaliser")
def finaliser(payload: Any, ctx: Context) -> None:
    """Half of its time in a place from which no exception gets out."""
    ctx.progress(message="here")
    while True:
        _Finaliser()
        for _ in range(50_000):
            pass


@handler("talk")
def talk(payload: Any, ctx: Context) -> None:
    print("to stdout")
    print("to stderr", file=sys.stderr)
    logging.getLogger("some.lib").info("an %s", "info")
    ctx.logger.warning("a warning")
    sys.stdout.buffer.write("bytes ü\n".encode())
    print("no newline", end="")


@handler("talk_raw")
def talk_raw(payload: Any) -> None:
    subprocess.run(["echo", "from a child ü"], check=True)


@handler("talk_in_copy")
def talk_in_copy(payload: Any) -> None:
    pid = os.fork()
    if pid == 0:
        print("from the copy", flush=True)
        os._exit(0)
    os.waitpid(pid, 0)


@handler("flood")
def flood(payload: int) -> None:
    line = "x" * 1023
    for _ in range(payload // 1024):
        print(line)


@handler("flood_raw")
def flood_raw(payload: int) -> None:
    data = b"x" * 65536
    for _ in range(payload // 65536):
        os.write(1, data)


@handler("flood_lines")
def flood_lines(payload: int) -> None:
    for _ in range(payload):
        print("y")


@handler("allocate")
def allocate(payload: int) -> int:
    block = bytearray(payload)
    block[::4096] = b"x" * len(block[::4096])
    return len(block)


@handler("descriptors")
def descriptors(payload: Any) -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue
    return found


@handler("modules")
def modules(payload: Any) -> list[str]:
    return sorted({name.partition(".")[0] for name in sys.modules})


@handler("environment")
def environment(payload: Any) -> dict[str, Any]:
    return {"omp": os.environ["OMP_NUM_THREADS"], "session": os.getsid(0) == os.getpid(), "argv0": _title()}


def _title() -> str:
    with open("/proc/self/cmdline", "rb") as file:
        return file.read().rstrip(b"\0 ").decode()


@handler("wait_for_file")
def wait_for_file(payload: str, ctx: Context) -> None:
    ctx.progress(message="here")
    while not os.path.exists(payload):
        pass


@handler("burn")
def burn(payload: float) -> None:
    until_s = time.process_time() + payload
    while time.process_time() < until_s:
        pass


@handler("child_burns")
def child_burns(payload: float) -> None:
    pid = os.fork()
    if pid == 0:
        burn(payload)
        os._exit(0)
    os.waitpid(pid, 0)


@handler("fork_and")
def fork_and(way: str, ctx: Context) -> dict[str, Any]:
    """Fork; the copy does something and comes back through the engine; tell how it ended and what its files hold."""
    saved, log = sys.stdout, logging.StreamHandler(sys.stderr)
    folder = tempfile.mkdtemp()
    pid = os.fork()
    if pid == 0:
        files = [open(f"{folder}/{n}", "w") for n in range(10)]  # noqa: SIM115
        if way == "raise":
            raise ValueError("from the copy")
        if way == "exit":
            print("last words", end="")
            sys.exit(3)
        if way == "exit with text":
            sys.exit("no way")
        ctx.progress(0.5, "from the copy")
        print("printed by the copy", file=saved)
        sys.stdout.buffer.write("bytes of the copy é\n".encode())
        log.emit(logging.makeLogRecord({"msg": "logged by the copy"}))
        logging.getLogger("copy").warning("warned by the copy")
        for file in files:
            file.write("data\n")
            file.close()
        return {1, 2, 3}  # type: ignore[return-value]  # no JSON, which nobody asks of a copy
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    texts = [path.read_text() for path in sorted(Path(folder).iterdir())]
    shutil.rmtree(folder)
    return {"code": code, "texts": texts}


@handler("fork_with_root_handler")
def fork_with_root_handler(path: str) -> None:
    root, mine = logging.getLogger(), logging.FileHandler(path)
    root.addHandler(mine)
    pid = os.fork()
    if pid == 0:
        root.warning("from the copy")
        os._exit(0)
    os.waitpid(pid, 0)
    root.removeHandler(mine)
    mine.close()


@handler("close_and_open")
def close_and_open(payload: dict[str, Any]) -> None:
    """Close what is not one's own, then open files in its place."""
    os.closerange(3, payload["upto"])
    _OPENED.extend(open(f"{payload['folder']}/{n}", "w") for n in range(10))  # noqa: SIM115


_OPENED: list[Any] = []


@handler("talk_bytes")
def talk_bytes(payload: Any) -> dict[str, Any]:
    for one in "é€😀".encode():
        sys.stdout.buffer.write(bytes((one,)))
    print()
    io.TextIOWrapper(sys.stdout.buffer, "utf-8", write_through=True).write("wrapped\n")  # dropped, so closed
    print("after it")
    sys.stdout.buffer.write("é".encode()[:1])
    return {"mode": (sys.stdout.mode, sys.stdout.buffer.mode), "line_buffering": sys.stdout.line_buffering,
            "write_through": sys.stdout.write_through, "raw": sys.stdout.buffer.raw is not None}  # type: ignore


@handler("log_badly")
def log_badly(payload: Any) -> None:
    logging.getLogger("bad").warning("%d", "no number")


@handler("leave_orphan")
def leave_orphan(payload: Any) -> int:
    """A process whose parent is gone when the run ends, and which dies when the pipe is closed; return its pid."""
    reader, writer = os.pipe()
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        orphan = os.fork()
        if orphan == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        os.write(tell, b"%d" % orphan)
        os._exit(0)
    os.waitpid(child, 0)
    _PIPES.append(writer)
    os.close(reader)
    return int(os.read(told, 20))


_PIPES: list[int] = []


@handler("let_orphans_die")
def let_orphans_die(payload: Any) -> None:
    while _PIPES:
        os.close(_PIPES.pop())
    time.sleep(0.01)


@handler("own_children")
def own_children(payload: Any) -> list[int]:
    """Begin children of each kind that end between two runs; ask for their exit codes in the second one."""
    if not _OWN:
        forked = os.fork()
        if forked == 0:
            os._exit(3)
        process = multiprocessing.get_context("fork").Process(target=os._exit, args=(4,))
        process.start()
        popen = subprocess.Popen(["sh", "-c", "exit 5"])
        for pid in (forked, process.pid, popen.pid):
            assert pid is not None
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        _OWN.extend((forked, process, popen))
        return []
    forked, process, popen = _OWN
    process.join()
    return [os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]), process.exitcode, popen.wait()]


_OWN: list[Any] = []


@handler("leave")
def leave(what: str) -> None:
    """Leave the process in a state that would hurt the next run."""
    if what == "alarm":
        signal.setitimer(signal.ITIMER_REAL, 0.2)
    elif what == "ignored children":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    elif what == "streams":
        sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    elif what == "signals":
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        signal.set_wakeup_fd(-1)
    elif what == "limits":
        resource.setrlimit(resource.RLIMIT_NOFILE, (5, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    raise ValueError("in haste, before it was undone")


@handler("try_out")
def try_out(payload: Any) -> int:
    """What the leftovers of another run would hurt."""
    print("said")
    time.sleep(0.3)
    with open(os.devnull), open(os.devnull), open(os.devnull):
        return subprocess.run(["sh", "-c", "exit 7"]).returncode


@handler("signals_of_children")
def signals_of_children(payload: Any) -> list[str]:
    """What is ignored, blocked or caught in a program and in a fork of ours."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    os.kill(pid, signal.SIGTERM)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True).stdout
    masks = [line.split() for line in status.splitlines() if line.startswith(("SigBlk", "SigCgt", "SigIgn"))]
    ignored = [number.name for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
               if any(int(mask, 16) >> (number - 1) & 1 for _, mask in masks)]
    return [signal.Signals(-ended).name, *ignored]


@handler("say_raw_and_fail")
def say_raw_and_fail(payload: int) -> None:
    os.write(2, b"said by %d\n" % payload)
    raise ValueError


@handler("say_raw")
def say_raw(payload: int) -> None:
    os.write(2, b"said by %d\n" % payload)


@handler("printf")
def printf(payload: int) -> None:
    libc = ctypes.CDLL(None)
    libc.printf(b"said by %d\n", payload)


@handler("say_on_both")
def say_on_both(payload: Any) -> None:
    subprocess.run(["sh", "-c", "echo out; echo error >&2"], check=True)
