"""Which module may import which. The two tables are the architecture; ARCHITECTURE.md draws them.

Dependencies point one way, so that the core can be tested without anything else, a worker stays light, and Redis and
processes can change apart. An import inside a function or under TYPE_CHECKING counts like any other.
"""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGINE = sorted(path for path in (ROOT / "engine").rglob("*.py"))
HANDLERS = sorted((ROOT / "handlers").glob("*.py"))
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py"))

LAYER_OF = {  # the longest prefix counts
    "errors": "errors",
    "core.task": "core.task", "core.pool": "core.pool", "core.worker": "core.worker", "core.tree": "core.tree",
    "core.measure": "core.measure", "core.store": "core.store", "core": "core.task",
    "tasks": "tasks",
    "config": "config",
    "logs": "logs",
    "ports": "ports",
    "adapters": "adapters",  # what those of Redis and of processes share
    "adapters.kernel": "kernel", "adapters.redis": "redis", "adapters.process": "process",
    "adapters.process.between_runs": "worker", "adapters.process.forkserver": "worker",
    "adapters.process.worker": "worker", "adapters.process.own_frames": "worker",
    "adapters.process.resources.final_usage": "worker",  # a page that it shares with its pool
    "client": "client", "client.provider": "provider",
    "scheduler": "scheduler",
    "services": "shared", "services.composition": "composition",
    "services.api": "api", "services.webhooks": "webhooks", "services.metrics": "metrics",
    "services.keeper": "keeper", "services.pool": "pool", "services.tree": "tree",
    "services.api.process": "main", "services.keeper.process": "main", "services.pool.process": "main",
    "services.tree.run": "main", "services.tree.child": "main",
    "testing": "testing", "testing.model": "testing.model",
    "demo": "demo",
    "cli": "cli", "cli.doctor.host": "doctor", "cli.doctor.finding": "doctor", "__main__": "cli",
}
_CORE = "core.task core.pool core.worker core.tree core.measure core.store errors"
_SERVICE = f"shared composition client kernel ports config logs tasks {_CORE}"
MAY_IMPORT = {  # beside its own layer
    "errors": "",
    "core.task": "errors",
    "core.worker": "core.task errors",
    "core.tree": "core.task errors",
    "core.measure": "core.task errors",
    "core.store": "core.task errors",
    "core.pool": "core.task core.worker core.tree errors",  # its restart budget
    "tasks": "core.task errors",
    "logs": "",
    "config": "tasks core.task core.pool core.worker errors",
    "ports": "core.task core.pool core.worker",
    "kernel": "errors",
    "adapters": "ports",
    "redis": "adapters ports config core.task core.pool core.measure core.store errors",
    "worker": "adapters kernel tasks core.task core.worker errors",
    "process": "worker kernel ports tasks core.task core.pool core.worker",
    "provider": "redis ports config tasks errors",
    "client": "provider ports config tasks core.task errors",
    "scheduler": "client kernel config tasks core.task errors",
    "composition": "redis kernel ports config core.task",
    "shared": "ports config logs errors",
    "webhooks": _SERVICE, "metrics": _SERVICE, "keeper": _SERVICE, "pool": _SERVICE, "tree": _SERVICE,
    "api": f"webhooks metrics provider {_SERVICE}",  # its process sends the messages and keeps the figures
    "main": f"api keeper pool tree process redis adapters {_SERVICE}",
    "testing.model": "core.task errors",
    "testing": f"testing.model scheduler composition worker client ports config tasks {_CORE}",
    "demo": f"scheduler client provider config {_CORE}",
    "doctor": f"process worker kernel composition config {_CORE}",  # it looks at what the adapters will meet
    "cli": f"main api demo doctor scheduler composition client provider kernel ports config logs tasks {_CORE}",
}
PURE = {"bisect", "collections", "dataclasses", "difflib", "enum", "functools", "hashlib", "heapq", "itertools", "math",
        "operator", "orjson", "re", "string", "struct", "textwrap", "types", "typing", "typing_extensions", "zlib"}
HEAVY = {"asyncio", "fastapi", "hiredis", "multiprocessing", "psutil", "pydantic", "redis", "rich",
         "ssl", "starlette", "typer", "uvicorn"}
