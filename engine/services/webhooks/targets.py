"""Where webhooks may go: public addresses only, unless the configuration allows others.

The name is resolved here and the message sent to the very address that was
checked, so that a name cannot be public when asked first and private after.
The certificate has to be for the name all the same. Redirects are not
followed, no proxy is used, and of the answer only the head is read.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping
from functools import cached_property
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

import httpx

from engine.errors import GangerError, InvalidOption

TIMEOUT_S = 10.0  # for all of it: name, connection, answer
ADDRESSES_MAX = 3  # of one name that are tried


class DeliveryFailed(GangerError):
    """The other side did not take it; `is_final` where there is no use in trying again."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


class WebhookSender:
    """Posts to one address after the other of a name, with one TLS context for all. For one event loop."""

    def __init__(self, *, private: bool) -> None:
        self._private = private

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """Reads all certificates that this host trusts, so it is made once, and in a thread."""
        return ssl.create_default_context()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send it. Raises `DeliveryFailed` for anything but a 2xx, whatever the other side does."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status = await self._exchange(httpx.URL(url), body, headers)
        except DeliveryFailed:
            raise
        except TimeoutError:
            raise DeliveryFailed(f"no answer within {TIMEOUT_S:g} s") from None
        except Exception as error:  # noqa: BLE001  the receiver decides what comes, and each way to fail is a try
            raise DeliveryFailed(_first_cause(error)) from None
        if not 200 <= status < 300:
            raise DeliveryFailed(f"the answer was {status}", is_final=status == 410)

    async def _exchange(self, url: httpx.URL, body: bytes, headers: Mapping[str, str]) -> int:
        port = url.port or (443 if url.scheme == "https" else 80)
        *first, last = (await resolve(url.host, port, private=self._private))[:ADDRESSES_MAX]
        for address in first:
            with contextlib.suppress(httpx.ConnectError):
                return await self._post_to(address, url, body, headers)
        return await self._post_to(last, url, body, headers)

    async def _post_to(self, address: str, url: httpx.URL, body: bytes, headers: Mapping[str, str]) -> int:
        """The status of the answer, of which no more than the head is read."""
        if url.scheme == "https" and "tls" not in vars(self):
            await asyncio.to_thread(lambda: self.tls)
        verify = self.tls if url.scheme == "https" else False
        async with httpx.AsyncClient(verify=verify, trust_env=False, follow_redirects=False,
                                     timeout=TIMEOUT_S) as client:
            request = client.build_request(
                "POST", url.copy_with(host=address), content=body,
                headers={**headers, "Host": url.netloc.decode("ascii"), "Connection": "close"},
                extensions={"sni_hostname": url.host})  # the name that the certificate has to be for
            answer = await client.send(request, stream=True)
            await answer.aclose()
            return answer.status_code


def _first_cause(error: BaseException) -> str:
    """What went wrong at first: libraries say "all connection attempts failed" of a port where nobody listens."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return f"{type(error).__name__}: {str(error)[:300]}"


async def resolve(host: str, port: int, *, private: bool) -> list[str]:
    """The addresses of the name that may be used, one at least. Raises `DeliveryFailed`."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DeliveryFailed(f"the name {host!r} cannot be resolved: {error}") from None
    addresses = dict.fromkeys(str(address[0]) for *_, address in found)
    usable = [address for address in addresses if private or is_public(address)]
    if not usable:
        raise DeliveryFailed(f"{host!r} is on a private or loopback address (webhooks_private)", is_final=True)
    return usable


def is_public(address: str) -> bool:
    """Whether anybody in the world could be meant: not this host, not its networks, nothing reserved."""
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
_ASSIGNED_V6 = ip_network("2000::/3")  # all that IANA has assigned to the world; the rest is special or not in use
_SPECIAL = [ip_network(text) for text in (  # IANA's registries of special addresses, which Pythons know in part
    "192.0.0.0/24", "192.88.99.0/24", "2001::/23", "3fff::/20")]
