"""Whether tasks would run, judged by what the pools report."""

from typing import Any

import pytest

from engine.core.measure.health import SILENT_S, find_problems

NOW_MS = 1_800_000_000_000
SLOT = {"pid": 42}


def report(**more: Any) -> dict[str, Any]:
    return {"alive": True, "pool": "default", "at_ms": NOW_MS - 1000, "slots": [SLOT], **more}


def test_a_pool_that_works_is_ready() -> None:
    reports = [report(handlers=1), report(handlers=0), report(alive=False, slots=[])]
    assert find_problems(reports, {"double"}, NOW_MS) == ([], [])


@pytest.mark.parametrize(("reports", "handlers", "reason"), [
    ([], {"a"}, "no pool is running"),
    ([report(alive=False)], {"a"}, "no pool is running"),
    ([report(slots=[{"pid": None}])], {"a"}, "no worker is up"),
    ([report(draining=True)], {"a"}, "every pool is draining"),
    ([report()], set(), "no pool knows a handler"),
    ([report(handlers=0, import_failures={"tasks": "no module"})], {"a"}, "no pool knows a handler; these modules"),
    ([report(import_failures={"tasks": "no module"})], set(), "modules cannot be imported: tasks"),
    ([report(at_ms=NOW_MS - SILENT_S * 2000)], {"a"}, "has had no step accepted by Redis for 30 s")])
def test_why_nothing_would_run(reports: list[dict[str, Any]], handlers: set[str], reason: str) -> None:
    found = find_problems(reports, handlers, NOW_MS)
    assert any(reason in one for one in found.reasons), found


def test_what_works_in_part_is_degraded() -> None:
    reports = [report(import_failures={"thumbs": "no module"}), report(pool="slow", at_ms=NOW_MS - SILENT_S * 2000)]
    reasons, degraded = find_problems(reports, {"a"}, NOW_MS)
    assert reasons == []
    assert len(degraded) == 2
    assert "slow" in degraded[0]
    assert "thumbs" in degraded[1]