DANGEROUS_MODULES = {"dill", "marshal", "pickle", "pickletools", "runpy", "shelve"}
DANGEROUS_CALLS = {"__import__", "compile", "eval", "exec", "exec_module", "import_module", "run_module", "run_path"}
ALLOWED = {  # what each of them imports is named by whoever starts the engine, never by who submits a task
    "engine/__init__.py": {"import_module"},  # its own modules, from a fixed table
    "engine/tasks/handler_spec.py": {"import_module"},  # functions of a main script, named by the Scheduler
    "engine/adapters/process/forkserver/loading.py": {"import_module"},  # the settings' `handlers`
    "engine/adapters/process/forkserver/main_script.py": {"compile", "exec"},  # the main script of the Scheduler
    "engine/cli/registry.py": {"import_module"},  # its own modules, from a fixed table
    "engine/services/tree/child.py": {"import_module"},  # its own modules, from a fixed table
}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def layer_of(module: str) -> str:
    """The layer of `engine.a.b`; fails for a module that nobody has placed yet."""
    parts = module.split(".")[1:]
    for length in range(len(parts), 0, -1):
        if layer := LAYER_OF.get(".".join(parts[:length])):
            return layer
    raise AssertionError(f"{module} is in no layer: place it in LAYER_OF")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, `from engine import ports` as `engine.ports`.

    A public name of the package is no module: `from engine import Client` is `engine.Client`, which is in no layer.
    """
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} has a relative import"
            assert node.module
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                file = ROOT.joinpath(*name.split("."))
                is_module = file.is_dir() or file.with_suffix(".py").exists()
                yield name if is_module or (node.module == "engine" and alias.name != "__version__") else node.module


def named(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


@named(ENGINE)
def test_imports_point_one_way(path: Path) -> None:
    module = module_of(path)
    if module == "engine":
        return
    layer = layer_of(module)
    allowed = {layer, *MAY_IMPORT[layer].split()}
    for name in imports(path):
        if name.startswith("engine."):
            assert layer_of(name) in allowed, f"{module} ({layer}) imports {name} ({layer_of(name)})"


def test_the_layers_have_an_order() -> None:
    TopologicalSorter({layer: allowed.split() for layer, allowed in MAY_IMPORT.items()}).prepare()  # or a CycleError
    assert set(LAYER_OF.values()) == set(MAY_IMPORT)


def imported_by(group: Callable[[str], str]) -> dict[str, set[str]]:
    """For each group of modules the other groups that it imports. The package itself imports its public names late."""
    modules = {module_of(path) for path in ENGINE} - {"engine"}
    found: dict[str, set[str]] = {}
    for path in ENGINE:
        source = module_of(path)
        if source in modules:
            targets = {group(name) for name in imports(path) if name in modules}
            found.setdefault(group(source), set()).update(targets - {group(source)})
    return found


def folder_of(module: str) -> str:
    """The folder of one trade: the first below `engine`, or one further down where that has several trades."""
    parts = module.split(".")
    depth = 4 if parts[1:3] == ["adapters", "redis"] else 3 if parts[1] in ("core", "adapters", "services") else 2
    return ".".join(parts[:depth])


@pytest.mark.parametrize("group", [str, folder_of], ids=["modules", "folders"])
def test_there_are_no_circles(group: Callable[[str], str]) -> None:
    TopologicalSorter(imported_by(group)).prepare()  # raises CycleError with the names in a circle


@named([path for path in ENGINE if module_of(path).startswith(
    ("engine.core", "engine.errors", "engine.testing.model"))])
def test_the_core_is_pure(path: Path) -> None:
    for name in imports(path):
        assert name.partition(".")[0] in PURE | {"engine"}, f"{module_of(path)} imports {name}"


@named(ENGINE)
def test_our_own_handlers_and_files_are_reached_by_name_only(path: Path) -> None:
    tops = {name.partition(".")[0] for name in imports(path)}
    assert not tops & {"handlers", "config", "ganger_handlers", "ganger_config", "tests", "bench"}


@named(HANDLERS)
def test_handlers_use_the_public_names_only(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("engine."), f"{path.name} imports from {node.module}"
    for name in imports(path):
        assert name.partition(".")[0] in {"engine", "PIL", "numpy", "pydantic"} | sys.stdlib_module_names, name


@named(ENGINE + HANDLERS)
def test_nothing_becomes_code_that_came_as_data(path: Path) -> None:
    assert not DANGEROUS_MODULES & {name.partition(".")[0] for name in imports(path)}
    used = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name):
                used.add(called.id)
            elif isinstance(called, ast.Attribute) and not (called.attr == "compile" and _is_name(called.value, "re")):
                used.add(called.attr)
    assert used & DANGEROUS_CALLS == ALLOWED.get(str(path.relative_to(ROOT)), set())


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


@named([path for path in TESTS if path.name.startswith(("test_", "conftest")) and "chaos" not in path.parts])
def test_tests_wait_for_events_and_not_for_time(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert name != "sleep", f"{path.name}:{node.lineno} sleeps"


@pytest.mark.parametrize("module", [
    "engine.tasks.context", "engine.tasks.handler", "engine.adapters.process.forkserver.process"])
def test_a_worker_stays_light(module: str) -> None:
    """What the fork server loads is in the memory of every worker, and what can hang there can hang a run."""
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & HEAVY


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest imports them by their names alone, and refuses the second."""
    names = Counter(path.name for path in TESTS if path.name.startswith("test_"))
    assert [name for name, count in names.items() if count > 1] == []


BEGINNERS = r"\b(create_task|ensure_future|Thread)\("
SUPERVISED_OTHERWISE = {
    "engine/services/background.py",
    "engine/services/api/process.py",  # the server itself: the child ends with it
    "engine/services/redis_log.py",  # it cannot log that it does not log, and a pool has no asyncio
}


def test_nothing_runs_unsupervised_beside_a_service() -> None:
    """What runs beside requests is begun by services/background.py, which starts it again when it fails."""
    begun = {str(path.relative_to(ROOT)) for path in (ROOT / "engine/services").rglob("*.py")
             if re.search(BEGINNERS, path.read_text())}
    assert begun == SUPERVISED_OTHERWISE
