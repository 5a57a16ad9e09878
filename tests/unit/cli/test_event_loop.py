"""The loop of a command: what is logged when an impatient user ends it."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from dragoman_gateways.cli.event_loop import run


async def leave_behind(error: BaseException | None) -> None:
    """End with a future whose failure nobody has looked at."""

    async def work() -> None:
        if error is not None:
            raise error
        await asyncio.sleep(60)

    gathering = asyncio.gather(work())
    await asyncio.sleep(0)
    gathering.cancel()
    await asyncio.wait({gathering})


@pytest.mark.parametrize(("error", "logged"), [(None, False), (ValueError("a defect"), True)])
def test_only_a_cancellation_is_forgotten_in_silence(
    error: BaseException | None, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "asyncio"):
        run(leave_behind(error))
        gc.collect()

    assert ("never retrieved" in caplog.text) == logged
