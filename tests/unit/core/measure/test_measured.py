"""What was measured stands beside each process of a report, and beside no other."""

from engine.core.measure.reports import MEASURED, with_measurements

UNMEASURED = dict.fromkeys(MEASURED)


def test_a_sample_goes_with_host_and_pid() -> None:
    report = {"supervisor": "sup", "host": "here", "pid": 1, "slots": [{"slot": 0, "pid": 2}, {"slot": 1, "pid": None}]}
    sample = {"rss_bytes": 7, "cpu_percent": 50.0}
    (told,) = with_measurements([report], [{"host": "here", "pid": 2, **sample}, {"host": "there", "pid": 1, **sample}])
    slots = [{"slot": 0, "pid": 2, **UNMEASURED, **sample}, {"slot": 1, "pid": None, **UNMEASURED}]
    assert told == {**report, **UNMEASURED, "slots": slots}


def test_a_report_without_slots_is_left_as_it_is() -> None:
    assert with_measurements([{"supervisor": "sup"}], []) == [{"supervisor": "sup", **UNMEASURED, "slots": []}]
