"""Sends one webhook message over HTTP, whatever the receiver does.

1. The name is resolved once, and the message is sent to an address that was checked: a name cannot be public at the
   check and private at the connection.
2. TLS is verified for the name in the URL, not for the address.
3. Redirects are not followed, and no proxy is used.
4. Of the answer only the head is read, and its size and the time of it all are bounded.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence

import httpx

from engine.errors import GangerError
from engine.services.webhooks.addresses import AddressRefused, resolve

TIMEOUT_S = 10.0  # for all of it: name, connections, answer
CONNECT_S = 3.0  # for the connection to one address: the others have their time too
ADDRESSES_MAX = 3  # of one name that are tried


class DeliveryFailed(GangerError):
    """The receiver did not take the message. `is_final`: another try would be of no use."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


class WebhookSender:
    """Used on one event loop. All messages share one TLS context.

    Args:
        private: whether messages may go to loopback and private addresses.
    """

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._tls: asyncio.Future[ssl.SSLContext] | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a message.

        Args:
            url: http or https.
            body: sent as it is.
            headers: sent beside those that HTTP asks for.

        Raises: `DeliveryFailed` for anything but an answer 2xx within TIMEOUT_S.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status = await self._exchange(httpx.URL(url), body, headers)
        except AddressRefused as error:
            raise DeliveryFailed(str(error), is_final=error.is_private) from None
        except httpx.ConnectTimeout:
            raise DeliveryFailed(f"no connection within {CONNECT_S:g} s") from None
        except (TimeoutError, httpx.TimeoutException):
            raise DeliveryFailed(f"no answer within {TIMEOUT_S:g} s") from None
        except Exception as error:  # noqa: BLE001  the receiver decides what comes, and each way to fail is a try
            raise DeliveryFailed(_first_cause(error)) from None
        if not 200 <= status < 300:
            raise DeliveryFailed(f"the answer was {status}", is_final=status == 410)

    async def _exchange(self, url: httpx.URL, body: bytes, headers: Mapping[str, str]) -> int:
        """Return the status of the answer, of which no more than the head is read."""
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = await resolve(url.host, port, private=self._private)
        transport = PinnedTransport(addresses[:ADDRESSES_MAX], await self.tls_context())
        async with httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False,
                                     timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_S)) as client:
            request = client.build_request("POST", url, content=body, headers={**headers, "Connection": "close"})
            answer = await client.send(request, stream=True)
            await answer.aclose()
            return answer.status_code

    async def tls_context(self) -> ssl.SSLContext:
        """Return how certificates are verified. Made once, in a thread: all that this host trusts are read."""
        if self._tls is None or (self._tls.done() and self._tls.exception() is not None):
            self._tls = asyncio.get_running_loop().run_in_executor(None, ssl.create_default_context)
        return await asyncio.shield(self._tls)


class PinnedTransport(httpx.AsyncBaseTransport):
    """Connects to given addresses, one after the other until one answers, and never asks for the name in the URL.

    The name stays in the Host header, in the TLS handshake and in the check of the certificate.

    Args:
        addresses: at least one, as text.
        tls: how certificates are verified.
    """

    def __init__(self, addresses: Sequence[str], tls: ssl.SSLContext) -> None:
        self._addresses = addresses
        self._inner = httpx.AsyncHTTPTransport(verify=tls, trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the first address that takes a connection. Raises `httpx.TransportError`."""
        *first, last = self._addresses
        for address in first:
            try:
                return await self._send_to(address, request)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._send_to(last, request)

    async def _send_to(self, address: str, request: httpx.Request) -> httpx.Response:
        pinned = httpx.Request(request.method, request.url.copy_with(host=address), headers=request.headers,
                               stream=request.stream,
                               extensions={**request.extensions, "sni_hostname": request.url.host})
        return await self._inner.handle_async_request(pinned)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


def _first_cause(error: BaseException) -> str:
    """Say what went wrong at first: of a port where nobody listens httpx says "all connection attempts failed"."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return f"{type(error).__name__}: {str(error)[:300]}"
