"""One line of the doctor: what was looked at, how it is, and what to do about it."""

from dataclasses import asdict, dataclass
from enum import StrEnum


class State(StrEnum):
    OK = "ok"
    WARN = "warn"  # it works, but not as well or as safely as it could
    FAIL = "fail"  # the engine cannot do its work like this


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    state: State
    detail: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)
