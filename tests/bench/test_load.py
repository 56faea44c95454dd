"""The load: its arithmetic, what it counts as what, and one short run against a service."""

import asyncio
import contextlib
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psycopg
import pytest
from click.testing import CliRunner
from waiting import PATIENCE_S, until

from bench.__main__ import main
from bench.load import soak
from bench.load.arrivals import Zipf, due_times
from bench.load.figures import growth, latencies, over_time, percentile, step_of
from bench.load.knee import FACTOR, TRIES, climb
from bench.load.pictures import draw
from bench.load.processes import listening_on, resident_bytes
from bench.load.report import Found, render
from bench.load.sending import FOREIGN, OTHER, RIGHT, SILENT, Order, Sendings, Sent, judge, send
from bench.load.soak import watching
from bench.load.target import Target
from bench.load.texts import WORDINGS, Texts, Work, answer, written_rows
from bench.load.warmth import ASKED, Asked, Warmth, to_ask, warmth

WORK = Work("load-test", banks=5, lessons=8, zipf=1.1, teach_share=0.0, seed=1)


# --- draws


def test_requests_are_due_at_the_times_of_a_poisson_process():
    times = due_times(np.random.default_rng(1), rate=50, seconds=400)
    gaps = np.diff(times)
    assert abs(len(times) - 20_000) < 4 * 20_000**0.5
    assert times[0] > 0
    assert times[-1] < 400
    assert (gaps > 0).all()
    assert abs(gaps.std() / gaps.mean() - 1) < 0.05  # an exponential's deviation is its mean; a metronome's is 0
    counts = np.histogram(times, bins=400, range=(0, 400))[0]
    assert 0.8 < counts.var() / counts.mean() < 1.2


def test_few_requests_are_never_cut_off():
    assert all(len(due_times(np.random.default_rng(seed), 0.5, 1.0)) < 12 for seed in range(300))


def test_popular_banks_are_asked_as_often_as_zipf_says():
    drawn = np.bincount(Zipf(100, 1.0).draw(np.random.default_rng(1), 100_000), minlength=100)
    harmonic = sum(1 / rank for rank in range(1, 101))
    for rank in (1, 2, 5, 50):
        wanted = 100_000 / rank / harmonic
        assert abs(drawn[rank - 1] - wanted) < 5 * wanted**0.5
    assert len(drawn) == 100


def test_exponent_zero_makes_all_banks_alike():
    drawn = np.bincount(Zipf(10, 0.0).draw(np.random.default_rng(1), 50_000), minlength=10)
    assert drawn.min() > 4_600


# --- texts


def test_no_text_of_a_bank_is_taught_and_asked_and_banks_have_their_own_answers():
    texts = Texts(written_rows())
    for number in range(20):
        mine = texts.of(WORK, number)
        lists = [{text for text, _ in rows} for rows in (mine.lessons, mine.questions, mine.further)]
        assert len(mine.lessons) == WORK.lessons
        assert sum(len(one) for one in lists) == len(set.union(*lists))
        assert {right for _, right in mine.questions} <= {right for _, right in mine.lessons}
        assert min(len(mine.questions), len(mine.further)) >= WORDINGS
    assert texts.of(WORK, 3) == Texts(written_rows()).of(WORK, 3) != texts.of(WORK, 4)


def test_answer_of_another_bank_shows():
    right = answer("lost_card", 7)
    said = (right, None, answer("lost_pin", 7), answer("lost_card", 17))
    assert [judge(one, right, 7) for one in said] == [RIGHT, SILENT, OTHER, FOREIGN]


# --- figures


@pytest.mark.parametrize(
    ("share", "wanted"), [(0.5, 50), (0.95, 95), (0.99, 99), (0.991, 100), (1.0, 100), (0.0, 1)], ids=lambda value: str(value)
)
def test_percentile_is_the_smallest_value_that_so_many_do_not_exceed(share, wanted):
    assert percentile(range(1, 101), share) == wanted


def test_percentile_of_few_and_none():
    assert percentile([3.0], 0.99) == 3.0
    assert math.isnan(percentile([], 0.5))


