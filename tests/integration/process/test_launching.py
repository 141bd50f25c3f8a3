"""Where main scripts and imported modules are executed, and where they may use the engine. Fork servers, no Redis."""

import json
import os
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.process.host_harness import HostHarness

ROOT = Path(__file__).parents[3]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


@contextmanager
def serving(folder: Path, *modules: str, failures: dict[str, str] | None = None,
            **settings: Any) -> Iterator[HostHarness]:
    """A worker of a pool that imports from the folder; the failures of the imports are added to `failures`."""
    sys_path = (str(folder), *(path or os.getcwd() for path in sys.path))
    harness = HostHarness(*modules, sys_path=sys_path, environment={"PYTHONPATH": str(ROOT)}, **settings)
    try:
        found = harness.start().failures
        if failures is None:
            assert found == {}
        else:
            failures.update(found)
        harness.up()
        yield harness
    finally:
        harness.close()


def python(folder: Path, *command: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=50,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    return done.returncode, done.stdout + done.stderr


# -- processes of multiprocessing -------------------------------------------------------------------------------------

UNGUARDED = """
    import multiprocessing, os
    from concurrent.futures import ProcessPoolExecutor
    from engine import Scheduler

    with open("executions", "a") as file:
        file.write("above\\n")

    class Number:
        def __init__(self, value): self.value = value

    def square(number):
        return Number(number.value ** 2)

    def work(method):
        if method == "joblib":
            from joblib import Parallel, delayed
            return [one.value for one in Parallel(2)(delayed(square)(Number(n)) for n in range(3))]
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
            return [one.value for one in pool.map(square, [Number(n) for n in range(3)])]

    scheduler = Scheduler()
    scheduler.register_handler("work", work)
    scheduler.start()
    with open("executions", "a") as file:
        file.write("below\\n")
"""


def test_a_handler_of_an_unguarded_script_may_use_each_start_method(tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = write(tmp_path / "script.py", UNGUARDED)
    with serving(tmp_path, main={"path": str(script)}, functions={"work": "__main__:work"}) as harness:
        for method in ("fork", "spawn", "forkserver"):
            assert harness.run("work", method)[1]["result"] == [0, 1, 4], method
        try:
            import joblib  # type: ignore[import-untyped,import-not-found,unused-ignore]  # noqa: F401
        except ImportError:
            pass
        else:
            assert harness.run("work", "joblib")[1]["result"] == [0, 1, 4]
    assert set((tmp_path / "executions").read_text().split()) == {"above"}


@pytest.mark.parametrize("use", ["Client().submit('x')", "Scheduler().start()"])
def test_a_process_of_multiprocessing_that_executes_an_unguarded_script_says_so(tmp_path: Path, use: str) -> None:
    write(tmp_path / "script.py", f"""
        import multiprocessing
        from engine import Client, Scheduler
        if __name__ == "__main__":
            process = multiprocessing.get_context("spawn").Process(target=print, args=("its work",))
            process.start()
            process.join()
            raise SystemExit(process.exitcode)
        {use}
    """)
    code, output = python(tmp_path, "script.py")
    assert code == 1
    assert 'Put it below `if __name__ == "__main__":`' in output
    assert "its work" not in output


# -- modules that use the engine while they are imported --------------------------------------------------------------

APP = """
    from engine import Client, get_scheduler
    from shop.tasks import work
    scheduler = get_scheduler()
    def twice(payload): return payload * 2
    scheduler.register_handler("work", work)
    scheduler.register_handler("twice", twice)
    {use}
    raise AssertionError("this line is for the real process")
"""


@pytest.mark.parametrize("use", ["scheduler.start()", "Client().submit('twice', 1)", "scheduler.submit('twice', 1)",
                                 "import shop.nested"])
def test_an_imported_module_is_executed_up_to_its_use_of_the_engine(tmp_path: Path, use: str) -> None:
    write(tmp_path / "shop/__init__.py", "")
    write(tmp_path / "shop/tasks.py", "def work(payload): return 'worked'")
    write(tmp_path / "shop/nested.py", "from engine import Scheduler\nScheduler().start()")
    write(tmp_path / "shop/app.py", APP.replace("{use}", use))
    with serving(tmp_path, functions={"work": "shop.tasks:work", "twice": "shop.app:twice"}) as harness:
        assert harness.run("twice", 4)[1]["result"] == 8
        assert harness.run("work", 4)[1]["result"] == "worked"


def test_a_handler_below_the_use_of_the_engine_is_reported_in_words(tmp_path: Path) -> None:
    write(tmp_path / "app.py", "from engine import Client\nClient().submit('x')\ndef late(payload): ...")
    failures: dict[str, str] = {}
    with serving(tmp_path, failures=failures, functions={"late": "app:late"}):
        assert "above scheduler.start() and any use of a Client" in failures["late"]


def test_a_handler_that_imports_a_module_which_starts_an_engine_is_told_why_not(tmp_path: Path) -> None:
    write(tmp_path / "app.py", "from engine import get_scheduler\nget_scheduler().start()")
    write(tmp_path / "tasks.py", """
        from engine import handler
        @handler("lazy")
        def lazy(payload):
            import app
    """)
    with serving(tmp_path, "tasks") as harness:
        verdict, outcome = harness.run("lazy")
        assert (verdict, outcome["error"]["kind"]) == (b"E", "EngineError")
        assert "in a worker of a running engine" in outcome["error"]["message"]


# -- main scripts -----------------------------------------------------------------------------------------------------

MAIN = """
    import asyncio, sys
    from engine import Scheduler
    def work(payload): return "worked"
    scheduler = Scheduler()
    scheduler.register_handler("work", work)
    {start}
"""
IN_A_GROUP = """
    async def begin(): scheduler.start()
    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(begin())
    asyncio.run(main())
"""
SWALLOWED = """
    try:
        scheduler.start()
    except:
        sys.exit(3)
"""


IN_A_THREAD = """
    import threading
    threading.Thread(target=scheduler.start).start()
    threading.Event().wait()
"""


@pytest.mark.parametrize("start", [IN_A_GROUP, SWALLOWED, IN_A_THREAD])
def test_what_a_script_makes_of_the_end_of_its_second_execution_is_no_failure(tmp_path: Path, start: str) -> None:
    script = write(tmp_path / "script.py", textwrap.dedent(MAIN).replace("{start}", textwrap.dedent(start)))
    with serving(tmp_path, main={"path": str(script)}, functions={"work": "__main__:work"}) as harness:
        assert harness.run("work")[1]["result"] == "worked"


def test_a_script_that_cannot_be_executed_twice_is_told_that_it_was(tmp_path: Path) -> None:
    script = write(tmp_path / "script.py", "raise OSError('address already in use')")
    failures: dict[str, str] = {}
    with serving(tmp_path, failures=failures, main={"path": str(script)}):
        assert "address already in use" in failures[str(script)]
        assert "executes the main script a second time" in failures[str(script)]


LAUNCHED = """
    import sys
    from engine.tasks.handler_spec import REGISTRY
    from engine.config import load_settings
    from engine.scheduler.bootstrap_document import bootstrap_document
    from engine import Scheduler
    def work(payload): return "worked"
    Scheduler().register_handler("work", work)
    if __name__ == "__main__":
        open("document", "wb").write(bootstrap_document(load_settings({}).settings, REGISTRY))
"""


@pytest.mark.parametrize("launcher", [["script.py"], ["-m", "script"], ["-m", "cProfile", "-o", "profile", "script.py"],
                                      ["-m", "trace", "--count", "-C", "counts", "script.py"], ["app.pyz"], ["folder"]])
def test_workers_find_the_script_however_it_was_launched(tmp_path: Path, launcher: list[str]) -> None:
    text = write(tmp_path / "script.py", LAUNCHED).read_text()
    write(tmp_path / "folder/__main__.py", LAUNCHED)
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        archive.writestr("__main__.py", text)
    code, output = python(tmp_path, *launcher)
    assert code == 0, output
    told = json.loads((tmp_path / "document").read_bytes())
    with serving(tmp_path, main=told["main"], functions=told["functions"]) as harness:
        assert harness.run("work")[1]["result"] == "worked"
