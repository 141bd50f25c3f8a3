"""The peers' own environment, `.bench-venv`: made when it is missing or its list has changed. It never touches ours."""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

from bench.machine import ROOT

HERE = Path(__file__).parent
FOLDER = ROOT / ".bench-venv"
NODE = FOLDER / "node"
POOL_PACKAGES = {"loky": "loky", "dask": "distributed", "ray": "ray"}  # of pools.txt
NODE_PEERS = ("bullmq", "bullmq-in-process")


def python() -> str:
    return str(FOLDER / "bin" / "python")


def variables() -> dict[str, str]:
    """What the drivers need to know."""
    return {"PEER_NODE_MODULES": str(NODE / "node_modules"), "PYTHONPATH": str(ROOT)}


def set_up() -> None:
    """Install what is missing. Raises RuntimeError with pip's words if it can't be."""
    wanted = "".join((HERE / name).read_text() for name in ("requirements.txt", "pools.txt", "package.json"))
    stamp = FOLDER / "set-up-for"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"bench: installing the peers into {FOLDER.name} (once, a minute or two)", file=sys.stderr)
    if not Path(python()).exists():
        venv.create(FOLDER, with_pip=True)
    _run(python(), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r",
         str(HERE / "requirements.txt"))
    for line in (HERE / "pools.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            try:
                _run(python(), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", line)
            except RuntimeError as error:
                print(f"bench: no {line}: {error}", file=sys.stderr)
    if shutil.which("npm"):
        NODE.mkdir(exist_ok=True)
        shutil.copy(HERE / "package.json", NODE)
        try:
            _run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(NODE))
        except RuntimeError as error:
            print(f"bench: no BullMQ: {error}", file=sys.stderr)
    stamp.write_text(wanted)


def missing(peer: str) -> str:
    """Why a peer can't run here; "" if it can."""
    if peer in POOL_PACKAGES:
        done = subprocess.run([python(), "-c", f"import {POOL_PACKAGES[peer]}"], capture_output=True)
        return "" if done.returncode == 0 else f"{POOL_PACKAGES[peer]} could not be installed"
    if peer not in NODE_PEERS:
        return ""
    if shutil.which("node") is None:
        return "there is no Node here"
    return "" if (NODE / "node_modules" / "bullmq").exists() else "BullMQ could not be installed"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-500:]}")