def sent(ms=10.0, *, due=0.0, late=0.0, failure="", refused=False, verdict=RIGHT, bank=0):
    return Sent("recall", bank, due, due + late, due + ms / 1e3, failure, refused, "" if failure else verdict)


def test_latency_counts_from_the_due_time_and_refusals_do_not_flatter_it():
    late = sent(700, late=0.6)
    seen = latencies([sent(100), late, *[sent(1, failure="503 capacity", refused=True)] * 8])
    assert (seen.sent, seen.answered) == (10, 2)
    assert seen.p50 == pytest.approx(100)
    assert seen.max == pytest.approx(700)


def test_refusals_failures_and_late_sends_are_told_apart():
    step = step_of(
        Sendings(
            [
                *[sent()] * 6,
                sent(late=0.5),
                sent(failure="503 capacity", refused=True),
                sent(failure="503 capacity"),
                sent(failure="500 internal"),
                sent(verdict=FOREIGN),
            ]
        ),
        rate=10,
        seconds=1,
    )
    assert (step.refused, step.late, step.failures, step.foreign) == (1, 1, {"503 capacity": 1, "500 internal": 1}, 1)
    assert step.all.right == pytest.approx(7 / 8)


def test_every_stretch_of_time_has_its_own_latencies():
    stretches = over_time([sent(10, due=0.5), sent(20, due=9.99), sent(90, due=10.0)], 20, 10)
    assert [(at, round(seen.max)) for at, seen in stretches] == [(5.0, 20), (15.0, 90)]


@pytest.mark.parametrize(
    ("minutes", "leak_an_hour", "wanted"), [(60, 0.0, 0.0), (60, 60.0, 0.5437), (10, 60.0, 0.0583), (1, 60.0, 0.0033)], ids=str
)
def test_growth_is_between_the_first_minutes_after_the_start_and_the_last(minutes, leak_an_hour, wanted):
    """100 MiB and a leak; the first minute, in which everything is loaded, does not count."""
    samples = [(at, 0.0 if at < 20 else 100 + leak_an_hour * at / 3_600) for at in np.arange(0, 60 * minutes, 5)]
    assert growth(samples, 60 * minutes) == pytest.approx(wanted, abs=0.001)


def test_growth_of_nothing_is_unknown():
    assert growth([], 600) is None


# --- knee


