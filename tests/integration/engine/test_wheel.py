"""The wheel, installed alone into an empty environment, beside a user's own `handlers` and `config`.

Its dependencies come from the environment of the tests, as links, and only those
that the wheel names: one that it forgot to name is missed here.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
SOURCES = ("engine", "handlers", "config", "pyproject.toml", "setup.py", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a wheel is made from, for building leaves traces."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    return source


@pytest.fixture(scope="module")
def files(source: Path) -> list[str]:
    """What is to be in the wheel; listed before it is built."""
    return [path.relative_to(source).as_posix() for folder in ("engine", "handlers", "config")
            for path in (source / folder).rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def wheel(source: Path, files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
                    "--wheel-dir", target, source], check=True)
    return next(target.glob("ganger-*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and what it depends on; returns its bin folder."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index",
                    wheel], check=True)
    packages = next((home / "lib").glob("python*/site-packages"))
    for name in needed("ganger"):
        link(name, packages)
    return home / "bin"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's project, with packages of just the names that ours have in the source tree."""
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "__init__.py").write_text(
        "from engine import handler\n\n@handler('mine')\ndef mine(payload):\n    return 'from my own handlers'\n")
    (tmp_path / "config.py").write_text("MINE = True\n")
    return tmp_path


def needed(name: str) -> set[str]:
    """The distributions that one needs, and those that they need, without extras that nobody asks for."""
    seen: set[tuple[str, str]] = set()
    open_ends = [(name, "")]
    while open_ends:
        distribution, extra = open_ends.pop()
        for requirement in map(Requirement, importlib.metadata.requires(distribution) or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                wanted = {(canonical(requirement.name), more) for more in ("", *requirement.extras)}
                open_ends += wanted - seen
                seen |= wanted
    return {distribution for distribution, _ in seen}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def link(name: str, packages: Path) -> None:
    distribution = importlib.metadata.distribution(name)
    for top in {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}:
        if not (packages / top).exists():
            (packages / top).symlink_to(Path(str(distribution.locate_file(top))).resolve())


def run(environment: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items()
             if not name.startswith(("GANGER_", "COV", "PYTEST", "PYTHON"))}
    return subprocess.run([environment / words[0], *words[1:]], cwd=folder, env=clean, capture_output=True, text=True,
                          check=False, stdin=subprocess.DEVNULL)


def test_it_takes_no_name_that_others_use(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].split("-")[0] for name in names} == {"engine", "ganger_handlers", "ganger_config",
                                                                         "ganger"}


def test_everything_is_in_it(wheel: Path, files: list[str]) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {re.sub(r"^(handlers|config)/", r"ganger_\1/", file) for file in files} <= names


def test_names_of_the_user_stay_the_users(environment: Path, folder: Path) -> None:
    program = ("import handlers, config, ganger_handlers, ganger_config, engine, importlib.resources as r\n"
               "assert config.MINE and handlers.mine({}) == 'from my own handlers'\n"
               "from ganger_handlers import compress, digest, misbehaving, pure_python, source, text\n"
               "assert r.files('ganger_config').joinpath('ganger.toml').is_file()\n"
               "print(*(module.__file__ for module in (engine, ganger_handlers, ganger_config)))")
    done = run(environment, folder, "python", "-c", program)
    assert done.returncode == 0, done.stderr
    assert all(str(environment.parent) in path for path in done.stdout.split())


@pytest.mark.timeout(120)
def test_the_demo_works_from_it(environment: Path, folder: Path) -> None:
    done = run(environment, folder, "ganger", "demo", "--tasks", "40")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing is left running" in done.stdout
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == ["config.py", "handlers"]
