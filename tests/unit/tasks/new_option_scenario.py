"""An option that is added to the table, and nowhere else, is known everywhere: python new_option_scenario.py REDIS_URL

It runs in a process of its own, and imports the table before the package: everything is derived from the table when
the package is imported.
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAME = "engine.core.task.options"
spec = importlib.util.spec_from_file_location(NAME, Path(__file__).parents[3] / "engine/core/task/options.py")
assert spec is not None
assert spec.loader is not None
table = sys.modules[NAME] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(table)
table.OPTIONS["gpu_share"] = table.Option(
    name="gpu_share", type=table.OptionType.NUMBER, about="Share of a GPU.", by=table.BOTH, unit="share", high=1,
    default="0", key="gpu_share", can_be_amended=True)

from typer.testing import CliRunner  # noqa: E402

from engine.cli.app import app  # noqa: E402
from engine.client import Client  # noqa: E402
from engine.client.operations import TaskOperations  # noqa: E402
from engine.client.provider import RedisBrokerProvider  # noqa: E402
from engine.config import Settings, option_reference  # noqa: E402
from engine.core.task.record import checked_options  # noqa: E402
from engine.errors import InvalidOption  # noqa: E402
from engine.services.api.models.tasks import TaskCreate, TaskUpdate  # noqa: E402
from engine.tasks.handler import register  # noqa: E402


def refusal(call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    try:
        call(*arguments, **options)
    except (InvalidOption, ValueError) as error:
        return str(error)
    raise AssertionError(f"{call} accepted {arguments} {options}")


def digest(payload: Any) -> None:
    """A handler."""


def other(payload: Any) -> None:
    """Another one."""


def main(redis_url: str) -> None:
    settings = Settings(redis_url=redis_url)
    options: dict[str, Any] = {"gpu_share": 0.5}
    assert register("digest", digest, **options).announcement()["gpu_share"] == 0.5
    assert "gpu_share 2 is not acceptable: it must be a number from 0 to 1" in refusal(
        register, "other", other, gpu_share=2)

    provider = RedisBrokerProvider(settings)
    with Client(settings=settings, provider=provider) as client:
        task_id = client.submit("digest", {}, **options)
        assert "a number from 0 to 1" in refusal(client.submit, "digest", {}, gpu_share=True)
        operations = TaskOperations(client, provider)
        [stored] = operations.read([task_id])
        assert stored is not None
        assert stored.record.options == {"gpu_share": 0.5}
        assert operations.amend(task_id, {"gpu_share": 1}).record.options == {"gpu_share": 1}

    body = TaskCreate.model_validate_json('{"task_type": "digest", "gpu_share": 0.75}')
    assert body.options() == {"task_type": "digest", "gpu_share": 0.75}
    assert "gpu_share" in refusal(TaskCreate.model_validate_json, '{"task_type": "digest", "gpu_share": 1.5}')
    assert TaskCreate.model_json_schema()["properties"]["gpu_share"]["description"] == "Share of a GPU."
    assert "gpu_share" in TaskUpdate.model_fields

    assert checked_options({"gpu_share": 0.5}) == {"gpu_share": 0.5}
    assert "its gpu_share is 2" in refusal(checked_options, {"gpu_share": 2})

    command = CliRunner().invoke(app, ["--redis-url", redis_url, "submit", "digest", "--gpu-share", "0.5"])
    assert command.exit_code == 0, command.output
    assert "Share of a GPU." in CliRunner().invoke(app, ["submit", "--help"]).output
    assert "| `gpu_share` |" in option_reference.table(settings)


if __name__ == "__main__":
    main(sys.argv[1])
