"""What every command has in common: the options to reach an engine, the connection, and how an error ends a command.

`@command(app, "name")` turns a function of a `Session` and its own arguments
into a command that also takes the common options. Heavy modules are imported
where they are used, so that `ganger --help` does not wait for redis or pydantic.
"""

import inspect
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.exit_codes import Exit, exit_of, limit_met
from engine.cli.output import Output
from engine.errors import GangerError, InvalidSetting

if TYPE_CHECKING:
    from engine.client import Client
    from engine.config import Loaded, Settings
    from engine.ports.engine_broker import EngineBroker

ConfigOption = Annotated[Path | None, typer.Option(
    "--config", metavar="FILE", help="Settings to read (default: $GANGER_CONFIG, ./ganger.toml, ./config/ganger.toml)")]
RedisOption = Annotated[str | None, typer.Option(
    "--redis-url", metavar="URL", help="Redis to use, instead of the embedded one.")]
DataOption = Annotated[str | None, typer.Option(
    "--data-dir", metavar="DIR", help="Folder of the embedded Redis (default: .ganger).")]
PrefixOption = Annotated[str | None, typer.Option(
    "--queue-prefix", metavar="PREFIX", help="Prefix of all keys in Redis (default: ganger).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document.")]

COMMON: dict[str, tuple[Any, Any]] = {  # name: (annotation, default)
    "config": (ConfigOption, None), "redis_url": (RedisOption, None), "data_dir": (DataOption, None),
    "queue_prefix": (PrefixOption, None), "json": (JsonOption, False),
}


@dataclass(frozen=True, slots=True)
class Common:
    """The common options as they were given; before the command, after it, or not at all."""

    config: Path | None = None
    redis_url: str | None = None
    data_dir: str | None = None
    queue_prefix: str | None = None
    json: bool = False

    def over(self, before: "Common | None") -> "Common":
        """These options where they were given, else those given before the command."""
        if before is None:
            return self
        given = {name: getattr(self, name) or getattr(before, name) for name in COMMON}
        return replace(self, **given)


class Session:
    """One command at work: finds the settings, connects to Redis, prints."""

    def __init__(self, common: Common) -> None:
        self.common = common
        self.out = Output(as_json=common.json)

    def load(self, **flags: Any) -> "Loaded":
        """Return the settings, with those of the command line first. Raises `InvalidSetting`."""
        from engine.config import load_settings

        return load_settings(self.flags(**flags), self.common.config)

    def flags(self, **flags: Any) -> dict[str, Any]:
        """Return the common options as settings by name, with these beside them."""
        common = self.common
        return {"redis_url": common.redis_url, "data_dir": common.data_dir, "queue_prefix": common.queue_prefix,
                **flags}

    @contextmanager
    def settings_with_redis(self, settings: "Settings | None" = None) -> "Iterator[Settings]":
        """Give settings with the URL of a Redis. Without one, this process uses the embedded Redis while inside."""
        from engine.client.provider import settings_with_redis

        with settings_with_redis(settings or self.load().settings) as found:
            yield found

    @contextmanager
    def client(self) -> "Iterator[Client]":
        """Give a client. Raises `InvalidSetting` or `EngineError`; its verbs raise `BrokerError`."""
        from engine.client import Client

        with self.settings_with_redis() as settings, Client(settings=settings) as client:
            yield client

    @contextmanager
    def broker(self) -> "Iterator[EngineBroker]":
        """Give a broker that is connected. Raises `InvalidSetting`, `EngineError` or `BrokerError`."""
        from engine.client.provider import connected

        with self.settings_with_redis() as settings:
            broker = connected(settings)
            try:
                yield broker
            finally:
                broker.close()


def command(app: typer.Typer, name: str, *, examples: str = "", with_json: bool = True,
            **options: Any) -> Callable[[Callable[..., int | None]], Callable[..., None]]:
    """Register a function `f(session, …) -> exit code or None` as a command with the common options.

    `examples` are the lines at the end of its help.
    """
    epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in examples.strip().splitlines()) if examples else None

    def register(function: Callable[..., int | None]) -> Callable[..., None]:
        wrapped = with_common(function, with_json=with_json)
        app.command(name, epilog=epilog, **options)(wrapped)
        return wrapped

    return register


def with_common(function: Callable[..., int | None], *, with_json: bool = True) -> Callable[..., None]:
    """The function with the common options in place of its session."""
    own = [parameter for parameter in inspect.signature(function).parameters.values() if parameter.name != "session"]
    names = [name for name in COMMON if with_json or name != "json"]

    @wraps(function)
    def run(context: typer.Context, **arguments: Any) -> None:
        given = Common(**{name: arguments.pop(name) for name in names})
        given = given.over(context.find_object(Common))
        if context.invoked_subcommand is not None:  # a group whose own function is for when no command is named
            context.obj = given
            return
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # all that it needs to end in good order is loaded
            signal.signal(signal.SIGINT, signal.default_int_handler)
        session = Session(given)
        with told_in_one_line(session.out):
            code = function(session, **arguments)
            session.out.flush()  # here, so that what cannot be written is noticed here
        raise typer.Exit(code or Exit.OK)

    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
                  *(parameter.replace(kind=kind) for parameter in own)]
    parameters += [inspect.Parameter(name, kind, default=default, annotation=annotation)
                   for name, (annotation, default) in COMMON.items() if name in names]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


@contextmanager
def told_in_one_line(out: Output) -> Iterator[None]:
    """Turn an error of a command into one line on stderr and an exit code."""
    try:
        yield
    except GangerError as error:
        out.error(error)
        raise typer.Exit(exit_of(error)) from None
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
    except (OSError, RuntimeError) as error:
        limit = limit_met(error)
        if not limit:
            raise
        out.note(f"ganger: {limit} is reached: raise it, or end what else this user runs ({error})")
        raise typer.Exit(Exit.ENGINE) from None


def settings_of(assignments: list[str] | None) -> dict[str, str]:
    """Return `--set NAME=VALUE` as settings by name. Raises `InvalidSetting` for text without `=`."""
    found = {}
    for assignment in assignments or []:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise InvalidSetting(f"--set {assignment!r} is not NAME=VALUE", field="--set", value=assignment,
                                 limit="NAME=VALUE")
        found[name.strip().replace("-", "_")] = value
    return found
