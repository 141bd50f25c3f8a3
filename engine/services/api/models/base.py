"""What all models of the API have in common."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from engine.core.task.options import MEMORY_BYTES_MAX, MEMORY_BYTES_MIN, SECONDS_MAX, TEXT_CHARACTERS_MAX


def _is_whole(value: object) -> bool:
    """JSON does not tell 3.0 from 3."""
    return isinstance(value, float) and value.is_integer()


def _not_a_number(value: object) -> object:
    """Refuse a number for a moment: it could be seconds or milliseconds. RFC 3339 is clear."""
    if isinstance(value, str) and not _DATED.match(value):
        raise ValueError("a date and time with its offset, such as 2026-01-01T12:00:00Z")
    return value


_DATED = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")
# Small letters are taken too. They are not in the document: generated clients would have two names for one value.
Priority = Annotated[Literal["LOW", "NORMAL", "HIGH", "URGENT", "low", "normal", "high", "urgent"],
                     WithJsonSchema({"type": "string", "enum": ["LOW", "NORMAL", "HIGH", "URGENT"]})]
Seconds = Annotated[float, Field(ge=0, le=SECONDS_MAX)]
# In words that every dialect of regular expressions knows: most of what is not printable.
PRINTABLE = "^[^\\x00-\\x1f\\x7f-\\xa0\\xad\\u2028\\u2029]*$"
PrintableText = Annotated[str, Field(min_length=1, max_length=TEXT_CHARACTERS_MAX,
                                     json_schema_extra={"pattern": PRINTABLE})]
Text = Annotated[str, Field(min_length=1, max_length=TEXT_CHARACTERS_MAX)]  # of a filter, which may match nothing
Queue = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", examples=["images"])]
Asked = Annotated[AwareDatetime, BeforeValidator(_not_a_number)]  # in a query; in a body no text is taken for a number
WHOLE = BeforeValidator(lambda value: int(value) if _is_whole(value) else value)  # outside of bounds, else these are
# not in the document
Memory = (Annotated[int, Field(ge=MEMORY_BYTES_MIN, le=MEMORY_BYTES_MAX), WHOLE] | Annotated[int, Field(ge=0, le=0)]
          | Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}[MmGg]$")])

EVENT_ID = r"^[0-9]{1,15}-[0-9]{1,15}$"
CURSOR = r"^[A-Za-z0-9_-]+$"
EXAMPLE_ID = "01H5RC2K8D7QZ3V0M4T"


class RequestModel(BaseModel):
    """A body of a request: nothing is converted, and an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    is_plain: ClassVar[bool] = False  # no moments or the like: what JSON was parsed to can be validated as it is


class ResponseModel(BaseModel):
    """A body of a response."""

    model_config = ConfigDict(frozen=True)
