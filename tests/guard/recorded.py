"""What was counted when it was last looked at, in recorded.json: name → value and margin, as a share of the value.

More than that fails: something costs more than it did. After a gain the new value is to be written down by hand.
"""

import json
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("recorded.json")


def hold(name: str, counted: float) -> None:
    """Compare with what was recorded; a name that was never recorded is no failure, but says so."""
    print(f"{name}: {counted:g}")
    recorded = json.loads(FILE.read_text())
    if name not in recorded:
        pytest.skip(f"{name}: counted {counted:g}, nothing recorded in {FILE.name} to compare it with")
    value, margin = recorded[name]
    assert counted <= value * (1 + margin), f"{name}: {counted:g}, but {value:g} when recorded: it costs more now"
