"""`ganger config`: whether the settings are right, what they are and where each comes from; a file to start with."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.commands.run import SetOption
from engine.cli.exit_codes import Exit
from engine.cli.session import Session, command, settings_of
from engine.errors import EngineError, InvalidOption

if TYPE_CHECKING:
    from engine.config import Loaded


def add_to(app: typer.Typer) -> None:
    nouns = typer.Typer(help="Check, show or start a configuration.", no_args_is_help=True, rich_markup_mode=None)
    command(nouns, "check", examples="ganger config check --config /etc/ganger.toml")(check)
    command(nouns, "show", examples="ganger config show\nganger config show --json | jq .lease_s")(show)
    command(nouns, "init", examples="ganger config init\nganger config init /etc/ganger.toml", with_json=False)(init)
    app.add_typer(nouns, name="config")


def check(session: Session, assignments: SetOption = None) -> int:
    """Say everything that is wrong with the settings; exit code 0 if nothing is, else 2."""
    from engine.config import resolve

    loaded, problems = resolve(session.flags(**settings_of(assignments)), session.common.config)
    if session.out.as_json:
        session.out.json({"ok": loaded is not None, "problems": [
            {"field": problem.field, "message": str(problem), "value": problem.value, "limit": problem.limit}
            for problem in problems]})
    for problem in problems:
        session.out.note(f"ganger: {problem}")
    if loaded is not None and not session.out.as_json:
        session.out.line(f"ok: {_read_from(loaded)}")
    return Exit.OK if loaded is not None else Exit.USAGE


def show(session: Session, assignments: SetOption = None) -> None:
    """Print each setting with its value and the source of the value."""
    loaded = session.load(**settings_of(assignments))
    values = shown_values(loaded)
    if session.out.as_json:
        session.out.json({name: {"value": value, "source": loaded.sources[name]} for name, value in values.items()})
        return
    import orjson

    session.out.table(("setting", "value", "source"), [
        (name, "" if value is None else value if isinstance(value, str) else orjson.dumps(value).decode(),
         loaded.sources[name]) for name, value in values.items()])


def init(
    session: Session,
    path: Annotated[Path, typer.Argument(metavar="[FILE]", help="Where to write it.")] = Path("ganger.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if there is one.")] = False,
) -> None:
    """Write a configuration file that shows every setting with its default, commented out."""
    from engine.config.template import template

    if path.exists() and not force:
        raise InvalidOption(f"there is a file {str(path)!r} already; --force overwrites it", field="file",
                            value=str(path), limit="a new file")
    try:
        path.write_text(template())
    except OSError as error:
        raise EngineError(f"cannot write {str(path)!r}: {error.strerror}") from None
    session.out.line(f"wrote {path}")


def shown_values(loaded: "Loaded") -> dict[str, Any]:
    """Every setting as JSON, the URL without its password."""
    from engine.config.limits import without_password

    values: dict[str, Any] = loaded.settings.model_dump(mode="json")
    if values["redis_url"]:
        values["redis_url"] = without_password(values["redis_url"])
    return values


def _read_from(loaded: "Loaded") -> str:
    changed = [name for name, source in loaded.sources.items() if source != "default"]
    file = f"file {loaded.config_file}" if loaded.config_file else "no file"
    return f"{file}; {len(changed)} of {len(loaded.sources)} settings are not at their default"
