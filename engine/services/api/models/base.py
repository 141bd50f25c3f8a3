"""What all models of the API have in common."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.core.identity import ALPHABET, LENGTH
from engine.options import NAME_MAX, SECONDS_MAX

Priority = Literal["LOW", "NORMAL", "HIGH", "URGENT", "low", "normal", "high", "urgent"]
Seconds = Annotated[float, Field(ge=0, le=SECONDS_MAX, examples=[30])]
Text = Annotated[str, Field(min_length=1, max_length=NAME_MAX)]
Queue = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", examples=["images"])]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]

EXAMPLE_ID = "01H5RC2K8D7QZ3V0M4T"
ID_PATTERN = f"^[{ALPHABET}]{{{LENGTH}}}$"


class Given(BaseModel):
    """A body of a request: nothing is converted, and an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Told(BaseModel):
    """A body of a response."""

    model_config = ConfigDict(frozen=True)
