"""How the table of workers names their pools."""

from typing import Any

from engine.cli.commands import workers


def report(supervisor: str, pool: str, host: str, **more: Any) -> dict[str, Any]:
    return {"supervisor": supervisor, "pool": pool, "host": host, "slots": [{"slot": 0, "state": "idle"}], **more}


def test_pools_of_one_name_are_told_apart_by_their_supervisors() -> None:
    told = list(workers.rows([
        report("a.default.1", "default", "a"), report("b.default.2", "default", "b", draining=True),
        report("a.images.3", "images", "a")]))
    assert [row[:3] for row in told] == [
        ("a.default.1", "a", 0), ("b.default.2 (draining)", "b", 0), ("images", "a", 0)]


def test_so_are_the_curves_of_their_past() -> None:
    pasts: list[dict[str, Any]] = [{**report("a.default.1", pool, "a"), "slot": 0, "history": []}
                                   for pool in ("default", "images")]
    assert [workers._past_row(told, 12, {"default"})[0] for told in pasts] == ["a.default.1/0", "images/0"]
