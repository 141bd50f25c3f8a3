"""Says which modules of handlers could not be imported, short enough for a message and a report."""

from collections.abc import Mapping, Sequence
from typing import Any

TEXT_CHARS_MAX = 8_000  # of one traceback: its beginning and its end tell most
FAILURES_MAX = 16  # with their tracebacks
_CUT = "\n… {} characters left out …\n"


def shortened(failures: Mapping[str, str]) -> dict[str, str]:
    """The tracebacks by module, each at most so long; of the modules beyond the first few only the last line."""
    return {module: _cut(text) if n < FAILURES_MAX else text.strip().rpartition("\n")[2][:200]
            for n, (module, text) in enumerate(failures.items())}


def problem(failures: Mapping[str, str], handlers: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a first start should not go on, if there is a reason."""
    if failures:
        modules = "the module " if len(failures) == 1 else "the modules "
        return (f"not all handlers can be imported: mend {modules}{', '.join(failures)}, or set allow_missing_handlers "
                "to start without what is missing\n"
                + "\n".join(f"{name}: {text.rstrip()}" for name, text in failures.items()))
    if not handlers:
        return ("there is no handler: name the module that has them with --handlers MODULE, or set "
                "allow_missing_handlers to start without any")
    return None


def _cut(text: str) -> str:
    if len(text) <= TEXT_CHARS_MAX:
        return text
    half = TEXT_CHARS_MAX // 2
    return text[:half] + _CUT.format(f"{len(text) - 2 * half:,}") + text[-half:]
