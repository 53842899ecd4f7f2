"""Real processes on one file: they keep one law, take turns, and a killed one blocks nobody."""

from __future__ import annotations

import heapq
import json
import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.clock import ManualClock
from toolkit.errors import ConfigError, StoreError
from toolkit.limits import Demand, Lease, Limiter, LimitEvent, LimitSettings, SqliteState, Wait, shared
from toolkit.limits.core import LimiterCore
from toolkit.limits.holders import is_alive, this_process
from toolkit.limits.share import waiting_spans
from toolkit.limits.state import Overtaken
from toolkit.records import Usage

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from toolkit.limits import Demand, Limiter, LimitSettings, open_state
limiter = Limiter("key", LimitSettings(tokens_per_minute=1000, max_concurrent=2), open_state(sys.argv[1]))
limiter.acquire(Demand(100)), limiter.acquire(Demand(100))
print("held", flush=True)
sys.stdin.read()
"""
RACE = """
import json
import sys
from toolkit.limits import Demand, Limiter, LimitSettings, open_state
from toolkit.records import Usage
settings = LimitSettings(requests_per_minute=3000, max_concurrent=3, law="requests:sliding:1")
limiter = Limiter("key", settings, open_state(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
began = limiter.now()
while limiter.now() < began + 1.5:
    limiter.settle(limiter.acquire(Demand(1)).lease, Usage(1, 1))
print(json.dumps(limiter.events()))
"""


class Frozen:
    """Waits for a wake-up only: time stands still."""

    def wait(self, woken, until, axis, stop):
        woken.wait()


def until(happened):
    """Let other threads run until it has happened."""
    while not happened():
        time.sleep(0)


def decide(state, core, work):
    """Have a core decide something on the shared book, again if another process was quicker."""
    try:
        with state.exclusive(core):
            return work()
    except Overtaken:
        with state.exclusive(core):
            return work()


def start(script, path):
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_killed_process_gives_back_its_slots_and_nothing_else(sharing):
    """Killed while it holds both slots: the next one is admitted, and its 200 tokens stay counted."""
    with start(HOLD, sharing.url) as child:
        assert child.stdout.readline() == "held\n"
        limits = LimitSettings(tokens_per_minute=1000, max_concurrent=2)
        state = sharing.state()
        core = LimiterCore("key", limits, state.holder)
        limiter = Limiter("key", limits, state)
        with state.exclusive(core):
            assert isinstance(core.try_reserve(limiter._axis(), Demand(1)), Wait)
            core.leave_line()
            (holder,) = core.other_holders()
        assert is_alive(holder)
        child.kill()
        # Not yet waited for, it is a zombie; that is dead enough.
        lease = limiter.acquire(Demand(1)).lease
        assert limiter.snapshot().in_flight == 1
        assert limiter.snapshot().tokens_60s == 201
        assert [e.event for e in limiter.events()].count("reclaimed") == 2
        limiter.settle(lease)
        assert not is_alive(holder)


def test_four_processes_keep_one_law(sharing, broken):
    """50 requests in any second and 3 in flight, over all four together; and none is put off without need."""
    histories = []
    with ExitStack() as running:
        children = [running.enter_context(start(RACE, sharing.url)) for _ in range(4)]
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        for child in children:
            output, _ = child.communicate(timeout=60)
            assert child.returncode == 0
            histories.append([LimitEvent(*row) for row in json.loads(output)])
    written = [event for events in histories for event in events]
    admitted = {event.lease_id: event.t_s for event in written if event.event == "admitted"}
    settled = {event.lease_id: event.t_s for event in written if event.event == "settled"}
    assert broken["sliding"](sorted((t, 1) for t in admitted.values()), 50, 1) is None
    assert max(event.in_flight for event in written) <= 3
    waits = [waiting_spans(events) for events in histories]
    for place, events in enumerate(histories):
        for event in events:
            if event.event == "waiting":
                # Who stands before it in line may take what there is, and a request may have reached the
                # server as late as its reply was there.
                ahead = sum(
                    any(start <= event.t_s <= end for start, end in spans)
                    for other, spans in enumerate(waits)
                    if other != place
                )
                counted = sum(t <= event.t_s < settled[lease] + 1 for lease, t in admitted.items())
                assert event.in_flight + ahead >= 3 or counted + ahead >= 50


def test_the_file_is_private_and_a_wrong_one_is_named(tmp_path):
    """Mode 0600 for it and its side files; a file of another kind is an error with its name."""
    path = tmp_path / "folder" / "limits.db"
    state = SqliteState(path)
    with state.exclusive(LimiterCore("key", LimitSettings(), state.holder)):
        pass
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert os.name == "nt" or modes == {0o600}
    state.close()
    wrong = tmp_path / "notes.txt"
    wrong.write_text("no database " * 100)
    with pytest.raises(ConfigError, match=r"notes\.txt"):
        SqliteState(wrong)


def test_many_open_a_new_file_at_once(tmp_path):
    """Whoever is first, each can use it: several notebooks begin, and nobody had one before."""
    together = threading.Barrier(8)

    def open_it(number):
        together.wait(30)
        SqliteState(tmp_path / f"{number}.db").close()

    with ThreadPoolExecutor(8) as pool:
        for number in range(60):
            list(pool.map(open_it, [number] * 8))


def test_processes_take_turns(sharing):
    """A big request that came first is not overtaken by another process's small one."""
    states = [sharing.state(name) for name in ("a", "b")]
    cores = [LimiterCore("key", LimitSettings(tokens_per_minute=100), state.holder) for state in states]

    def ask(who, now, tokens):
        return decide(states[who], cores[who], lambda: cores[who].try_reserve(now, Demand(tokens)))

    now = 1_700_000_000.0
    ask(0, now, 50)
    big = ask(0, now, 100)
    assert isinstance(big, Wait)
    assert isinstance(ask(1, now + 1, 1), Wait), "there is room, but not its turn"
    for step in range(2, 60):
        ask(0, now + step / 2, 100)
        assert isinstance(ask(1, now + step / 2, 1), Wait)
    assert not isinstance(ask(0, big.wake_at, 100), Wait)
    # A process that does not show itself any more loses its place.
    later = big.wake_at + 30
    assert isinstance(ask(0, later, 100), Wait)
    assert not isinstance(ask(1, later + 3, 1), Wait)


def test_what_nobody_ahead_needs_is_not_left_lying(sharing):
    """With two places free and one waiter ahead that has not looked yet, the second place is taken."""
    states = [sharing.state(name) for name in ("a", "b")]
    cores = [LimiterCore("key", LimitSettings(max_concurrent=2), state.holder) for state in states]
    now = 1_700_000_000.0

    def call(who, name, *args):
        return decide(states[who], cores[who], lambda: getattr(cores[who], name)(now, *args))

    first, second = call(0, "try_reserve", Demand()), call(0, "try_reserve", Demand())
    assert isinstance(call(0, "try_reserve", Demand()), Wait)
    call(0, "settle", first)
    assert isinstance(call(1, "try_reserve", Demand()), Wait)
    call(0, "settle", second)
    assert not isinstance(call(1, "try_reserve", Demand()), Wait)
    assert not isinstance(call(0, "try_reserve", Demand()), Wait)


@pytest.mark.parametrize(
    ("limits", "held_s"),
    [
        (LimitSettings(max_concurrent=1), 1),
        (LimitSettings(requests_per_minute=60, law="requests:sliding:1"), 0),
    ],
    ids=["slot", "quota"],
)
def test_what_becomes_free_is_taken_within_20_ms(limits, held_s, sharing):
    """Three processes wait for one place, and look when told to: it is never left lying for longer."""
    states = [sharing.state(name) for name in "abcd"]
    cores = [LimiterCore("key", limits, state.holder) for state in states]

    def call(who, name, *args):
        return decide(states[who], cores[who], lambda: getattr(cores[who], name)(*args))

    start = free_at = 1_700_000_000.0
    happens = [(start + who * 0.03, who, None) for who in range(4)]
    while happens:
        at, who, lease = heapq.heappop(happens)
        if lease is not None:
            call(who, "settle", at, lease, Usage(1, 1))
            continue
        answer = call(who, "try_reserve", at, Demand(1))
        if isinstance(answer, Wait):
            heapq.heappush(happens, (answer.look_again_at, who, None))
        else:
            assert free_at <= at <= free_at + 0.02
            free_at = at + 1
            heapq.heappush(happens, (at + held_s, who, answer))
    assert start + 3 <= free_at - 1 <= start + 3.06


def test_one_who_believed_to_be_alone_decides_again(tmp_path):
    """After many decisions of its own a process decides before it looks; another's are still counted."""
    path = tmp_path / "limits.db"
    states = [SqliteState(path, name) for name in ("a", "b")]
    limits = LimitSettings(tokens_per_minute=100)
    clock = ManualClock()
    alone, other = (Limiter("key", limits, state, clock) for state in states)
    for _ in range(shared.ALONE + 2):
        alone.acquire(Demand(1))
    other.acquire(Demand(50))
    assert alone.snapshot().tokens_60s == 60, "a look, too, sees what the other has written"
    for _ in range(shared.ALONE + 2):
        alone.acquire(Demand(1))
    other.acquire(Demand(20))
    core, now = alone._core, alone.now()
    with pytest.raises(Overtaken), states[0].exclusive(core):
        assert isinstance(core.try_reserve(now, Demand(30)), Lease), "as far as it knows there is room"
    with states[0].exclusive(core):
        assert isinstance(core.try_reserve(now, Demand(30)), Wait)
    assert other.snapshot().tokens_60s == 90, "nothing is left of the decision that was overtaken"
    alone.acquire(Demand(10))
    assert [limiter.snapshot().tokens_60s for limiter in (alone, other)] == [100, 100]
    for state in states:
        state.close()


def test_waiting_is_written_down_when_it_was_decided_twice(tmp_path):
    """A process that waits by its own view, is overtaken, and waits by the other's: one row says so."""
    path = tmp_path / "limits.db"
    states = [SqliteState(path, name) for name in ("a", "b")]
    clock = ManualClock()
    alone, other = (Limiter("key", LimitSettings(max_concurrent=1), state, clock) for state in states)
    for _ in range(shared.ALONE + 2):
        alone.settle(alone.acquire(Demand()).lease)
    alone.acquire(Demand())
    other.enter(Demand(), 0.0, threading.Event())
    alone.enter(Demand(), 0.0, threading.Event())
    assert [event.event for event in alone.events()].count("waiting") == 1
    assert alone.snapshot().waiting == 1
    for state in states:
        state.close()


@pytest.mark.parametrize(
    ("law", "kind"),
    [("openai", "bucket"), ("azure", "fixed"), pytest.param("safe", "sliding", marks=pytest.mark.slow)],
)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_interleaved_and_dying_processes_keep_the_law(law, kind, seed, sharing, broken):
    """Two processes by turns, settling late or dying: together they keep law and cap, and both go on."""
    rng, key = random.Random(seed), uuid.uuid4().hex  # each example has a book of its own
    limits = LimitSettings(requests_per_minute=60, tokens_per_minute=1000, max_concurrent=3, law=law)
    states = [sharing.state(name) for name in ("a0", "b0")]
    cores = [LimiterCore(key, limits, state.holder) for state in states]
    now, flying, admitted, by_process = 1_700_000_000.0, [[], []], [], [0, 0]
    for step in range(150):
        now += rng.choice([0.0, 0.1, rng.uniform(0, 4)])
        who = rng.randrange(2)
        state, core = states[who], cores[who]
        ended = None
        if flying[who] and rng.random() < 0.6:
            ended = flying[who].pop(rng.randrange(len(flying[who])))
        demand = Demand(rng.randint(1, 300))

        def settle_and_reserve(core=core, ended=ended, demand=demand, now=now):
            if ended is not None:
                core.settle(now, ended, Usage(ended.demand.input_tokens, 1))
            return core.try_reserve(now, demand)

        answer = decide(state, core, settle_and_reserve)
        if not isinstance(answer, Wait):
            flying[who].append(answer)
            admitted.append((now, answer.amounts[1]))
            by_process[who] += 1
        assert sum(map(len, flying)) <= 3
        if rng.random() < 0.03:  # killed with what it holds; another process finds out, a new one comes
            other, dead = cores[1 - who], {state.holder}
            released = decide(states[1 - who], other, lambda: other.release_dead(now, dead))  # noqa: B023
            assert released == len(flying[who])
            flying[who] = []
            state.close()
            states[who] = sharing.state(f"new{step}")
            cores[who] = LimiterCore(key, limits, states[who].holder)
    for state in states:
        state.close()
    assert broken[kind](admitted, 1000, 60) is None
    assert min(by_process) > 0


def test_processes_with_different_settings_count_each_other(sharing):
    """Another law and other limits in a second process: what the first admitted counts for it, and back."""
    states = [sharing.state(name) for name in ("a", "b")]
    laws = [LimitSettings(tokens_per_minute=100), LimitSettings(tokens_per_minute=120, law="safe")]
    cores = [LimiterCore("key", law, state.holder) for law, state in zip(laws, states, strict=True)]

    def used(who, tokens):
        with states[who].exclusive(cores[who]):
            cores[who].try_reserve(1_700_000_000.0, Demand(tokens))
            return list(cores[who].used(1_700_000_000.0).values())

    assert used(0, 30) == [30]
    assert used(1, 40) == [70]
    assert used(0, 5) == [75]
    assert used(1, 1) == [76]


def test_this_process_is_alive():
    """A holder is its process: another start time or boot is another one.

    One of another container or machine cannot be looked for, and is not taken for dead.
    """
    me = this_process()
    pid, started, boot, place = me.split("/", 3)
    assert is_alive(me)
    assert not is_alive(f"{pid}/1{started}/{boot}/{place}")
    assert not is_alive(f"{pid}/{started}/another-boot/{place}")
    assert is_alive(f"{pid}/1{started}/{boot}/pid:[1]@elsewhere")


def test_what_lies_elsewhere_comes_back_in_the_end(tmp_path):
    """A process that cannot be looked for keeps its slots for as long as any request may take."""
    states = [SqliteState(tmp_path / "limits.db", name) for name in ("1/1/boot/pid:[1]@elsewhere", None)]
    limits = LimitSettings(max_concurrent=1)
    core = LimiterCore("key", limits, states[0].holder)
    clock = ManualClock()
    with states[0].exclusive(core):
        core.try_reserve(clock.epoch(), Demand())
    limiter = Limiter("key", limits, states[1], clock, Frozen())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(limiter.acquire, Demand())
        until(lambda: limiter.waiting)
        clock.advance(3600)
        limiter.wake()
        assert limiter.snapshot().in_flight == 1
        clock.advance(3601)
        limiter.wake()
        assert waiting.result(timeout=20).lease
    for state in states:
        state.close()


def test_a_locked_file_is_a_clear_error(tmp_path, monkeypatch):
    """Nothing is decided without the book, and the error says which file and what to do."""
    monkeypatch.setattr(shared, "BUSY_S", 0.01)
    path = tmp_path / "limits.db"
    state = SqliteState(path)
    limiter = Limiter("key", LimitSettings(), state)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"limits\.db.*locked.*memory://"):
            limiter.acquire(Demand())
        other.execute("ROLLBACK")
    limiter.settle(limiter.acquire(Demand()).lease)
    state.close()
