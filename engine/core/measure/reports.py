"""Supervisors' reports with what was measured of their processes beside each of them."""

from typing import Any

MEASURED = ("cpu_percent", "rss_bytes", "pss_bytes", "threads", "open_files", "read_bytes_per_s", "write_bytes_per_s",
            "context_switches_per_s", "age_s")


def with_measurements(supervisors: list[dict[str, Any]], processes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The reports, with CPU and memory put beside each slot and each supervisor that was measured."""
    samples = {(sample.get("host"), sample.get("root_pid"), sample.get("pid")): sample for sample in processes}

    def measured(report: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
        sample = samples.get((report.get("host"), report.get("root_pid"), row.get("pid")), {})
        return {**row, **{name: sample.get(name) for name in MEASURED}}

    return [{**measured(report, report), "slots": [measured(report, slot) for slot in report.get("slots", [])]}
            for report in supervisors]
