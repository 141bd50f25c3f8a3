"""Where webhooks may go: decided on addresses, not on names."""

import asyncio
import socket
import ssl
from typing import Any

import pytest

from engine.errors import InvalidOption
from engine.services.webhooks import targets
from engine.services.webhooks.targets import DeliveryFailed, WebhookSender


@pytest.mark.parametrize(("address", "may"), [
    ("93.184.216.34", True), ("2606:2800:220:1:248:1893:25c8:1946", True), ("127.0.0.1", False), ("::1", False),
    ("10.1.2.3", False), ("172.16.0.1", False), ("192.168.1.1", False), ("169.254.169.254", False),
    ("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False), ("255.255.255.255", False), ("fe80::1%2", False),
    ("fd00::1", False), ("::ffff:127.0.0.1", False), ("::ffff:93.184.216.34", True), ("64:ff9b::a00:1", False),
    ("2002:a00:1::", False), ("ff02::1", False), ("::127.0.0.1", False), ("::ffff:0:127.0.0.1", False),
    ("64:ff9b:1::7f00:1", False), ("fec0::1", False), ("192.0.0.8", False), ("192.88.99.1", False), ("100::1", False),
    ("2001:db8::1", False), ("3fff::1", False), ("5f00::1", False), ("4000::1", False), ("64:ff9b::5db8:d822", True)])
def test_an_address_is_public_or_not(address: str, may: bool) -> None:
    assert targets.is_public(address) is may


@pytest.mark.parametrize("url", [
    "http://localhost/", "http://a.localhost/", "http://127.0.0.1/", "http://127.1/", "http://2130706433/",
    "http://0x7f000001/", "http://0177.0.0.1/", "http://[::1]/", "http://[::ffff:10.0.0.1]/", "http://10.0.0.1:80/",
    "http://user@example.org/", "http://example.org:99999/", "http:///path", "http://[::1/", "http://exämple.org/",
    "http://example.org\\@10.0.0.1/"])
def test_a_url_that_is_of_no_use_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        targets.check(url, "webhook.url", private=False)
    assert refused.value.field == "webhook.url"


def test_other_urls_are_fine() -> None:
    targets.check("https://example.org:8443/hook?a=b", private=False)
    targets.check("http://127.0.0.1:8000/", private=True)


class Odd:
    """A receiver on this host that answers each connection with these bytes, and keeps what came."""

    def __init__(self, answer: bytes) -> None:
        self._answer, self.heard = answer, list[bytes]()

    async def __aenter__(self) -> "Odd":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard.append(await reader.read(65536))
        writer.write(self._answer)
        writer.close()


def resolved(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Have names mean these addresses, one answer after the other; the names that were asked for."""
    asked: list[str] = []

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answers[len(asked) - 1]]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return asked


def test_the_address_that_was_checked_is_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is asked for once: it cannot mean another address when the connection is made."""
    async def post() -> None:
        async with Odd(b"HTTP/1.1 204 No Content\r\n\r\n") as receiver:
            asked = resolved(monkeypatch, ["127.0.0.1"], ["127.0.0.2"], ["93.184.216.34", "10.0.0.1"], ["127.0.0.1"])
            url = f"http://rebind.example:{receiver.port}/hook"
            await WebhookSender(private=True).post(url, b"told", {"webhook-id": "7"})
            assert asked == ["rebind.example"]
            assert receiver.heard[0].startswith(b"POST /hook HTTP/1.1\r\n")
            assert f"host: rebind.example:{receiver.port}\r\n".encode() in receiver.heard[0].lower()
            with pytest.raises(DeliveryFailed, match="ConnectionRefusedError"):
                await WebhookSender(private=True).post(url, b"told", {})
            assert await targets.resolve("rebind.example", 80, private=False) == ["93.184.216.34"]
            with pytest.raises(DeliveryFailed, match="private or loopback") as refused:
                await WebhookSender(private=False).post(url, b"told", {})
            assert refused.value.is_final
            assert len(receiver.heard) == 1

    asyncio.run(post())


def test_another_address_of_a_name_is_tried_where_one_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def post() -> None:
        async with Odd(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as receiver:
            resolved(monkeypatch, ["127.0.0.2", "127.0.0.1"])
            await WebhookSender(private=True).post(f"http://two.example:{receiver.port}/", b"", {})
            assert len(receiver.heard) == 1

    asyncio.run(post())


def test_a_certificate_is_checked_for_the_name_and_not_for_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async def post() -> None:
        async with Odd(b"no TLS") as receiver:
            resolved(monkeypatch, ["127.0.0.1"], ["127.0.0.1"])
            sender = WebhookSender(private=True)
            for _ in "ab":
                with pytest.raises(DeliveryFailed):
                    await sender.post(f"https://hooks.example:{receiver.port}/", b"", {})
            assert all(b"hooks.example" in hello for hello in receiver.heard), "the name goes out in the TLS handshake"
            assert sender.tls.check_hostname
            assert sender.tls.verify_mode is ssl.CERT_REQUIRED

    asyncio.run(post())


@pytest.mark.parametrize("answer", [
    b"X" * 20_000, b"", b"\x00\xff", b"HTTP/1.1 banana\r\n\r\n", b"HTTP/1.1 999 \r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100_000, b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\n\r\n"])
def test_whatever_a_receiver_answers_is_a_try_that_failed(answer: bytes) -> None:
    async def post() -> None:
        async with Odd(answer) as receiver:
            with pytest.raises(DeliveryFailed) as failed:
                await WebhookSender(private=True).post(f"http://127.0.0.1:{receiver.port}/", b"{}", {})
            assert not failed.value.is_final
            assert len(receiver.heard) == 1

    asyncio.run(post())
