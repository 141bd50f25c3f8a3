"""`ganger tree`: the processes of the engine as a tree, with what each uses and runs, and how those before it ended."""

from typing import Any

import typer

from engine.cli.commands.workers import percent
from engine.cli.output import Output, duration, one_line, size
from engine.cli.session import Session, command
from engine.cli.snapshot import Snapshot, take

Place = tuple[Any, Any, Any]  # host, pid of the root, pid


def add_to(app: typer.Typer) -> None:
    command(app, "tree", examples="ganger tree\nganger tree --json")(tree)


def tree(session: Session) -> None:
    """Show the processes of the engine as a tree.

    Host by host: pid, age, CPU and memory of each, the task that it runs, how often it was replaced, and
    what its predecessor died of.
    """
    with session.client() as client:
        snapshot = take(client)
    roots = forest(snapshot)
    if session.out.as_json:
        session.out.json(roots)
    elif roots:
        _draw(session.out, roots, snapshot.now_ms)
    else:
        session.out.note("no engine is running; start one: ganger run --handlers MODULE")


def forest(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Every measured process below its parent: {host, root_pid, pid, title, task, restarts, last_death, children}, and
    what was measured."""
    told = _reported(snapshot)
    nodes: dict[Place, dict[str, Any]] = {}
    for sample in snapshot.processes:
        place = sample["host"], sample["root_pid"], sample["pid"]
        nodes[place] = {"task": None, "restarts": None, "last_death": None, **sample, **told.get(place, {}),
                        "title": str(sample.get("title") or "").strip(), "children": []}
    for place, node in nodes.items():
        if str(node["title"]).startswith("ganger: fork server "):
            pool = told.get((*place[:2], node.get("ppid")), {})
            node.update(pool.get("fork_server") or {})
    roots: list[dict[str, Any]] = []
    for place, node in sorted(nodes.items()):
        node.pop("fork_server", None)
        parent = nodes.get((*place[:2], node.get("ppid")))
        (roots if parent is None else parent["children"]).append(node)
    return roots


def _reported(snapshot: Snapshot) -> dict[Place, dict[str, Any]]:
    """What supervisors tell of themselves and of their workers."""
    told: dict[Place, dict[str, Any]] = {}
    for report in snapshot.supervisors:
        engine = report.get("host"), report.get("root_pid")
        told[*engine, report.get("pid")] = {"fork_server": report.get("fork_server")}
        for slot in report.get("slots", []):
            told[*engine, slot.get("pid")] = {
                "task": slot.get("task"), "restarts": slot.get("restarts"), "last_death": slot.get("last_death")}
    return told


def _draw(out: Output, roots: list[dict[str, Any]], now_ms: int) -> None:
    from rich.text import Text
    from rich.tree import Tree

    for host in sorted({str(root.get("host")) for root in roots}):
        drawn = Tree(Text(one_line(host)), guide_style="dim")
        for root in roots:
            if str(root.get("host")) == host:
                _add(drawn, root, now_ms)
        out.draw(drawn)


def _add(above: Any, node: dict[str, Any], now_ms: int) -> None:
    from rich.text import Text

    task = node.get("task") or {}
    title = str(node["title"] or "?")
    if task:  # its own title may have it as well
        title = title.removesuffix(f" {task.get('task_type')} {task.get('id')}")
    line = Text(f"{one_line(title)}  ")
    line.append("  ".join(filter(None, (
        str(node.get("pid")), duration(node.get("age_s")), percent(node.get("cpu_percent")),
        size(node.get("rss_bytes"))))), style="dim")
    if task:
        what = one_line(f"{task.get('task_type')} {task.get('id')}")
        line.append(f"  {what}  {duration(task.get('running_s'))}", style="cyan")
    if past := _past(node, now_ms):
        line.append(f"  {one_line(past)}", style="yellow")
    branch = above.add(line)
    for child in node["children"]:
        _add(branch, child, now_ms)


def _past(node: dict[str, Any], now_ms: int) -> str:
    """`3 restarts, last: killed by SIGKILL 12 s ago, task …`; "" for one that is the first."""
    restarts, death = node.get("restarts") or 0, node.get("last_death")
    words = f"{restarts} restart{'s' if restarts > 1 else ''}" if restarts else ""
    if isinstance(death, dict) and isinstance(death.get("at_ms"), int):
        task = f", task {death['task']}" if death.get("task") else ""
        ago = duration(max(0, now_ms - death["at_ms"]) / 1000)
        words += f"{', last: ' if words else 'last: '}{death.get('cause')} {ago} ago{task}"
    return words
