"""Which addresses webhooks may be sent to: public ones only, unless the configuration allows others.

A URL is checked when it is given, as far as that is possible without asking for its name. Before each message the name
is resolved, and the addresses that it has at that moment are checked.
"""

import asyncio
import socket
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from engine.errors import GangerError, InvalidOption


class AddressRefused(GangerError):
    """A name has no address that webhooks may be sent to. `is_private`: it has, and none of them is allowed."""

    def __init__(self, reason: str, *, is_private: bool = False) -> None:
        super().__init__(reason)
        self.is_private = is_private


async def resolve(host: str, port: int, *, private: bool) -> list[str]:
    """Resolve a name once.

    Args:
        host: a name, or an address in text.
        port: of TCP.
        private: whether loopback and private addresses are allowed.

    Returns: the addresses that may be used, in the order of the resolver; there is at least one.
    Raises: `AddressRefused`.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressRefused(f"the name {host!r} cannot be resolved: {error}") from None
    addresses = dict.fromkeys(str(address[0]) for *_, address in found)
    usable = [address for address in addresses if private or is_public(address)]
    if not usable:
        raise AddressRefused(f"{host!r} is on a private or loopback address (webhooks_private)", is_private=True)
    return usable


def is_public(address: str) -> bool:
    """Return whether an address is of the public internet: not of this host or its networks, and not reserved."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is not None:
            return is_public(str(inner))
        if found in _NAT64:
            return is_public(str(ip_address(int(found) & 0xFFFF_FFFF)))
        if found not in _ASSIGNED_V6:
            return False
    return found.is_global and not found.is_multicast and not any(found in network for network in _SPECIAL)


def check_url(url: str, field: str = "url", *, private: bool) -> None:
    """Refuse a URL that can be seen to be useless without a look-up of its name.

    Args:
        url: what a caller has given.
        field: how the caller names it, for the error.
        private: whether loopback and private addresses are allowed.

    Raises: `InvalidOption`.
    """
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
    """Return the address of a host given in numbers, in any form a resolver takes (127.1, 0x7f000001); else None."""
    if ":" in host:
        return str(ip_address(host.partition("%")[0]))
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


_NAT64 = ip_network("64:ff9b::/96")
_ASSIGNED_V6 = ip_network("2000::/3")  # all that IANA has assigned to the world; the rest is special or not in use
_SPECIAL = [ip_network(text) for text in (  # IANA's registries of special addresses, which Pythons know in part
    "192.0.0.0/24", "192.88.99.0/24", "2001::/23", "3fff::/20")]
