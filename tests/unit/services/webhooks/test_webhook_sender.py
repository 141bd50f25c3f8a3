"""One webhook message over HTTP: where it goes, what is verified, and that no receiver can do harm by its answer."""

import asyncio
import itertools
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from engine.services.webhooks import sender as webhook_sender
from engine.services.webhooks.addresses import resolve
from engine.services.webhooks.sender import DeliveryFailed, WebhookSender

with_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made by openssl")


class Odd:
    """A receiver on this host that answers each connection with these pieces, and keeps what came."""

    def __init__(self, *answer: bytes, forever: bytes = b"", tls: ssl.SSLContext | None = None) -> None:
        self._answer: Iterable[bytes] = itertools.chain(answer, itertools.repeat(forever)) if forever else answer
        self._tls, self.heard = tls, list[bytes]()

    async def __aenter__(self) -> "Odd":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard.append(await reader.read(65536))
        try:
            for piece in self._answer:
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass  # the other side has heard enough
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
            assert await resolve("rebind.example", 80, private=False) == ["93.184.216.34"]
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
            context = await sender.tls_context()
            assert context.check_hostname
            assert context.verify_mode is ssl.CERT_REQUIRED
            assert await sender.tls_context() is context, "the certificates of this host are read once"

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


def test_an_address_that_takes_no_connection_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is never taken: the queue of that listener is full, and the kernel drops what else comes."""
    async def post() -> None:
        monkeypatch.setattr(webhook_sender, "CONNECT_S", 0.2)
        async with Odd(b"HTTP/1.1 200 OK\r\n\r\n") as receiver:
            with socket.socket() as full, socket.socket() as first:
                full.bind(("127.0.0.2", receiver.port))
                full.listen(0)
                first.connect(full.getsockname())
                resolved(monkeypatch, ["127.0.0.2", "127.0.0.1"], ["127.0.0.2"])
                url = f"http://two.example:{receiver.port}/"
                await WebhookSender(private=True).post(url, b"", {})
                assert len(receiver.heard) == 1
                with pytest.raises(DeliveryFailed, match=r"no connection within 0\.2 s"):
                    await WebhookSender(private=True).post(url, b"", {})

    asyncio.run(post())


def test_an_answer_that_never_begins_is_waited_for_so_long_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async def post() -> None:
        monkeypatch.setattr(webhook_sender, "TIMEOUT_S", 0.3)
        async with Odd(forever=b"HTTP/1.1 103 Early Hints\r\n\r\n") as receiver:
            with pytest.raises(DeliveryFailed, match=r"no answer within 0\.3 s"):
                await WebhookSender(private=True).post(f"http://127.0.0.1:{receiver.port}/", b"{}", {})

    asyncio.run(post())


def test_of_an_answer_without_end_no_more_than_its_head_is_read() -> None:
    async def post() -> None:
        async with Odd(b"HTTP/1.1 200 OK\r\n\r\n", forever=b"x" * 65_536) as receiver:
            await WebhookSender(private=True).post(f"http://127.0.0.1:{receiver.port}/", b"{}", {})

    asyncio.run(post())


@with_openssl
@pytest.mark.parametrize(("subject", "is_delivered"), [
    ("DNS:hooks.example", True), ("DNS:other.example", False), ("IP:127.0.0.1", False)])
def test_the_certificate_has_to_be_for_the_name_in_the_url(
        subject: str, is_delivered: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=ganger", "-addext", f"subjectAltName={subject}", "-out", certificate, "-keyout", key],
        check=True, capture_output=True)
    trusting, server = ssl.create_default_context(cafile=certificate), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)

    async def post() -> None:
        monkeypatch.setattr(ssl, "create_default_context", lambda: trusting)
        async with Odd(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", tls=server) as receiver:
            resolved(monkeypatch, ["127.0.0.1"])
            url = f"https://hooks.example:{receiver.port}/"
            if is_delivered:
                await WebhookSender(private=True).post(url, b"{}", {})
                return
            with pytest.raises(DeliveryFailed, match="CERTIFICATE_VERIFY_FAILED"):
                await WebhookSender(private=True).post(url, b"{}", {})
            assert receiver.heard == []

    asyncio.run(post())
