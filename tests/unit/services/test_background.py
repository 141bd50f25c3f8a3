"""What runs beside requests: it is started again when it fails, and said to have failed."""

import asyncio
import threading

import pytest

from engine.services.background import WELL_S, Background


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_job_that_fails_is_logged_and_started_again(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        clock, runs, again = Clock(), 0, asyncio.Event()
        background = Background(pause_s=0.001, clock=clock)

        async def job() -> None:
            nonlocal runs
            runs += 1
            if runs == 1:
                raise ZeroDivisionError("by zero")
            if runs == 2:
                return
            again.set()
            await asyncio.Event().wait()

        background.keep("figures", job)
        await again.wait()
        assert background.troubles() == ["figures: it ended"]
        clock.now_s = WELL_S + 1
        assert background.troubles() == []
        background.close()

    asyncio.run(scene())
    told = [(row.job, row.reason, row.failures) for row in caplog.records]  # type: ignore[attr-defined]
    assert told == [("figures", "ZeroDivisionError: by zero", 1), ("figures", "it ended", 2)]


def test_a_job_in_a_thread_is_started_again() -> None:
    async def scene() -> None:
        runs, again, over = [0], threading.Event(), threading.Event()
        background = Background(pause_s=0.001)

        def job() -> None:
            runs[0] += 1
            if runs[0] < 3:
                raise RuntimeError("no more")
            again.set()
            over.wait()

        background.keep_thread("feed", job)
        await asyncio.to_thread(again.wait)
        assert background.troubles() == ["feed: RuntimeError: no more"]
        background.close()
        over.set()

    asyncio.run(scene())


def test_the_pauses_grow_and_have_a_bound(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        background, slept = Background(pause_s=1.0), asyncio.Event()
        pauses: list[float] = []

        async def sleep(pause_s: float) -> None:
            pauses.append(pause_s)
            if len(pauses) == 8:
                background.stop()
                slept.set()

        async def job() -> None:
            raise OSError

        monkeypatch.setattr(asyncio, "sleep", sleep)
        background.keep("keys", job)
        await slept.wait()
        assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]

    asyncio.run(scene())


def test_an_error_in_what_is_done_once_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async def fail() -> None:
            raise KeyError("gone")

        background = Background()
        await background.once("message", fail())
        assert background.troubles() == []

    asyncio.run(scene())
    assert [row.message for row in caplog.records] == ["background work failed"]
