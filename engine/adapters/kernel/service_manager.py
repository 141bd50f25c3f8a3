"""Speaks to the service manager that started us, as sd_notify(3) says: a datagram of NAME=VALUE lines for each message.

Where no socket is named, nothing is sent. The variables are taken out of the environment, so that no handler can
speak in our name by accident.
"""

import contextlib
import os
import socket
from collections.abc import MutableMapping


class ServiceManager:
    """`watchdog_s`: how often it wants to hear from us at the least; None: it doesn't ask."""

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str]) -> "ServiceManager":
        """The one that started this process, if there is one."""
        address, usec, pid = (environ.pop(name, None) for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"))
        is_asked = usec is not None and usec.isdigit() and pid in (None, str(os.getpid()))
        return cls(address, int(usec) / 1e6 if usec is not None and is_asked else None)

    def tell(self, **fields: str | int) -> None:
        """Never waits and never fails: a manager that is gone or does not read is none of our troubles."""
        if self._socket is None or self._address is None:
            return
        message = "\n".join(f"{name}={value}" for name, value in fields.items())
        with contextlib.suppress(OSError):
            self._socket.sendto(message.encode(), socket.MSG_DONTWAIT, self._address)
