"""`ganger api`: the REST API alone, beside engines that run elsewhere."""

from typing import Annotated

import typer

from engine.cli.commands.run import MISSING, SetOption
from engine.cli.exit_codes import Exit
from engine.cli.session import Session, command, settings_of
from engine.errors import EngineError

_EXAMPLES = """
ganger api
ganger api --port 9000 --redis-url redis://redis.internal:6379/0
ganger api --host 0.0.0.0      # after: ganger keys create me --role admin
"""


def add_to(app: typer.Typer) -> None:
    command(app, "api", examples=_EXAMPLES, with_json=False)(api)


def api(
    session: Session,
    host: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Where to listen (default: 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(metavar="PORT", help="Default: 8000. 0 is any that is free.")] = None,
    open_: Annotated[bool, typer.Option(
        "--open", help="Serve every caller without a key, also from other hosts.")] = False,
    log_level: Annotated[str | None, typer.Option(metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR.")] = None,
    log_format: Annotated[str | None, typer.Option(metavar="FORM", help="text, json or auto.")] = None,
    assignments: SetOption = None,
) -> int:
    """Serve the REST API until a signal ends it.

    `ganger run --api` serves it beside the pools. On loopback it needs no keys until there are some; anywhere else
    it refuses to start without one.
    """
    settings = session.load(**{
        "api_host": host, "api_port": port, "api_open": open_ or None, "log_level": log_level,
        "log_format": log_format, **settings_of(assignments)}).settings
    from engine import logs

    logs.set_up(settings.log_level, settings.log_format, process="api")
    try:
        from engine.services.api.http.server import serve
    except ImportError as error:
        raise EngineError(f"{MISSING} ({error})") from None
    with session.settings_with_redis(settings) as reached:
        return Exit.OK if serve(reached) == 0 else Exit.ENGINE