def a_step(p99_ms=50.0, *, number=1_000, refused=0, late=0, failed=0):
    """A synthetic step."""
    slow = [sent(p99_ms)] * (number // 50)
    rest = [sent(1)] * (number - len(slow) - refused - late - failed)
    odd = (
        [sent(1, failure="503 capacity", refused=True)] * refused + [sent(1, late=0.1)] * late + [sent(1, failure="500 internal")] * failed
    )
    return step_of(Sendings(slow + rest + odd), 10, 10)


@pytest.mark.parametrize(
    ("step", "good"),
    [
        (a_step(), True),
        (a_step(199), True),
        (a_step(201), False),
        (a_step(refused=10), True),
        (a_step(refused=11), False),
        (a_step(late=11), False),
        (a_step(failed=11), False),
        (step_of(Sendings([]), 10, 10), False),
    ],
    ids=["quick", "within", "slow", "few refused", "many refused", "sender late", "failures", "nothing sent"],
)
def test_step_is_good_only_if_service_and_senders_keep_up(step, good):
    assert step.is_good(200) == good


async def climbed(is_good, start=10.0):
    rates = []

    async def play(rate):
        rates.append(rate)
        return rate

    steps, knee = await climb(play, is_good, start)
    assert steps == rates
    return rates, knee


async def test_knee_is_the_last_good_rate():
    rates, knee = await climbed(lambda rate: rate <= 20)
    assert knee == pytest.approx(10 * FACTOR**3)
    assert rates == pytest.approx([10, 12.5, 15.625, 19.53125, *[24.4140625] * TRIES])


async def test_one_bad_step_is_tried_again():
    calls = []

    def is_good(rate):
        calls.append(rate)
        return rate <= 20 and len(calls) != 2

    rates, knee = await climbed(is_good)
    assert knee == pytest.approx(19.53125)
    assert rates.count(12.5) == 2


async def test_there_is_no_knee_below_the_start():
    rates, knee = await climbed(lambda _: False)
    assert knee is None
    assert rates == [10] * TRIES


# --- warmth


def test_banks_are_asked_from_the_one_used_last_on_and_those_that_may_have_slots_first():
    requests = [sent(due=1.0, bank=0), sent(due=2.0, bank=3), sent(due=0.5, bank=4)]
    assert to_ask(requests, banks=6, warm=3) == [3, 0, 4, 5, 2, 1]
    many = to_ask(requests, banks=1_000, warm=100)
    assert many[:3] == [3, 4, 998]  # every second of a hundred
    assert len(many) == 4 * ASKED
    assert set(many[:ASKED]) <= {0, 3, 4, *range(903, 1_000)}
    assert many[3:] == sorted(many[3:], reverse=True)


@pytest.mark.parametrize(
    ("before", "after", "rate"),
    [
        ({"device": 10, "cold": 5}, {"device": 100, "cold": 15}, 0.9),
        ({"cold": 5}, {"device": 60, "host": 20, "cold": 25}, 0.8),
        ({"device": 5}, {"device": 5}, None),
    ],
    ids=["of two places", "of three", "nothing was asked"],
)
def test_hit_rate_is_that_of_the_run_alone(before, after, rate):
    assert warmth(before, after, Asked()).hit_rate == (None if rate is None else pytest.approx(rate))


def test_report_says_what_a_recall_costs_by_where_the_bank_was():
    seen = Warmth({"device": 3, "cold": 1}, 0.75, Asked({"host": [4.0, 6.0, 5.0], "cold": [70.0]}, ["bank 7: 500 internal"]))
    found = Found("a service", WORK, 200.0, [step_of(Sendings([sent()]), 10, 1)], warmth=seen)
    said = render(found)
    assert "hit rate 75.0% (3 device, 1 cold)" in said
    assert "3 banks that were on the host: p50 5.0 ms" in said
    assert "1 banks that were cold: p50 70.0 ms" in said
    assert found.wrongs() == ["asked afterwards: bank 7: 500 internal"]


# --- sending, to a server of a few lines


def replied(status, body, *more):
    data = json.dumps(body).encode()
    head = "\r\n".join([f"HTTP/1.1 {status} Said", f"Content-Length: {len(data)}", *more, "", ""])
    return head.encode() + data


RECALLED = replied(200, {"answers": [{"value": "anything, desk 4"}]})


@contextlib.asynccontextmanager
async def server(answers):
    """Replies to the n-th request with what `answers(n)` gives, after it has waited for that; None closes the connection."""
    number = 0

    async def serve(reader, writer):
        nonlocal number
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
                await reader.readexactly(length)
                number += 1
                data = await answers(number)
                if data is None:
                    break
                writer.write(data)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()


async def sent_to(url, rate, seconds):
    begin = time.monotonic() + 0.05
    return await send(Order((url,), "key", WORK, rate, seconds, (1,), begin), Texts(written_rows()))


async def test_service_that_stops_is_charged_for_everybody_who_came_meanwhile():
    """A closed loop would see one slow request."""
    stopped, all_are = asyncio.Event(), len(due_times(np.random.default_rng((1,)), 100, 1.0))

    async def stop(number):
        if number == all_are:  # they were sent all the same
            asyncio.get_running_loop().call_later(0.05, stopped.set)
        await stopped.wait()
        return RECALLED

    async with server(stop) as url:
        done = await sent_to(url, rate=100, seconds=1.0)
    assert 60 < len(done.sent) == all_are < 140
    went_on = min(one.ended for one in done.sent)
    assert went_on > max(one.due for one in done.sent) > 0.9
    assert all(one.begun < went_on for one in done.sent)
    assert max(one.ended - one.due for one in done.sent) > 0.9  # whoever came at the begin


async def test_what_becomes_of_a_request_is_told():
    kinds = [
        RECALLED,
        replied(503, {"code": "capacity"}, "Retry-After: 1"),
        replied(429, {"code": "quota"}, "Retry-After: 1"),
        replied(503, {"code": "capacity"}),
        replied(500, {"code": "internal"}, "Connection: close"),
        replied(502, "a gateway's page"),
        None,
    ]

    async def in_turn(number):
        return kinds[number % len(kinds)]

    async with server(in_turn) as url:
        done = await sent_to(url, rate=200, seconds=0.5)
    refused = {one.failure for one in done.sent if one.refused}
    failed = {one.failure for one in done.sent if one.failure and not one.refused}
    assert refused == {"503 capacity", "429 quota"}
    assert failed == {"503 capacity", "500 internal", "502 without a problem document", "broken: IncompleteReadError"}
    assert {one.verdict for one in done.sent if not one.failure} <= {FOREIGN, OTHER}
    assert all((one.verdict == FOREIGN) == (one.bank != 4) for one in done.sent if not one.failure)


async def test_nobody_there_is_a_failure():
    done = await sent_to("http://127.0.0.1:1", rate=50, seconds=0.2)
    assert done.sent
    assert {one.failure for one in done.sent} == {"broken: ConnectionRefusedError"}


async def test_processes_behind_an_address_are_found_and_measured():
    async with server(lambda _: None) as url:
        found = listening_on([url])
    assert len(found) == 1
    assert resident_bytes(found)[next(iter(found))] > 2**20


async def test_transaction_that_stays_open_is_seen(postgres, monkeypatch):
    monkeypatch.setattr(soak, "TRANSACTION_S", 0.05)
    url, begin = postgres.url("postgres"), time.monotonic()
    async with await psycopg.AsyncConnection.connect(url) as idle, watching(Target("a service", (), "", (), url), 60) as seen:
        await idle.execute("SELECT 1")  # begins a transaction that nobody ends

        async def told() -> bool:
            return (seen.transaction_s or 0) > 0.3

        await until(told, "a transaction that is open for long is seen")
        assert seen.transaction_s < time.monotonic() - begin + 1, "in seconds"


# --- the command


@pytest.mark.parametrize(
    "options",
    [(), ("--find-knee", "--soak", "1"), ("--find-knee", "--rate", "5"), ("--rate", "0"), ("--rate", "5", "--cluster", "2")],
    ids=["no mode", "two modes", "a knee has no rate", "no rate", "half a cluster"],
)
def test_command_refuses_what_says_nothing(options):
    assert CliRunner().invoke(main, ["load", *options]).exit_code == 2


def test_wrong_things_are_told():
    found = Found("a service", WORK, 200.0, [step_of(Sendings([sent(), sent(failure="500 internal"), sent(verdict=FOREIGN)]), 10, 1)])
    assert [one.split(",")[0] for one in found.wrongs()] == ["1 × 500 internal", "1 answers from another bank"]
    assert "WRONG: 1 × 500 internal" in render(found)


def test_picture_of_a_climb_has_steps_that_were_tried_twice(tmp_path):
    steps = [step_of(Sendings([sent(ms), sent(2 * ms)]), rate, 1) for rate, ms in ((10, 5), (12.5, 300), (12.5, 400))]
    draw(Found("a service", WORK, 200.0, steps, knee=10.0, sought=True), tmp_path / "there" / "load.png")
    assert (tmp_path / "there" / "load.png").stat().st_size > 5_000


def test_service_answers_a_short_load_right(tmp_path, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_DATA", str(tmp_path / "nowhere"))
    report = tmp_path / "load.json"
    command = [sys.executable, "-m", "bench", "load", "--banks", "5", "--rate", "20", "--seconds", "3", "--json", str(report)]
    root = Path(__file__).resolve().parent.parent.parent
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=2 * PATIENCE_S)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "nothing went wrong" in result.stdout
    found = json.loads(report.read_text())
    (step,) = found["steps"]
    assert 35 <= step["all"]["sent"] == step["all"]["answered"] + step["refused"] <= 90
    assert step["all"]["right"] > 0.5
    assert found["verified"]["acknowledged"] == step["kinds"]["teach"]["answered"] > 0
    assert found["verified"]["lost"] == []
    assert report.with_suffix(".png").stat().st_size > 5_000
