"""The screenshots of the README are as the program looks now; ``make screenshots`` renews them."""

from __future__ import annotations

import pytest

from tests.support.pictures import compare, in_utc
from tests.support.shots import FOLDER, SHOTS, Shot, drawn

utc = pytest.fixture(autouse=True)(in_utc)


@pytest.mark.parametrize("shot", SHOTS, ids=lambda shot: shot.name)
async def test_a_screenshot_is_not_stale(shot: Shot) -> None:
    async with drawn(shot) as tui:
        await compare(tui, shot.name, FOLDER)


def test_no_screenshot_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.svg")} == {shot.name for shot in SHOTS}
