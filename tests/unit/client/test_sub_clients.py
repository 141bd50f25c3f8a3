"""The client hands its verbs on to sub-clients: the same signatures, and docs/client.md names all of them."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine import Client, Scheduler
from engine.client.engine import EngineClient
from engine.client.handlers import HandlersClient
from engine.client.queues import QueuesClient
from engine.client.short_verbs import ShortVerbs
from engine.client.tasks import TasksClient
from engine.client.workers import WorkersClient

SUB_CLIENTS = {"tasks": TasksClient, "queues": QueuesClient, "workers": WorkersClient, "handlers": HandlersClient,
               "engine": EngineClient}
PAGE = (Path(__file__).parents[3] / "docs" / "client.md").read_text(encoding="utf-8")


def verbs(of: type) -> set[str]:
    return {name for name, value in vars(of).items() if inspect.isfunction(value) and not name.startswith("_")}


def parameters(function: object) -> list[tuple[str, object, object]]:
    """Names, kinds and defaults; annotations are text in one of the two files."""
    assert callable(function)
    return [(one.name, one.kind, one.default) for one in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", SUB_CLIENTS)
def test_the_page_has_every_verb_of_a_sub_client(name: str) -> None:
    row = re.search(rf"^\| `client\.{name}` \|(.*)\|$", PAGE, re.MULTILINE)
    assert row is not None
    assert set(re.findall(r"`(\w+)`", row[1])) == verbs(SUB_CLIENTS[name])


@pytest.mark.parametrize("verb", sorted(verbs(ShortVerbs) - {"queue_stats"}))
def test_a_short_verb_takes_what_the_verb_of_the_tasks_takes(verb: str) -> None:
    assert parameters(getattr(ShortVerbs, verb)) == parameters(getattr(TasksClient, verb))


@pytest.mark.parametrize("verb", sorted(verbs(Client) - {"close"}))
def test_a_short_name_takes_what_the_verb_that_it_names_takes(verb: str) -> None:
    short = getattr(Client, verb)
    named = re.fullmatch(r"Short for `(\w+)\.(\w+)`\.", short.__doc__)
    assert named is not None
    assert parameters(short) == parameters(getattr(SUB_CLIENTS[named[1]], named[2]))


@pytest.mark.parametrize("verb", sorted(verbs(Client) | verbs(ShortVerbs) - {"close"}))
def test_the_page_has_every_short_name(verb: str) -> None:
    assert verb == "close" or re.search(rf"`(client\.)?{verb}`", PAGE.split("## Short names")[1])


def test_three_sub_clients_can_be_called() -> None:
    assert TasksClient.__call__ is TasksClient.find
    assert WorkersClient.__call__ is WorkersClient.supervisors
    assert HandlersClient.__call__ is HandlersClient.announced


def test_a_scheduler_has_the_short_verbs_and_needs_no_redis_to_be_imported() -> None:
    assert all(getattr(Scheduler, verb) is getattr(Client, verb) for verb in verbs(ShortVerbs))
    program = "import sys, engine.scheduler; print(sorted({'redis', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
