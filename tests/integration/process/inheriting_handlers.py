"""Handlers whose module does at import what a fork does not carry over: a thread, a pool of threads, a held lock, a
connection."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

from engine import handler

listener = socket.create_server(("127.0.0.1", 0))
connection = socket.create_connection(listener.getsockname())
pool = ThreadPoolExecutor(1, thread_name_prefix="reader")
assert pool.submit(int).result() == 0
lock = threading.Lock()
_is_held = threading.Event()


def hold() -> None:
    with lock:
        _is_held.set()
        threading.Event().wait()


threading.Thread(target=hold, name="lock holder", daemon=True).start()
_is_held.wait()


@handler("noop")
def noop(payload: None) -> None:
    """Nothing."""


@handler("ask-pool", timeout=1, max_retries=0)
def ask_pool(payload: None) -> int:
    return pool.submit(int).result()


@handler("ask-lock", timeout=1, max_retries=0)
def ask_lock(payload: None) -> bool:
    return lock.acquire()


@handler("ask-peer", timeout=10, max_retries=0)
def ask_peer(payload: None) -> str:
    """What a client does that has kept its connection."""
    connection.sendall(b"question")
    return connection.recv(100).decode()


@handler("spin", timeout=1, max_retries=0)
def spin(payload: None) -> None:
    while True:
        pass
