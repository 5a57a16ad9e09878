"""Lines of status: who and what stay apart, however long a name is."""

from __future__ import annotations

import pytest

from dragoman_gateways.cli.lines import StatusLines
from dragoman_gateways.cli.output import console


@pytest.mark.parametrize("who", ["up", "summarizer", "sixteen-long-one", "a" * 63])
def test_a_name_is_followed_by_a_space(who: str, capsys: pytest.CaptureFixture[str]) -> None:
    console.cache_clear()
    StatusLines(as_json=False).say(who, "is on the bus")
    console.cache_clear()

    assert capsys.readouterr().out.split()[1:] == [who, "is", "on", "the", "bus"]
