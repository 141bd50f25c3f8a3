"""Wall clocks that can be set: of a process and all that it starts, by a file that they look into (clock.c)."""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")


class Clocks:
    """`lack` says why there are none here, else it is empty."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lack = folder, ""
        compiler = shutil.which("cc") or shutil.which("gcc")
        if sys.platform != "linux" or compiler is None:
            self.lack = "clocks are not set: there is no C compiler"
        else:
            subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(self._library), str(SOURCE)], check=True)

    @property
    def _library(self) -> Path:
        return self.folder / "clock.so"

    def variables(self, name: str) -> dict[str, str]:
        """For the environment of whoever is to live by the clock `name`; without a compiler by the real one."""
        if self.lack:
            return {}
        (self.folder / name).write_bytes(struct.pack("=q", 0))
        return {"LD_PRELOAD": str(self._library), "STORM_CLOCK": str(self.folder / name)}

    def set(self, name: str, offset_s: float) -> None:
        """At once, as NTP or an operator would."""
        with (self.folder / name).open("r+b", buffering=0) as file:
            file.write(struct.pack("=q", int(offset_s * 1e9)))
