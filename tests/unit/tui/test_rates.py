from __future__ import annotations

from kubectl_vmredir.service.interface import Numbers
from kubectl_vmredir.tui.rates import SECONDS, Rates


def test_the_first_counters_are_where_it_begins() -> None:
    rates = Rates()

    rates.sample(Numbers(bytes_up=1 << 30), now=10.0)

    assert not any(rates.up(10.0))
    assert not rates.moves(10.0)


def test_bytes_are_counted_in_the_second_in_which_they_moved() -> None:
    rates = Rates()
    rates.sample(Numbers(), now=10.0)

    rates.sample(Numbers(bytes_up=100, bytes_down=1), now=11.2)
    rates.sample(Numbers(bytes_up=150, bytes_down=3), now=11.9)
    rates.sample(Numbers(bytes_up=157, bytes_down=3), now=13.0)

    assert list(rates.up(13.0))[-3:] == [150, 0, 7]
    assert list(rates.down(13.0))[-3:] == [3, 0, 0]


def test_what_is_long_past_is_forgotten() -> None:
    rates = Rates()
    rates.sample(Numbers(), now=10.0)
    rates.sample(Numbers(bytes_up=100), now=11.0)

    assert rates.moves(11.0 + SECONDS - 1)
    assert not rates.moves(11.0 + SECONDS)
