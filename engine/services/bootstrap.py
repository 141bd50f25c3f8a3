"""What a process of the tree is told by its parent at its start: JSON on a descriptor that it inherits."""

import os

from pydantic import BaseModel, ConfigDict, Field

from engine.config import Settings


class Bootstrap(BaseModel):
    """`main` and `functions` name handlers that live in a user's script rather than in a module of `handlers`."""

    model_config = ConfigDict(extra="forbid")

    settings: Settings
    main: dict[str, str] | None = None  # {"path": …} or {"module": …}
    functions: dict[str, str] = Field(default_factory=dict)  # task type -> "module:function", and options behind it
    sys_path: list[str] = Field(default_factory=list)

    def to_fd(self) -> int:
        """Write it to an anonymous file and return its descriptor, placed at the beginning."""
        fd = os.memfd_create("ganger-bootstrap")
        os.write(fd, self.model_dump_json().encode())
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    @classmethod
    def from_fd(cls, fd: int) -> "Bootstrap":
        """Read all of it and close the descriptor."""
        with os.fdopen(fd, "rb") as document:
            return cls.model_validate_json(document.read())
