"""Lists and series are read whole, whatever an archive leaves out, breaks off or says wrongly."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from esmond_etl import ArchiveError, Interval, Metadata, Series, StoppedError, Summary
from esmond_etl.client.archive import Archive
from esmond_etl.client.page_size import PageSize
from esmond_etl.client.reading import Reader
from esmond_etl.model.errors import ContentError, RequestError, StatusError

LIST = "/esmond/perfsonar/archive/"


def entry(key: str = "k", event_type: str = "throughput", base: str = "base", **more: Any) -> dict[str, Any]:
    uri = f"{LIST}{key}/{event_type}/{base}"
    return {"metadata-key": key, "event-types": [{"event-type": event_type, "base-uri": uri, "summaries": []}], **more}


def series(key: str = "k", event_type: str = "throughput", base: str = "base") -> Series:
    return next(Metadata.from_json(entry(key, event_type, base)).series())


def reader(url: str, page: int = 10_000, retries: int = 2, **more: Any) -> Reader:
    return Reader(Archive(url, retries=retries, backoff=0.01, **more), page=page)


def points(found: Any) -> list[tuple[int, Any]]:
    return [tuple(point) for batch in found for point in batch.to_points()]


class Points:
    """Answers requests for datapoints the way esmond does, at most `cap` a page whatever the limit."""

    def __init__(self, answer: Any, rows: list[tuple[int, Any]], cap: int = 10**9) -> None:
        self.answer, self.rows, self.cap = answer, rows, cap

    def __call__(self, asked: Any) -> Any:
        start, end = int(asked.query["time-start"]), int(asked.query["time-end"])
        rows = [{"ts": ts, "val": val} for ts, val in self.rows if start <= ts <= end]
        return self.answer(200, json.dumps(rows[: min(self.cap, int(asked.query["limit"]))]).encode())


def test_a_null_among_numbers_keeps_no_other_from_being_read(serve: Any, answer: Any) -> None:
    rows = [(1, 1.5), (2, None), (3, 0.0)]
    server = serve(Points(answer, rows))
    (batch,) = reader(server.url).datapoints(series(), Interval(0, 10))
    assert (points([batch]), batch.val.null_count) == (rows, 1)


def test_numbers_that_are_spelled_as_text_are_numbers(serve: Any, answer: Any) -> None:
    server = serve(Points(answer, [(1, 1), (2, "600"), (3, "0.25")]))
    assert points(reader(server.url).datapoints(series(), Interval(0, 10))) == [(1, 1.0), (2, 600.0), (3, 0.25)]


def test_pages_go_on_by_time_until_one_is_short(serve: Any, answer: Any) -> None:
    rows = [(ts, float(ts)) for ts in range(100, 125)]
    server = serve(Points(answer, rows))
    assert points(reader(server.url, page=10).datapoints(series(), Interval(100, 1000))) == rows
    assert [each.query["time-start"] for each in server.asked] == ["100", "110", "120"]
    assert {each.query["time-end"] for each in server.asked} == {"999"}  # the archive includes both ends


@pytest.mark.parametrize("cap", [1000, 1500])
def test_an_archive_that_cuts_pages_in_spite_of_the_limit_loses_nothing(serve: Any, answer: Any, cap: int) -> None:
    rows = [(ts, float(ts)) for ts in range(4000)]
    server = serve(Points(answer, rows, cap))
    assert points(reader(server.url).datapoints(series(), Interval(0, 10**6))) == rows


def test_once_an_archive_has_misbehaved_a_short_page_is_not_believed(serve: Any, answer: Any) -> None:
    rows = [(ts, float(ts)) for ts in range(1000)]
    whole, count = Points(answer, rows), iter(range(10**6))

    def respond(asked: Any) -> Any:
        number = next(count)
        real = json.loads(whole(asked).body)
        if number == 0:
            return answer(500)
        return answer(200, json.dumps(real[: len(real) // 2 + 1] if number % 2 else real).encode())

    assert points(reader(serve(respond).url).datapoints(series(), Interval(0, 10**6))) == rows


def elmond(answer: Any, docs: list[tuple[int, Any]]) -> Callable[[Any], Any]:
    """Cuts the page first and leaves out results without a value after, as elmond does."""

    def respond(asked: Any) -> Any:
        start, end, limit = (int(asked.query[name]) for name in ("time-start", "time-end", "limit"))
        page = [(ts, val) for ts, val in docs if start <= ts <= end][:limit]
        return answer(200, json.dumps([{"ts": ts, "val": val} for ts, val in page if val is not None]).encode())

    return respond


def test_elmond_hides_nothing_behind_a_page_of_results_without_a_value(serve: Any, answer: Any) -> None:
    docs = [(ts, float(ts) if ts % 97 == 0 else None) for ts in range(0, 5000, 3)]
    server = serve(elmond(answer, docs))
    found = points(reader(server.url, page=50).datapoints(series(base="base/0"), Interval(0, 5000)))
    assert found == [(ts, val) for ts, val in docs if val is not None]


def test_a_page_that_ends_inside_a_second_loses_nothing_and_doubles_nothing(serve: Any, answer: Any) -> None:
    docs = [(1, 1.0), (2, 2.0), (2, 2.5), (2, 2.5), (2, 2.7), (3, 3.0), (4, 4.0)]
    server = serve(elmond(answer, docs))
    assert points(reader(server.url, page=5).datapoints(series(base="base/0"), Interval(0, 10))) == docs


def test_an_archive_that_always_has_another_value_in_the_same_second_is_read_to_an_end(serve: Any, answer: Any) -> None:
    count = iter(range(10**6))
    server = serve(lambda asked: answer(200, json.dumps([{"ts": 5, "val": float(next(count))}]).encode()))
    assert len(points(reader(server.url).datapoints(series(base="base/0"), Interval(5, 10)))) == 1


def test_more_results_in_a_second_than_a_page_holds_is_an_error(serve: Any, answer: Any) -> None:
    server = serve(elmond(answer, [(2, float(n)) for n in range(9)]))
    with pytest.raises(ContentError, match="more than 3 datapoints in the second 2"):
        points(reader(server.url, page=3).datapoints(series(base="base/0"), Interval(0, 10)))


def test_a_window_that_is_too_wide_is_halved_and_all_of_it_arrives(serve: Any, answer: Any) -> None:
    rows = [(ts, float(ts)) for ts in range(0, 40 * 86400, 3600)]
    whole = Points(answer, rows)

    def respond(asked: Any) -> Any:
        wide = int(asked.query["time-end"]) - int(asked.query["time-start"]) > 5 * 86400
        return answer(500, b'{"detail": "too much"}') if wide else whole(asked)

    assert points(reader(serve(respond).url).datapoints(series(), Interval(0, 40 * 86400))) == rows


def test_an_archive_that_is_slow_is_asked_for_less_at_a_time(serve: Any, answer: Any) -> None:
    rows = [(ts, float(ts)) for ts in range(30_000)]
    whole, asked_for = Points(answer, rows), []

    def respond(asked: Any) -> Any:
        asked_for.append(int(asked.query["limit"]))
        time.sleep(asked_for[-1] / 10_000)  # a server that is as slow as that
        return whole(asked)

    made = reader(serve(respond).url, timeout=1.5)
    assert points(made.datapoints(series(), Interval(0, 30_000))) == rows
    assert asked_for[:2] == [10_000, 5_000]
    assert all(limit <= 5_000 for limit in asked_for[1:])
    assert made.page_now < 10_000


def test_a_page_that_times_out_makes_those_of_other_series_smaller(serve: Any, answer: Any) -> None:
    rows = [(ts, float(ts)) for ts in range(0, 100 * 3600, 60)]
    whole, too_large = Points(answer, rows), []
    ended = threading.Event()

    def respond(asked: Any) -> Any:
        if int(asked.query["limit"]) > 5_000:
            too_large.append(asked.path)
            ended.wait(20)
        return whole(asked)

    made = reader(serve(respond).url, timeout=0.5, retries=0)
    try:
        found = [points(made.datapoints(series(key), Interval(0, 100 * 3600))) for key in "abcdefghij"]
    finally:
        ended.set()
    assert found == [rows] * 10
    assert len(too_large) == 2  # at the largest size, and once a little above what the archive can bear


def test_pages_grow_again_while_answers_are_quick() -> None:
    size = PageSize(slow=10)
    for _ in range(9):
        size.failed()
    assert (size.of(10_000), size.of(1000), size.of(50)) == (156, 100, 50)
    size.answered(4, is_full=False)
    size.answered(6, is_full=True)
    assert size.of(10_000) == 156
    for _ in range(16):
        size.answered(4, is_full=True)
    assert size.of(10_000) == 625  # the size at which a page failed last
    for _ in range(15 * 100):
        size.answered(4, is_full=True)
    assert size.of(10_000) == 10_000


def test_a_series_that_always_fails_is_given_up_soon_with_the_reason_of_the_archive(serve: Any, answer: Any) -> None:
    server = serve(lambda asked: answer(500, b'{"detail": "broken for good"}'))
    with pytest.raises(StatusError, match=r"GET http://127.*/throughput/base\?time-start=0&.*: status 500: broken for good"):
        points(reader(server.url, retries=1).datapoints(series(), Interval(0, 400 * 86400)))
    assert len(server.asked) == 4  # the whole window, then the narrowest one, each twice


@pytest.mark.parametrize(
    ("status", "tries"), [(400, 1), (401, 1), (404, 1), (429, 3), (503, 3), (502, 3)], ids=lambda value: str(value)
)
def test_only_what_may_pass_is_tried_again(serve: Any, answer: Any, status: int, tries: int) -> None:
    server = serve(lambda asked: answer(status))
    with pytest.raises(StatusError, match=f"status {status}"):
        points(reader(server.url).datapoints(series(), Interval(0, 3600)))
    assert len(server.asked) == tries


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured_in_both_forms(serve: Any, answer: Any, form: str) -> None:
    asked_at: list[float] = []

    def respond(asked: Any) -> Any:
        asked_at.append(time.time())
        if len(asked_at) > 1:
            return answer(200, b"[]")
        later = "1" if form == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
        return answer(429, headers={"Retry-After": later})

    assert points(reader(serve(respond).url).datapoints(series(), Interval(0, 3600))) == []
    assert asked_at[1] - asked_at[0] >= 0.9


WRONG = {
    "HTML": (b"<html><title>It works!</title></html>", "answered HTML instead of JSON"),
    "broken JSON": (b'[{"ts": 1, "val": 2.0}, {"ts"', "truncated"),
    "out of order": (b'[{"ts": 5, "val": 1.0}, {"ts": 3, "val": 1.0}]', "out of order: ts 3 comes after ts 5"),
    "outside": (b'[{"ts": 5, "val": 1.0}, {"ts": 3600, "val": 1.0}]', "ts 3600 was not asked for"),
    "a word for a number": (b'[{"ts": 5, "val": "fast"}]', "at ts 5: val is not a number"),
    "a truth for a number": (b'[{"ts": 5, "val": null}, {"ts": 6, "val": true}]', "at ts 6: val is not a number"),
    "no ts": (b'[{"val": 1.0}]', "missing required field `ts`"),
    "no list": (b'{"detail": "?"}', "Expected `array`"),
    "not a number": (b'[{"ts": 5, "val": NaN}]', "invalid"),
}


@pytest.mark.parametrize(("body", "reason"), WRONG.values(), ids=WRONG)
def test_an_answer_that_is_not_what_was_asked_for_is_an_error_that_names_the_url(
    serve: Any, answer: Any, body: bytes, reason: str
) -> None:
    server = serve(lambda asked: answer(200, body))
    with pytest.raises(ContentError, match=f"{server.url}esmond/perfsonar/archive/k/throughput/base.*{reason}"):
        points(reader(server.url, retries=1).datapoints(series(), Interval(0, 3600)))
    assert len(server.asked) == 2


def test_passing_faults_of_every_kind_leave_no_trace_in_the_data(serve: Any, answer: Any) -> None:
    rows = [(ts, float(ts)) for ts in range(3000)]
    whole, count = Points(answer, rows), iter(range(10**6))

    def respond(asked: Any) -> Any:
        real = whole(asked)
        faults = [answer(500), answer(429), answer(200, WRONG["HTML"][0]), answer(close=True)]
        faults += [answer(200, real.body[: len(real.body) // 2], length=len(real.body)), answer(200, real.body[:-7])]
        number = next(count)
        return real if number % 2 else faults[number // 2 % len(faults)]

    assert points(reader(serve(respond).url, page=100).datapoints(series(), Interval(0, 5000))) == rows


def test_a_server_that_stalls_is_an_error_after_the_timeout(serve: Any, answer: Any) -> None:
    released = threading.Event()

    def respond(asked: Any) -> Any:
        released.wait(30)
        return answer(200, b"[]")

    with pytest.raises(RequestError, match=r"no answer within 0\.2 s"):
        points(reader(serve(respond).url, retries=0, timeout=0.2).datapoints(series(), Interval(0, 3600)))
    released.set()


def test_values_that_are_no_numbers_come_byte_for_byte(serve: Any, answer: Any) -> None:
    body = b'[{"ts": 1, "val": {"59.0":  3,"7": 1}}, {"ts": 2, "val": {}}]'
    server = serve(lambda asked: answer(200, body))
    batches = list(reader(server.url).datapoints(series(event_type="histogram-ttl"), Interval(0, 10)))
    assert [batch.val.to_pylist() for batch in batches] == [['{"59.0":  3,"7": 1}', "{}"]]


def test_a_summary_is_read_at_its_own_uri(serve: Any, answer: Any) -> None:
    summaries = [{"uri": f"{LIST}k/throughput/averages/86400", "summary-type": "average", "summary-window": "86400"}]
    told = entry()
    told["event-types"][0]["summaries"] = summaries
    average = next(each for each in Metadata.from_json(told).series() if each.summary == Summary("average", 86400))
    server = serve(lambda asked: answer(200, b'[{"ts": 0, "val": 1.5}]'))
    assert points(reader(server.url).datapoints(average, Interval(0, 86400))) == [(0, 1.5)]
    assert server.asked[0].path == f"{LIST}k/throughput/averages/86400"


def listing(answer: Any, keys: Callable[[int], list[str]], cap: int = 1000) -> Callable[[Any], Any]:
    count = iter(range(10**6))

    def respond(asked: Any) -> Any:
        known = sorted(keys(next(count)))
        offset = int(asked.query.get("offset", 0))
        page = [entry(key) for key in known[offset : offset + min(cap, int(asked.query["limit"]))]]
        if page:
            page[0]["metadata-count-total"] = len(known)
        return answer(200, json.dumps(page).encode())

    return respond


@pytest.mark.parametrize(("total", "cap"), [(0, 1000), (1, 1000), (1000, 1000), (2500, 1000), (2500, 700)])
def test_a_list_is_walked_to_its_end(serve: Any, answer: Any, total: int, cap: int) -> None:
    keys = [f"{number:05}" for number in range(total)]
    server = serve(listing(answer, lambda _: keys, cap))
    assert [each.key for each in reader(server.url).metadata({"source": "2001:db8::1"})] == keys
    assert {each.query["source"] for each in server.asked} == {"2001:db8::1"}


def test_a_metadata_made_during_the_walk_hides_none(serve: Any, answer: Any) -> None:
    keys = [f"{number:05}" for number in range(2500)]
    gone = iter([0])

    def shrinking(_: int) -> list[str]:
        # the first page is answered with all keys; then the first one vanishes, and every row moves up by one
        return keys if next(gone, None) is not None else keys[1:]

    server = serve(listing(answer, shrinking))
    assert sorted(each.key for each in reader(server.url).metadata({})) == keys


def test_a_list_that_never_stays_is_an_error(serve: Any, answer: Any) -> None:
    server = serve(listing(answer, lambda number: [f"{each:05}" for each in range(1500 + number)]))
    with pytest.raises(ContentError, match="changed during each of 5 walks"):
        list(reader(server.url).metadata({}))


def test_a_list_that_gives_the_same_page_at_every_offset_is_an_error(serve: Any, answer: Any) -> None:
    page = json.dumps([entry(f"{number:05}") for number in range(1000)]).encode()
    server = serve(lambda asked: answer(200, page))
    with pytest.raises(ContentError, match="before offset 2000 has only metadata of the pages before it"):
        list(reader(server.url).metadata({}))
    assert len(server.asked) == 2


def test_a_list_without_an_end_is_an_error(serve: Any, answer: Any) -> None:
    def respond(asked: Any) -> Any:
        offset = int(asked.query.get("offset", 0))
        page = [entry(f"{offset + number:09}") for number in range(1000)]
        page[0]["metadata-count-total"] = 1500
        return answer(200, json.dumps(page).encode())

    with pytest.raises(ContentError, match="the list has no end: the archive has listed 14000 metadata, and says that it has 1500"):
        list(reader(serve(respond).url).metadata({}))


def test_a_redirect_is_followed_when_reading(serve: Any, answer: Any) -> None:
    def respond(asked: Any) -> Any:
        if asked.path.endswith("/base"):
            return answer(301, headers={"Location": asked.path + "/?" + "&".join(f"{k}={v}" for k, v in asked.query.items())})
        return answer(200, b'[{"ts": 1, "val": 2.0}]')

    assert points(reader(serve(respond).url).datapoints(series(), Interval(0, 10))) == [(1, 2.0)]


def test_a_redirect_is_not_followed_when_writing(serve: Any, answer: Any) -> None:
    server = serve(lambda asked: answer(301, headers={"Location": "https://elsewhere.example.net/"}))
    with pytest.raises(StatusError, match=r"redirected to https://elsewhere\.example\.net/: use that in the url"):
        Archive(server.url).write("PUT", LIST + "k/", b"{}")


def test_the_api_key_goes_to_the_archive_alone(serve: Any, answer: Any) -> None:
    other, server = (serve(lambda asked: answer(200, b"[]")) for _ in range(2))
    client = Archive(server.url, api_key="s3cret", follow=["127.0.0.1"])
    client.get(LIST, {}, len)
    client.get(other.url + "base", {}, len)
    assert server.asked[0].headers["Authorization"] == "Token s3cret"
    assert "Authorization" not in other.asked[0].headers
    assert "s3cret" not in repr(client)


def test_an_ipv6_literal_is_an_archive_like_any_other() -> None:
    client = Archive("http://[2001:db8::1]:8080/", script_alias="/")
    assert (client.list_url, client.origin) == ("http://[2001:db8::1]:8080/perfsonar/archive/", "http://[2001:db8::1]:8080")


@pytest.mark.parametrize(
    ("url", "alias", "expected"),
    [
        ("https://a.example.net", "esmond", "https://a.example.net/esmond/perfsonar/archive/"),
        ("https://a.example.net/", None, "https://a.example.net/perfsonar/archive/"),
        ("https://a.example.net/", "/", "https://a.example.net/perfsonar/archive/"),
        ("https://a.example.net/x/", "/esmond/", "https://a.example.net/x/esmond/perfsonar/archive/"),
        ("https://a.example.net/esmond/perfsonar/archive/", "esmond", "https://a.example.net/esmond/perfsonar/archive/"),
    ],
)
def test_where_the_list_is(url: str, alias: str | None, expected: str) -> None:
    assert Archive(url, alias).list_url == expected


def test_no_more_requests_are_in_flight_than_allowed(serve: Any, answer: Any) -> None:
    lock, here, most = threading.Lock(), [0], [0]
    full = threading.Barrier(3, timeout=10)

    def respond(asked: Any) -> Any:
        with lock:
            here[0] += 1
            most[0] = max(most[0], here[0])
        full.wait()  # goes on when three are here at once
        with lock:
            here[0] -= 1
        return answer(200, b"[]")

    client = Archive(serve(respond).url, parallel=3)
    threads = [threading.Thread(target=client.get, args=(LIST, {}, len)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [3]


def test_requests_keep_to_the_rate(serve: Any, answer: Any) -> None:
    client = Archive(serve(lambda asked: answer(200, b"[]")).url, rate=20)
    began = time.monotonic()
    for _ in range(5):
        client.get(LIST, {}, len)
    assert time.monotonic() - began >= 4 / 20


def test_a_stop_ends_the_waiting_for_a_retry(serve: Any, answer: Any) -> None:
    client = Archive(serve(lambda asked: answer(503, headers={"Retry-After": "100"})).url)
    threading.Timer(0.2, client.stop.set).start()
    with pytest.raises(StoppedError):
        client.get(LIST, {}, len)


@pytest.mark.parametrize(
    ("url", "reason"),
    [("http://127.0.0.1:1/", "cannot connect: Connection refused"), ("http://no-such-host.invalid/", "cannot find the host: .*")],
)
def test_an_archive_that_is_not_there_is_named_in_plain_words(url: str, reason: str) -> None:
    with pytest.raises(ArchiveError, match=rf"^GET {url}esmond/perfsonar/archive/: {reason} \(tried 2 times\)$"):
        Archive(url, retries=1, backoff=0.01).get(LIST, {}, len)


def test_a_full_page_with_a_datapoint_twice_is_still_a_full_page(serve: Any, answer: Any) -> None:
    rows = [(1, 1.0), (1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    server = serve(Points(answer, rows))
    assert points(reader(server.url, page=3).datapoints(series(), Interval(0, 10))) == [rows[0], *rows[2:]]
