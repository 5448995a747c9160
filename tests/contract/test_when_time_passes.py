"""What only time shows; it has been going on since the world began."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.long_waits import LIMIT_S

if TYPE_CHECKING:
    from concurrent.futures import Future

    from tests.support.long_waits import LateAnswer


def test_a_dial_of_a_hung_node_is_given_up_after_a_minute(
    hung_dial: Future[LateAnswer],
) -> None:
    late = hung_dial.result(LIMIT_S)

    assert 59 < late.after_s < 65
    assert late.answer.status_code == 504
    assert late.answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert late.answer.text == (
        '{"metadata":{},"status":"Failure","message":"Timeout: request did not complete within '
        'the allotted timeout","reason":"Timeout","details":{},"code":504}\n'
    )
