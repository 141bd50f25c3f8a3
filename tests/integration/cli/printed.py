"""What a command printed, as the tests look at it."""

import json
from typing import Any


def document(result: Any) -> Any:
    """The one JSON document that was printed."""
    assert result.stdout.count("\n") == 1, result.stdout
    return json.loads(result.stdout)


def one_line(result: Any) -> str:
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("ganger: ")
    assert "Traceback" not in result.output
    return str(result.stderr)
