"""Where webhooks may go: public addresses only, unless the configuration allows others.

The name is resolved here and the message sent to the very address that was
checked, so that a name cannot be public when asked first and private after.
Redirects are not followed, and of the answer only the status is read.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from engine.errors import GangerError, InvalidOption

TIMEOUT_S = 10.0  # for all of it: name, connection, answer
LINE_BYTES_MAX = 8_192


class NotDelivered(GangerError):
    """The other side did not take it; `is_final` where there is no use in trying again."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


async def post(url: str, body: bytes, headers: Mapping[str, str], *, private: bool) -> None:
    """Send it. Raises `NotDelivered` for anything but a 2xx."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            status = await _exchange(url, body, headers, private=private)
    except TimeoutError:
        raise NotDelivered(f"no answer within {TIMEOUT_S:g} s") from None
    except (OSError, ValueError, EOFError) as error:
        raise NotDelivered(f"{type(error).__name__}: {error}") from None
    if not 200 <= status < 300:
        raise NotDelivered(f"the answer was {status}", is_final=status == 410)


async def _exchange(url: str, body: bytes, headers: Mapping[str, str], *, private: bool) -> int:
    parts = urlsplit(url)
    host, is_tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    address = await resolve(host, port, private=private)
    reader, writer = await asyncio.open_connection(
        address, port, limit=LINE_BYTES_MAX, ssl=ssl.create_default_context() if is_tls else None,
        server_hostname=host if is_tls else None)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = {"Host": parts.netloc, **headers, "Content-Length": str(len(body)), "Connection": "close"}
        head = f"POST {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(head.encode("ascii") + b"\r\n" + body)
        await writer.drain()
        words = (await reader.readuntil(b"\r\n")).split(None, 2)
        return int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/1.") else 0
    finally:
        writer.transport.abort()


async def resolve(host: str, port: int, *, private: bool) -> str:
    """An address of the name that may be used. Raises `NotDelivered`."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotDelivered(f"the name {host!r} cannot be resolved: {error}") from None
    for *_, address in found:
        if private or is_public(str(address[0])):
            return str(address[0])
    raise NotDelivered(f"{host!r} is on a private or loopback address (webhooks_private)", is_final=True)


def is_public(address: str) -> bool:
    """Whether anybody in the world could be meant: not this host, not its networks, nothing reserved."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is not None:
            return is_public(str(inner))
        if found in _NAT64:
            return is_public(str(ip_address(int(found) & 0xFFFF_FFFF)))
    return found.is_global and not found.is_multicast


def check(url: str, field: str = "url", *, private: bool) -> None:
    """Raises `InvalidOption` for a URL that can be seen to be of no use without asking for its name."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        literal = _literal(host)
    except ValueError as error:
        raise InvalidOption(f"the URL makes no sense: {error}", field=field, limit="an http or https URL") from None
    if not host or "@" in parts.netloc or not url.isascii() or "\\" in url:
        raise InvalidOption("the URL needs a host, no user, and ASCII characters only", field=field, value=url[:80],
                            limit="an http or https URL")
    is_local = host == "localhost" or host.endswith(".localhost") or (literal is not None and not is_public(literal))
    if is_local and not private:
        raise InvalidOption("webhooks are not sent to loopback or private addresses (webhooks_private)", field=field,
                            value=url[:80], limit="a public address")


def _literal(host: str) -> str | None:
    """The address that a host is in numbers, in any form that a resolver takes (127.1, 0x7f000001), else None."""
    if ":" in host:
        return str(ip_address(host.partition("%")[0]))
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


_NAT64 = ip_network("64:ff9b::/96")
