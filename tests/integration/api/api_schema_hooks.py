"""What schemathesis is told of the API beyond its document: which names there are, and what would end the test."""

import itertools
import os
from typing import Any

import schemathesis

TASK_IDS = itertools.cycle(os.environ["API_SCHEMA_TASK_IDS"].split(","))
EVERY_OTHER = itertools.cycle((False, True))


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    """Every other task is one that there is."""
    if path_parameters and "task_id" in path_parameters and next(EVERY_OTHER):
        return {**path_parameters, "task_id": next(TASK_IDS)}
    return path_parameters


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    path, query, body = case.operation.path, case.query, case.body
    if path.endswith(("/events", "/tasks/{task_id}/logs")):
        case.query = {**(query or {}), "seconds": 0.05}
    elif isinstance(query, dict):
        query.pop("cursor", None)  # a text that a page before gave, which no schema can say
        if path.endswith("/result"):
            query.pop("wait", None)
    for name in [name for name in case.headers or {} if name.lower() == "if-match"]:
        del case.headers[name]  # a version that somebody has seen
    if isinstance(body, dict):
        if path.endswith("/tasks/batch"):
            body["all_or_nothing"] = True  # else what is wrong with one of the tasks is told of that one
        if "idempotency_key" in body:
            case.headers = {name: value for name, value in (case.headers or {}).items()
                            if name.lower() != "idempotency-key"}  # the two have to be the same
        body.pop("cursor", None)
        for task in (body, *body["tasks"]) if isinstance(body.get("tasks"), list) else (body,):
            _be_acceptable(task)
        if path.endswith("/scheduler/control") and body.get("action") in ("stop", "drain", "restart", "scale"):
            body["action"] = "pause"


def _be_acceptable(task: Any) -> None:
    """What is printable, rules between two fields, and names of handlers, are no matter of a schema."""
    for name in ("name", "fair_key", "idempotency_key", "tag", "reason") if isinstance(task, dict) else ():
        if isinstance(task.get(name), str) and task[name] and not task[name].isprintable():
            task[name] = "".join(one if one.isprintable() else "?" for one in task[name])
    if isinstance(task, dict) and isinstance(task.get("tags"), list):
        task["tags"] = ["?" if isinstance(tag, str) and tag and not tag.isprintable() else tag for tag in task["tags"]]
    if isinstance(task, dict) and isinstance(task.get("task_type"), str) and task["task_type"]:
        task["task_type"] = "noop"
        for name in ("expires", "soft_timeout"):
            if isinstance(task.get(name), float | int):
                task.pop(name)
