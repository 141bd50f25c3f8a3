"""The four priorities, in rising order. A higher one is always served first."""

from enum import IntEnum


class TaskPriority(IntEnum):
    LOW = 0
    NORMAL = 1
    HIGH = 2
    URGENT = 3

    @classmethod
    def parse(cls, value: "TaskPriority | str | int") -> "TaskPriority":
        """Read a priority as users write it: the enum, its number, or its name in any case.

        Raises `ValueError` that names the value and the four names.
        """
        if isinstance(value, bool):
            raise ValueError(f"priority {value!r} is not one of {cls.names()}")
        try:
            return cls[value.strip().upper()] if isinstance(value, str) else cls(value)
        except (KeyError, ValueError, AttributeError):
            raise ValueError(f"priority {value!r} is not one of {cls.names()}") from None

    @classmethod
    def names(cls) -> str:
        return ", ".join(priority.name for priority in cls)


DESCENDING = tuple(sorted(TaskPriority, reverse=True))
