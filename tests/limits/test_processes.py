"""Real processes on one file: they keep one law, take turns, and a killed one blocks nobody."""

from __future__ import annotations

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
from toolkit.limits import Demand, Lease, Limiter, LimitSettings, SqliteState, Wait, shared
from toolkit.limits.core import LimiterCore
from toolkit.limits.holders import is_alive, this_process
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
import sys
from toolkit.limits import Demand, Limiter, LimitSettings, open_state
from toolkit.records import Usage
settings = LimitSettings(requests_per_minute=6000, max_concurrent=3, law="requests:sliding:1")
limiter = Limiter("key", settings, open_state(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
began = limiter.snapshot().t_s
while True:
    lease = limiter.acquire(Demand(1)).lease
    if lease.admitted_at > began + 1.5:
        break
    print(repr(lease.admitted_at), limiter.snapshot().in_flight)
    limiter.settle(lease, Usage(1, 1))
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
    """100 requests in any second and 3 in flight, over all four together; and they use what there is."""
    rows = []
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
            rows += [line.split() for line in output.splitlines()]
    admitted = sorted((float(time), 1) for time, _ in rows)
    assert broken["sliding"](admitted, 100, 1) is None
    assert max(int(in_flight) for _, in_flight in rows) <= 3
    span = admitted[-1][0] - admitted[0][0]
    # A second's worth each second; a slow machine may not get to the end of the second half.
    assert len(admitted) >= 100 * (int(span) + 1) * 0.9


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
