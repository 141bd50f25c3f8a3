"""`ganger keys`: who may call the API."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.session import Session, command
from engine.core.task.names import check_queue_name
from engine.errors import InvalidOption
from engine.ports.api_keys import hashed
from engine.tasks.options import text as check_text

if TYPE_CHECKING:
    from engine.ports.api_keys import ApiKeyStore

_CLOSED = ("there are no keys any more, and the API refuses every call: make one with ganger keys create, or let it "
           "serve without keys with ganger keys open")
ROLES = ("read", "submit", "operate", "admin")


def add_to(app: typer.Typer) -> None:
    nouns = typer.Typer(help="Create, list and revoke the keys of the API.", no_args_is_help=True,
                        rich_markup_mode=None)
    command(nouns, "create", examples="ganger keys create ci --role submit --queue images\n"
            "ganger keys create me --role admin --json | jq -r .key")(create)
    command(nouns, "list", examples="ganger keys list\nganger keys list --json")(list_keys)
    command(nouns, "revoke", examples="ganger keys revoke 5f0c2a9b")(revoke)
    command(nouns, "open", examples="ganger keys open --yes")(open_api)
    app.add_typer(nouns, name="keys")


@contextmanager
def vault(session: Session) -> "Iterator[ApiKeyStore]":
    """The place where the keys are."""
    with session.broker() as broker:
        yield broker.api_keys


def create(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is, for the list and the audit log.")],
    role: Annotated[str, typer.Option(metavar="ROLE", help="read, submit, operate or admin.")] = "read",
    queue: Annotated[list[str] | None, typer.Option(
        metavar="QUEUE", help="Only for this queue; may be given several times (default: all).")] = None,
    rate_per_s: Annotated[float, typer.Option(
        "--rate", metavar="N", min=0, help="Calls a second; 0 is as the settings say.")] = 0.0,
) -> None:
    """Make a key and print it, this once: only its hash is kept."""
    if role not in ROLES:
        raise InvalidOption(f"role {role!r} is not one of {', '.join(ROLES)}", field="role", value=role,
                            limit=", ".join(ROLES))
    key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    told: dict[str, Any] = {
        "name": check_text(name, "name"), "role": role, "hash": hashed(secret), "rate_per_s": rate_per_s,
        "queues": [check_queue_name(one) for one in queue] if queue else None,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds")}
    with vault(session) as keys:
        keys.add(key_id, told)
    key = f"gk_{key_id}_{secret}"
    if session.out.as_json:
        session.out.json({"id": key_id, "key": key, **{name: told[name] for name in ("name", "role", "queues")}})
    else:
        session.out.line(key)
        session.out.note("this is the only time that it is shown")


def list_keys(session: Session) -> None:
    """Show the keys. The secrets are not stored."""
    with vault(session) as keys:
        table = keys.table()
    found = table.keys
    rows = [{"id": key_id, **{name: told.get(name) for name in ("name", "role", "queues", "rate_per_s", "created_at")}}
            for key_id, told in sorted(found.items(), key=lambda item: str(item[1].get("created_at")))]
    if session.out.as_json:
        session.out.json(rows)
    elif rows:
        session.out.table(("id", "name", "role", "queues", "created"), [
            (row["id"], row["name"], row["role"], ", ".join(row["queues"] or ["*"]), row["created_at"])
            for row in rows])
    elif table.is_keyed:
        session.out.note(_CLOSED)
    else:
        session.out.note("there are no keys: the API serves every caller on this host, and no other host")


def revoke(session: Session, ids: Annotated[list[str], typer.Argument(metavar="ID", help="Ids of keys.")]) -> None:
    """Revoke keys, within a second."""
    with vault(session) as keys:
        known = keys.all()
        unknown = [key_id for key_id in ids if key_id not in known]
        if unknown:
            raise InvalidOption(f"there is no key {unknown[0]!r}; none was revoked", field="id", value=unknown[0],
                                limit="an id that ganger keys list shows")
        for key_id in ids:
            keys.remove(key_id)
        left = keys.all()
    if session.out.as_json:
        session.out.json([{"id": key_id, "revoked": True} for key_id in ids])
    else:
        session.out.line(f"{len(ids)} revoked")
        if not left:
            session.out.note(_CLOSED)


def open_api(
    session: Session, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Let the API serve without keys again, after the last one was revoked.

    Whoever can reach the API may then do everything: read all tasks, submit, stop the engine. An API that listens
    beyond this host still needs --open to start without keys.
    """
    with vault(session) as keys:
        count = len(keys.all())
        if count:
            raise InvalidOption("the API has keys, and each call needs one; revoke them first: ganger keys list",
                                field="keys", value=str(count), limit="no keys")
        if not yes and not session.out.confirm("Let every caller who can reach the API do everything, without a key?"):
            raise InvalidOption("the API was not opened", field="yes", limit="--yes, or the answer y")
        keys.open()
    if session.out.as_json:
        session.out.json({"open": True})
    else:
        session.out.line("the API serves without keys")
