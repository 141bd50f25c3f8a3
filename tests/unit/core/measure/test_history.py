"""An hour of what each process used: names, entries, and one process's past."""

from typing import Any

import orjson

from engine.core.measure.usage_history import FIELDS, Recorder, names, past


def sample(title: str, ppid: int = 1, **values: Any) -> dict[str, Any]:
    return {"ppid": ppid, "title": title, **dict.fromkeys(FIELDS), **values}


TREE = {
    1: sample("ganger: root", 0), 2: sample("ganger: keeper   "), 3: sample("ganger: pool images"),
    4: sample("ganger: fork server images", 3), 5: sample("ganger: worker 3 thumbnail 4f2a", 4),
    6: sample("sleep 10", 5), 7: sample("ganger: worker 0", 6),
}


def test_names_hold_over_restarts_and_are_of_our_own_processes_only() -> None:
    assert names(TREE) == {1: "root", 2: "keeper", 3: "pool images", 4: "fork server images", 5: "worker images/3"}


def test_an_entry_has_means_of_rates_and_peaks_of_what_is_held() -> None:
    recorder = Recorder()
    for cpu_percent, rss_bytes, pss_bytes in ((10.0, 300, None), (20.0, 100, 50), (None, 200, None)):
        recorder.add({1: sample("ganger: root", cpu_percent=cpu_percent, rss_bytes=rss_bytes, pss_bytes=pss_bytes)})
    [told] = past([orjson.loads(recorder.take(7))], "root")
    assert (told["at_ms"], told["cpu_percent"], told["rss_bytes"], told["pss_bytes"]) == (7, 15.0, 300, 50)
    assert told["threads"] is None
    assert orjson.loads(recorder.take(8)) == {"at_ms": 8, "rows": {}}, "each sample counts once"


def test_the_past_of_a_process_has_gaps_where_it_was_not_there() -> None:
    entries = [{"at_ms": 30, "rows": {"root": [3] * len(FIELDS)}}, {"at_ms": 20, "rows": {"keeper": [2] * len(FIELDS)}},
               {"at_ms": 10, "rows": {"root": [1] * len(FIELDS)}}, {"at_ms": 5, "rows": {"root": [1, 2]}}]
    assert [(one["at_ms"], one["cpu_percent"]) for one in past(entries, "root")] == [(10, 1), (30, 3)]
