"""The number of requests in flight follows what a server can bear: simulated servers, in simulated time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

import pytest

from esmond_etl.client.limit import Limit

#: Requests in flight, and requests answered before -> how long the answer takes, s; None if it is a failure.
Server = Callable[[int, int], float | None]


def far(_: int, __: int) -> float | None:
    return 0.05


def refusing(in_flight: int, _: int) -> float | None:
    return 0.02 if in_flight <= 4 else None


def slowing(in_flight: int, _: int) -> float | None:
    return 0.02 if in_flight <= 4 else 0.02 * in_flight


def changing(in_flight: int, answered: int) -> float | None:
    capacity = 12 if answered // 700 % 2 == 0 else 3
    return 0.02 if in_flight <= capacity else 0.02 * in_flight / capacity


def simulated(server: Server, limit: Limit, requests: int) -> tuple[float, float]:
    """How long `requests` answers take, s, and which part of all requests fails; what fails is asked for again, 50 ms later."""
    now, failed, answered, served = 0.0, 0, 0, 0
    number = count()
    under_way: list[tuple[float, int, Callable[[], bool]]] = []
    ready = requests

    def send() -> None:
        nonlocal served
        turn, took = limit.take(), server(served + 1, answered)
        served += took is not None

        def end() -> bool:
            nonlocal served
            served -= took is not None
            limit.give(turn, took, 100_000)
            return took is not None

        heapq.heappush(under_way, (now + (took or 0.01), next(number), end))

    waiting: list[float] = []
    while answered < requests:
        ready += sum(moment <= now for moment in waiting)
        waiting = [moment for moment in waiting if moment > now]
        while ready and len(under_way) < limit.now:
            send()
            ready -= 1
        if not under_way:
            now = min(waiting)
            continue
        now, _, end = heapq.heappop(under_way)
        if end():
            answered += 1
        else:
            failed += 1
            waiting.append(now + 0.05)
    return now, failed / (answered + failed)


@pytest.mark.parametrize("server", [far, refusing, slowing, changing])
def test_it_is_almost_as_fast_as_the_best_fixed_number_and_little_fails(server: Server) -> None:
    best = min(simulated(server, Limit(number), 3000)[0] for number in range(1, 17))
    seconds, failing = simulated(server, Limit(16, follows=True), 3000)
    assert seconds <= 1.15 * best
    assert failing <= 0.05


def test_a_server_that_fails_for_a_while_gets_few_requests_and_more_again_later() -> None:
    limit = Limit(16, follows=True)
    assert limit.now == 4
    simulated(far, limit, 500)
    assert limit.now == 16
    down = iter([None] * 100)
    simulated(lambda _, __: next(down, 0.05), limit, 1)
    assert limit.now == 1
    simulated(far, limit, 1000)
    assert limit.now == 16


def test_a_failure_now_and_then_changes_nothing() -> None:
    limit, number = Limit(16, follows=True), count()
    simulated(lambda _, __: None if next(number) % 100 == 50 else 0.05, limit, 3000)
    assert limit.now == 16


def test_a_fixed_number_stays() -> None:
    limit = Limit(5)
    simulated(refusing, limit, 200)
    assert limit.now == 5
