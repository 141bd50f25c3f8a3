"""`ganger tree`: the processes of the engine as a tree, with what each uses and runs."""

from typing import Any

import typer

from engine.cli.output import clean, console, duration, size
from engine.cli.session import Session, command
from engine.cli.snapshot import Snapshot, take
from engine.cli.workers import percent


def add_to(app: typer.Typer) -> None:
    command(app, "tree", examples="ganger tree\nganger tree --json")(tree)


def tree(session: Session) -> None:
    """Show the processes of the engine as a tree.

    Host by host, with the CPU and memory of each, and the task that it runs.
    """
    with session.broker() as broker:
        snapshot = take(broker)
    roots = forest(snapshot)
    if session.out.as_json:
        session.out.json(roots)
    elif roots:
        _draw(roots)
    else:
        session.out.note("no engine is running; start one: ganger run --handlers MODULE")


def forest(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Every measured process below its parent: {host, pid, title, cpu_percent, rss_bytes, task, children}."""
    tasks = {(report.get("host"), slot.get("pid")): slot.get("task")
             for report in snapshot.supervisors for slot in report.get("slots", [])}
    nodes: dict[tuple[str, int], dict[str, Any]] = {}
    for sample in snapshot.processes:
        title = str(sample.get("title") or "").strip()
        nodes[sample["host"], sample["pid"]] = {**sample, "title": title, "children": []}
    roots: list[dict[str, Any]] = []
    for (host, pid), node in sorted(nodes.items()):
        node["task"] = tasks.get((host, pid))
        parent = nodes.get((host, node["ppid"]))
        (roots if parent is None else parent["children"]).append(node)
    return roots


def _draw(roots: list[dict[str, Any]]) -> None:
    from rich.tree import Tree

    for host in sorted({str(root.get("host")) for root in roots}):
        drawn = Tree(clean(host), guide_style="dim")
        for root in roots:
            if str(root.get("host")) == host:
                _add(drawn, root)
        console().print(drawn)


def _add(above: Any, node: dict[str, Any]) -> None:
    from rich.text import Text

    line = Text(f"{clean(str(node['title'] or '?'))}  ")
    line.append(f"{node.get('pid')}  {percent(node.get('cpu_percent'))}  {size(node.get('rss_bytes'))}", style="dim")
    task = node.get("task")
    if isinstance(task, dict):
        line.append(f"  {task.get('task_type')} {task.get('id')}  {duration(task.get('running_s'))}", style="cyan")
    branch = above.add(line)
    for child in node["children"]:
        _add(branch, child)
