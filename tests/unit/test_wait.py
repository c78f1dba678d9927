"""How it waits: for an event or a time, for a cancellation that comes together with either; and between snapshots."""

import asyncio

import pytest

from ndpresponder.uplink import rest_after, wait


def test_an_event_is_taken_note_of() -> None:
    async def waited() -> bool:
        event = asyncio.Event()
        event.set()
        await wait(event, None)
        return event.is_set()

    assert not asyncio.run(waited())


def test_no_longer_than_told() -> None:
    async def waited() -> float:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await wait(asyncio.Event(), 0.05)
        return loop.time() - begun

    assert asyncio.run(waited()) >= 0.05


@pytest.mark.parametrize("seconds", [None, 5.0, 0.0])
def test_a_cancellation_that_comes_with_the_event(seconds: float | None) -> None:
    """Or the program would go on after SIGTERM."""

    async def cancelled() -> bool:
        event = asyncio.Event()
        waiting = asyncio.ensure_future(wait(event, seconds))
        await asyncio.sleep(0)
        event.set()
        waiting.cancel()
        await asyncio.wait([waiting])
        return waiting.cancelled()

    assert asyncio.run(cancelled())


@pytest.mark.parametrize(("taken", "rest"), [(0.0, 0.2), (0.04, 0.2), (0.2, 1.0), (1.0, 5.0), (10.0, 5.0), (30.0, 5.0)])
def test_between_two_snapshots_there_is_a_rest(taken: float, rest: float) -> None:
    assert rest_after(taken) == rest
