from __future__ import annotations

import time
from collections import Counter
from types import SimpleNamespace

from daemon.accounting import Account
from daemon.service import _figures


def test_the_sum_is_exact_even_if_the_line_moves_on_meanwhile() -> None:
    account = Account(taken=10, clean=4, defective=1, dead=Counter(empty=1), returned=2)
    line = SimpleNamespace(account=account, in_flight=5, commits=1, aborts=0, rebalances=1, lag={})
    figures = _figures(line, SimpleNamespace(oldest=None))
    account.taken += 1
    assert figures.account.balances(figures.in_flight)
    assert (figures.in_flight, figures.oldest_age_s) == (2, None)


def test_a_frame_is_as_old_as_its_append() -> None:
    line = SimpleNamespace(account=Account(), commits=0, aborts=0, rebalances=0, lag={})
    waiting = SimpleNamespace(timestamp_ms=round(time.time() * 1000) - 60_000)
    age = _figures(line, SimpleNamespace(oldest=waiting)).oldest_age_s
    assert age is not None
    assert 59 < age < 90
