"""The commands by name, each loaded when it is called or asked for help: the others need not be waited for."""

import re
from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from engine.core.task.names import did_you_mean

_FILES = {"logs": "log", "install-service": "service"} | dict.fromkeys(  # else of the same name
    ("status", "result", "wait", "cancel", "retry", "delete", "priority"), "task")
_TYPE = re.compile(r" <.*>$")
SUMMARIES = {
    "run": "Start the engine: pools of workers and the keeper",
    "demo": "See it work: real tasks beside some that hang, crash and leak",
    "submit": "Submit one task and print its id, or with --wait its result",
    "status": "Show what is known of tasks: where they are, what they used",
    "result": "Print what the handler returned, as JSON",
    "wait": "Wait until tasks have ended, and print how",
    "logs": "Print what a task wrote to stdout, stderr and its log",
    "cancel": "Cancel tasks",
    "retry": "Queue tasks again that failed, timed out or were cancelled",
    "priority": "Change the priority of a task that has not started",
    "delete": "Forget tasks that have ended, with their results",
    "tasks": "List the tasks that match",
    "queues": "Show what waits in the queues; pause, resume or purge one",
    "workers": "Show the pools and their workers, and what each runs",
    "scale": "Give a pool more or fewer workers while it runs",
    "top": "Watch the processes, what they run and the queues, live",
    "stack": "Show where every thread of a worker is, while it goes on",
    "tree": "Show the processes of the engine as a tree",
    "api": "Serve the REST API alone, beside engines that run elsewhere",
    "keys": "Create, list and revoke the keys of the API",
    "config": "Check, show or start a configuration",
    "install-service": "Write a systemd unit for an engine in a folder",
    "doctor": "Check Redis, the handlers and the limits of this host",
}


class Nouns(TyperGroup):
    """A group that knows its commands by name and one line, and loads one when it is needed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(SUMMARIES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in SUMMARIES:
            if not ctx.resilient_parsing:  # which completion is
                ctx.fail(f"there is no command {cmd_name!r}{did_you_mean(cmd_name, SUMMARIES)}")
            return None
        app = typer.Typer(rich_markup_mode=None)
        _module(cmd_name).add_to(app)
        return _without_types(get_group(app).commands[cmd_name])

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


def _without_types(command: Any) -> Any:
    """The command with arguments that its help calls by their names alone: `ID`, not `ID <list[str]>`."""
    for below in getattr(command, "commands", {}).values():
        _without_types(below)
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            parameter.get_help_record = partial(_help_record, parameter.get_help_record)
    return command


def _help_record(record: Callable[[Any], tuple[str, str] | None], ctx: Any) -> tuple[str, str] | None:
    told = record(ctx)
    return told and (_TYPE.sub("", told[0]), told[1])


def _module(name: str) -> ModuleType:
    """The file with the command."""
    return import_module(f"engine.cli.commands.{_FILES.get(name, name)}")
