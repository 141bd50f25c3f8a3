"""`ganger doctor`: whether everything that the engine needs is there, and what to do where it is not."""

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.commands.run import HandlersOption, SetOption
from engine.cli.doctor.finding import Finding, State
from engine.cli.exit_codes import Exit
from engine.cli.output import coloured
from engine.cli.session import Session, command, settings_of
from engine.errors import GangerError

if TYPE_CHECKING:
    from engine.config import Settings

_BEFORE = 21  # columns before what is found
_EXAMPLES = """
ganger doctor
ganger doctor --redis-url redis://redis.internal:6379/0 --handlers my_app.tasks
ganger doctor --repair
ganger doctor --json | jq '.findings[] | select(.state != "ok")'
"""


def add_to(app: typer.Typer) -> None:
    command(app, "doctor", examples=_EXAMPLES)(doctor)


def doctor(session: Session, handlers: HandlersOption = None, assignments: SetOption = None,
           repair: Annotated[bool, typer.Option(
               "--repair", help="Also repair contradictions in Redis, as the keeper does each minute.")] = False,
           ) -> int:
    """Check Redis, the handlers and the limits of this host.

    Each line says ok, warn or fail, and what to do about it. The exit code is 1 if something fails.
    """
    from engine.cli.doctor import host

    findings = [host.python()]
    try:
        settings = session.load(**settings_of(assignments), handlers=handlers or None).settings
    except GangerError as error:
        findings.append(Finding("settings", State.FAIL, str(error), "ganger config check"))
    else:
        findings.append(Finding("settings", State.OK, "acceptable"))
        findings += _of_redis(session, settings, mend=repair)
        runs = any(finding.name == "pools" and finding.state is State.OK for finding in findings)
        findings += [host.importable(settings, pools_run=runs), *host.limits(settings)]
    failed = any(finding.state is State.FAIL for finding in findings)
    if session.out.as_json:
        session.out.json({"ok": not failed, "findings": [finding.as_json() for finding in findings]})
    else:
        _tell(session, findings)
    return Exit.FAILED if failed else Exit.OK


def _of_redis(session: Session, settings: "Settings", *, mend: bool) -> list[Finding]:
    from engine.cli.doctor.redis import examine
    from engine.cli.doctor.repair import repair

    try:
        with session.settings_with_redis(settings) as reached:
            return [*examine(reached, embedded=settings.redis_url is None), *(repair(reached) if mend else [])]
    except GangerError as error:
        return [Finding("redis", State.FAIL, str(error), "start it, or name another one with --redis-url")]


def _tell(session: Session, findings: list[Finding]) -> None:
    for finding in findings:
        padding = " " * (4 - len(finding.state))
        first, *rest = _wrapped(finding.detail, session.out.room)
        session.out.line(coloured(finding.state), f"{padding}  {finding.name:<14} {first}")
        if finding.remedy and finding.state is not State.OK:
            rest += _wrapped(f"remedy: {finding.remedy}", session.out.room)
        for line in rest:
            session.out.line(" " * _BEFORE + line)


def _wrapped(text: str, room: int | None) -> list[str]:
    """Lines that fit beside the names; one line where it is no terminal."""
    return textwrap.wrap(text, max(30, room - _BEFORE), break_on_hyphens=False) or [""] if room else [text]
