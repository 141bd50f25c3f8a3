"""`ganger install-service`: writes the unit that is packaged with us for a user, a folder and this program."""

import pwd
import shlex
import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from engine.cli.session import Session, command
from engine.errors import EngineError, InvalidOption

SYSTEMD = Path("/etc/systemd/system")
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_PRIVATE = (Path("/tmp"), Path("/var/tmp"))
_EXAMPLES = """
ganger install-service --user ganger --dir /srv/ganger
ganger install-service --user ganger --dir /srv/ganger --template   # then: systemctl start ganger@images
ganger install-service --user me --dir . --to - | less
"""


def add_to(app: typer.Typer) -> None:
    command(app, "install-service", examples=_EXAMPLES)(install_service)


def install_service(
    session: Session,
    user: Annotated[str, typer.Option("--user", metavar="USER", help="The user that it runs as.")],
    folder: Annotated[Path, typer.Option(
        "--dir", metavar="DIR", help="Where ganger.toml and your handlers are, and where it may write.")],
    template: Annotated[bool, typer.Option(
        "--template", help="A unit for several engines, each in its own folder below DIR.")] = False,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where to write the unit; - prints it.")] = SYSTEMD,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the unit if there is one.")] = False,
) -> None:
    """Write a systemd unit for an engine in a folder."""
    name = "ganger@.service" if template else "ganger.service"
    text = unit(name, user, _checked(user, folder), template=template)
    if str(to) == "-":
        if session.out.as_json:
            session.out.json({"unit": text})
        else:
            session.out.line(text.rstrip("\n"))
        return
    path = to / name
    if path.exists() and not force:
        raise InvalidOption(f"there is a unit {str(path)!r} already; --force overwrites it", field="to",
                            value=str(path), limit="a new file")
    try:
        path.write_text(text)
    except OSError as error:
        raise EngineError(f"cannot write {str(path)!r}: {error.strerror}") from None
    service = "ganger@NAME" if template else "ganger"
    following = ["systemctl daemon-reload", f"systemctl enable --now {service}", f"systemctl status {service}"]
    if session.out.as_json:
        session.out.json({"wrote": str(path), "next": following})
        return
    session.out.line(f"wrote {path}; next:")
    for step in following:
        session.out.line(f"  {step}")


def unit(name: str, user: str, folder: Path, *, template: bool) -> str:
    """The packaged unit with these lines in place of its own."""
    program = _program()
    place = _escaped(str(folder)) + ("/%i" if template else "")
    values = {"User": user, "WorkingDirectory": place, "ReadWritePaths": f'"{place}"' if " " in place else place,
              "ExecStart": " ".join(_escaped(shlex.quote(word)).replace("$", "$$") for word in (*program, "run"))}
    if any(path.is_relative_to(home) for home in _HOMES for path in (folder, Path(program[0]), Path(sys.base_prefix))):
        values["ProtectHome"] = "read-only"
    lines = files("ganger_config").joinpath("systemd", name).read_text().splitlines()
    fitted = [f"{key}={values[key]}" if (key := line.partition("=")[0]) in values else line for line in lines]
    return "\n".join(fitted) + "\n"


def _checked(user: str, folder: Path) -> Path:
    """The folder as a path from the root. Raises InvalidOption for what could never run."""
    folder = folder.expanduser().resolve()
    try:
        pwd.getpwnam(user)
    except KeyError:
        raise InvalidOption(f"there is no user {user!r}; make one: useradd --system --home-dir {folder} {user}",
                            field="user", value=user, limit="a user of this host") from None
    if not folder.is_dir():
        raise InvalidOption(f"there is no folder {str(folder)!r}", field="dir", value=str(folder), limit="a folder")
    if any(folder.is_relative_to(private) for private in _PRIVATE):
        raise InvalidOption(f"a service has a /tmp of its own, so it would not find {str(folder)!r}", field="dir",
                            value=str(folder), limit="a folder outside /tmp and /var/tmp")
    if not str(folder).isprintable():
        raise InvalidOption(f"systemd takes no folder of the name {str(folder)!r}", field="dir", value=str(folder),
                            limit="printable letters")
    return folder


def _program() -> list[str]:
    """How to call the command that is running."""
    script = Path(sys.executable).with_name("ganger")
    return [str(script)] if script.exists() else [sys.executable, "-m", "engine"]


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
