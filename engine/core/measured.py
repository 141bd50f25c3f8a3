"""Supervisors' reports with what was measured of their processes beside each of them."""

from typing import Any

MEASURED = ("cpu_percent", "rss_bytes", "threads", "open_files")


def with_measurements(supervisors: list[dict[str, Any]], processes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The reports, with CPU and memory put beside each slot and each supervisor that was measured."""
    samples = {(sample.get("host"), sample.get("pid")): sample for sample in processes}

    def measured(host: Any, row: dict[str, Any]) -> dict[str, Any]:
        sample = samples.get((host, row.get("pid")), {})
        return {**row, **{name: sample.get(name) for name in MEASURED}}

    return [{**measured(report.get("host"), report),
             "slots": [measured(report.get("host"), slot) for slot in report.get("slots", [])]}
            for report in supervisors]
