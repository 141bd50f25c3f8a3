"""`ganger run`: the engine in the foreground, until a signal ends it."""

from importlib.util import find_spec
from typing import Annotated

import typer

from engine.cli.exit_codes import Exit
from engine.cli.session import Session, command, settings_of
from engine.errors import EngineError

_EXAMPLES = """
ganger run --handlers my_app.tasks --handlers my_app.reports
ganger run --handlers my_app.tasks --max-workers 8 --redis-url redis://redis.internal:6379/0
ganger run --config /etc/ganger.toml --set lease_s=30
"""

MISSING = "the API needs more packages: pip install 'ganger[api]'"
HandlersOption = Annotated[list[str] | None, typer.Option(
    "--handlers", metavar="MODULE",
    help="Module with handlers to import, such as my_app.tasks; may be given several times.")]
SetOption = Annotated[list[str] | None, typer.Option(
    "--set", metavar="NAME=VALUE",
    help="Any other setting (`ganger config show` lists them); may be given several times.")]


def add_to(app: typer.Typer) -> None:
    command(app, "run", examples=_EXAMPLES, with_json=False)(run)


def run(
    session: Session,
    handlers: HandlersOption = None,
    max_workers: Annotated[int | None, typer.Option(
        metavar="N", help="Worker processes of each pool (default: one for each core).")] = None,
    log_level: Annotated[str | None, typer.Option(metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR.")] = None,
    log_format: Annotated[str | None, typer.Option(metavar="FORM", help="text, json or auto.")] = None,
    api: Annotated[bool, typer.Option("--api", help="Serve the REST API too (see `ganger api`).")] = False,
    allow_missing_handlers: Annotated[bool, typer.Option(
        "--allow-missing-handlers",
        help="Start even where a handler module cannot be imported, or there is no handler.")] = False,
    assignments: SetOption = None,
) -> int:
    """Start the engine: pools of workers and the keeper.

    It ends with code 5 and the traceback where a handler module cannot be imported. Tasks of types that no pool knows
    wait for one that does.

    SIGTERM or Ctrl-C drains: running tasks finish or are given back within shutdown_grace_s; a second one stops
    at once. Closing its terminal drains too, unless it was started with nohup. `kill -HUP` reads the settings and the
    handlers' code again without losing a task.
    """
    flags = {"handlers": handlers or None, "max_workers": max_workers, "log_level": log_level,
             "log_format": log_format, "api": api or None, "allow_missing_handlers": allow_missing_handlers or None,
             **settings_of(assignments)}
    settings = session.load(**flags).settings
    if settings.api and find_spec("uvicorn") is None:
        raise EngineError(MISSING)
    from engine.services.tree.run import run_root

    try:
        code = run_root(settings, lambda: session.load(**flags).settings)
    except EngineError as error:
        summary, _, details = str(error).partition("\n")
        if details:
            session.out.note(details)
        raise EngineError(summary) from error
    return Exit.OK if code == 0 else Exit.ENGINE
