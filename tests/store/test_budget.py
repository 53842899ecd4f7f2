"""What may be spent: never more, by nobody, and what nobody knows counts in full."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.clock import ManualClock
from toolkit.config import Config
from toolkit.errors import BudgetExceeded, ConfigError, StoreError, TransientError
from toolkit.keeping import BudgetWarning
from toolkit.protocols import Retry, RetryDecision
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.records import NANO, Episode, Reply, Request, Spending, Usage
from toolkit.runs import Run
from toolkit.store import schema
from toolkit.store.address import read_address
from toolkit.store.budget import Budget, Ceiling, Reservation
from toolkit.store.opened import store_at
from toolkit.store.store import Store
from toolkit.workflow import run

WAIT_S = 20.0
"""Longest wait for another thread; no test comes near it."""
UNITS = ("nano_usd", "tokens", "calls")
NEVER = threading.Event()
names = iter(range(10**6))


def make_budget(store: Store, tokens: int | None, name: str | None = None, **ceiling: int) -> Budget:
    return Budget(store, name or f"b{next(names)}", Ceiling(tokens=tokens, **ceiling))


def books(store: Store, name: str) -> Any:
    with store.reading() as connection:
        return connection.execute(sa.select(schema.budgets).where(schema.budgets.c.name == name)).one()


def held_rows(store: Store) -> int:
    with store.reading() as connection:
        counted = sa.select(sa.func.count()).select_from(schema.reservations)
        return int(connection.execute(counted).scalar_one())


def settle(budget: Budget, store: Store, reservation: Reservation, spent: Spending) -> None:
    store.commit(work=budget.settling(reservation, spent))
    budget.settled()


stopped = threading.Event()
stopped.set()
"""With it a reservation that does not fit now is refused at once and not waited for."""
amounts = st.builds(Spending, st.integers(0, 40), st.integers(0, 40), st.integers(0, 2))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, 2), amounts),
        st.tuples(st.just("settle"), st.integers(0, 30), st.floats(0, 1)),
        st.tuples(st.just("give up"), st.integers(0, 30), st.just(1.0)),
    ),
    max_size=25,
)
ceilings = st.builds(Ceiling, *[st.none() | st.integers(0, 100)] * 2, st.none() | st.integers(0, 8))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ceiling=ceilings, steps=steps)
def test_nothing_leads_beyond_the_ceiling(store: Store, ceiling: Ceiling, steps: list[Any]) -> None:
    """Whatever several holders do in whatever order, spent and held stay within and agree with a model."""
    name = f"b{next(names)}"
    holders = [Budget(store, name, ceiling) for _ in range(3)]
    held: list[tuple[Budget, Reservation]] = []
    spent = Spending()
    for kind, which, what in steps:
        if kind == "reserve":
            room = all(
                most is None or gone + taken + wanted <= most
                for most, gone, taken, wanted in zip(
                    ceiling, spent, _sum(made.held for _, made in held), what, strict=True
                )
            )
            try:
                held.append((holders[which], holders[which].reserve(what, stopped)))
                assert room
            except (BudgetExceeded, CancelledError) as refusal:
                assert not room
                hopeless = any(
                    most is not None and gone + wanted > most
                    for most, gone, wanted in zip(ceiling, spent, what, strict=True)
                )
                assert isinstance(refusal, BudgetExceeded) is hopeless
        elif held:
            budget, made = held.pop(which % len(held))
            part = Spending(*(int(amount * what) for amount in made.held))
            settle(budget, store, made, part)
            settle(budget, store, made, part)  # the second time it does nothing
            spent = _sum([spent, part])
        row = books(store, name)
        assert Spending(*(getattr(row, f"spent_{unit}") for unit in UNITS)) == spent
        assert Spending(*(getattr(row, f"held_{unit}") for unit in UNITS)) == _sum(
            made.held for _, made in held
        )
        for unit, most in zip(UNITS, ceiling, strict=True):
            assert most is None or getattr(row, f"spent_{unit}") + getattr(row, f"held_{unit}") <= most
    for budget, made in held:
        settle(budget, store, made, Spending())
    row = books(store, name)
    assert [getattr(row, f"held_{unit}") for unit in UNITS] == [0, 0, 0]
    assert holders[0].spent() == spent
    assert held_rows(store) == 0


def _sum(parts: Any) -> Spending:
    listed = list(parts)
    return Spending(*(sum(part[place] for part in listed) for place in range(3)))


def test_threads_share_one_budget(store: Store) -> None:
    """32 threads that take 3 of 600 at a time and settle for less: never more, and all of it used."""
    budget = make_budget(store, 600, "shared")
    most_seen: list[int] = []

    def work(number: int) -> int:
        spent = 0
        while True:
            try:
                made = budget.reserve(Spending(tokens=3), NEVER)
            except BudgetExceeded:
                return spent
            row = books(store, "shared")
            most_seen.append(row.spent_tokens + row.held_tokens)
            used = 1 + number % 3
            settle(budget, store, made, Spending(tokens=used))
            spent += used

    with ThreadPoolExecutor(32) as pool:
        spent = sum(pool.map(work, range(32), timeout=120))
    assert spent == budget.spent().tokens
    assert 600 - 3 < spent <= 600
    assert max(most_seen) <= 600
    assert books(store, "shared").held_tokens == 0


def test_who_finds_no_room_waits_for_others(store: Store) -> None:
    """What would fit once others settle is waited for, and had as soon as they settle for less."""
    budget = make_budget(store, 10)
    first = budget.reserve(Spending(tokens=8), NEVER)
    got: list[Reservation] = []
    waiter = threading.Thread(target=lambda: got.append(budget.reserve(Spending(tokens=5), NEVER)))
    waiter.start()
    waiter.join(0.05)
    assert not got
    settle(budget, store, first, Spending(tokens=5))
    waiter.join(WAIT_S)
    assert [made.held.tokens for made in got] == [5]


def test_who_waits_in_vain_is_told(store: Store) -> None:
    """If others settle for all that they held, who waited gets BudgetExceeded with the figures."""
    budget = make_budget(store, 10, "lab")
    first = budget.reserve(Spending(tokens=8), NEVER)
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            budget.reserve(Spending(tokens=5), NEVER)
        except BudgetExceeded as error:
            caught.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    settle(budget, store, first, Spending(tokens=8))
    waiter.join(WAIT_S)
    assert [str(error) for error in caught] == [
        "the budget 'lab' is used up: 8 of 10 tokens are spent, and the next call could take 5"
    ]


def test_a_stop_ends_the_wait(store: Store) -> None:
    """Who waits for room when the run is stopped is let go without any."""
    budget, stop = make_budget(store, 10), threading.Event()
    budget.reserve(Spending(tokens=10), stop)
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            budget.reserve(Spending(tokens=1), stop)
        except CancelledError as error:
            caught.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    stop.set()
    waiter.join(WAIT_S)
    assert len(caught) == 1


def test_a_ceiling_beyond_all_measure_is_one(store: Store) -> None:
    """A budget that no database could count to is taken as a very large one."""
    budget = make_budget(store, 10**40, nano_usd=10**30, calls=10**25)
    assert budget.reserve(Spending(10**12, 10**9, 1), NEVER).held.tokens == 10**9


DIES = """
import sys, threading
from toolkit.records import Spending
from toolkit.store.address import read_address
from toolkit.store.budget import Budget, Ceiling
from toolkit.store.store import Store
budget = Budget(Store(read_address({url!r})), {name!r}, Ceiling(tokens=100))
for _ in range(3):
    budget.reserve(Spending(tokens=20), threading.Event())
print("held", flush=True)
sys.stdin.read()
"""


def die_holding(url: str, name: str) -> None:
    """Let a process reserve 60 of 100 tokens and be killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", DIES.format(url=url, name=name)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.kill()


@pytest.mark.parametrize("store_url", ["sqlite", "postgresql"], indirect=True)
def test_what_a_dead_process_held_is_spent(store: Store, store_url: str) -> None:
    """Nobody knows what became of its calls: they count in full once somebody needs the room."""
    budget = make_budget(store, 100, "b")
    die_holding(store_url, "b")
    with pytest.raises(BudgetExceeded, match="60 of 100 tokens are spent"):
        budget.reserve(Spending(tokens=50), NEVER)
    assert budget.reserve(Spending(tokens=40), NEVER)
    assert held_rows(store) == 1


def test_what_the_dead_held_of_a_finished_run_counts_no_more(
    sqlite_url: str, open_store: Callable[..., Store]
) -> None:
    """A fresh budget is whole, whatever a killed start of the run before it had reserved."""
    store = open_store(sqlite_url)
    Budget(store, "run s", Ceiling(tokens=100), scope="s")
    die_holding(sqlite_url, "run s")
    budget = Budget(store, "run s", Ceiling(tokens=100), scope="s")
    assert budget.reserve(Spending(tokens=100), NEVER)
    assert held_rows(store) == 1


def test_what_could_not_be_settled_is_spent(store: Store) -> None:
    """Who comes after a store that failed neither waits for ever nor gets what may have been paid."""
    budget = make_budget(store, 10, "b")
    lost = budget.reserve(Spending(tokens=6), NEVER)
    budget.abandon(lost)
    later = Budget(store, "b", Ceiling(tokens=10))
    with pytest.raises(BudgetExceeded, match="6 of 10"):
        later.reserve(Spending(tokens=5), NEVER)
    settle(budget, store, lost, Spending(tokens=1))  # too late, and without effect
    assert later.spent().tokens == 6


def test_a_transaction_done_again_reserves_once(store: Store) -> None:
    """Where a server was lost in the moment of the commit, what it may have kept is not held for ever."""
    budget = make_budget(store, 10)
    work = budget._taking(Spending(tokens=4))
    store.commit(work=work)
    again = store.commit(work=work)
    assert budget.reserve(Spending(tokens=2), NEVER)
    with pytest.raises(BudgetExceeded, match="4 of 10"):
        budget.reserve(Spending(tokens=7), NEVER)
    settle(budget, store, again, Spending(tokens=1))
    assert budget.spent().tokens == 5


@pytest.mark.parametrize("store_url", ["sqlite", "postgresql"], indirect=True)
def test_many_open_one_budget_at_once(store_url: str, open_store: Callable[..., Store]) -> None:
    """Stores (as of several processes) that make the same budget in the same moment make one."""
    stores = [open_store(store_url) for _ in range(4)]
    barrier = threading.Barrier(4)

    def make(store: Store, name: str) -> Budget:
        barrier.wait(WAIT_S)
        return Budget(store, name, Ceiling(tokens=10))

    with ThreadPoolExecutor(4) as pool:
        for number in range(10):
            made = list(pool.map(make, stores, [f"n{number}"] * 4, timeout=60))
            for budget in made[:2]:
                budget.reserve(Spending(tokens=5), NEVER)
            with pytest.raises(CancelledError):
                made[3].reserve(Spending(tokens=1), stopped)


# Runs


class Priced(ScriptedSummarizationProvider):
    """A millionth of a dollar for each token of the prompt, and two for each of the reply."""

    def price(self, reply: Reply) -> float:
        return (reply.usage.input_tokens + 2 * reply.usage.output_tokens) / 1e6

    def price_bound(self, input_tokens: int, output_tokens: int) -> float:
        return (input_tokens + 2 * output_tokens) / 1e6

    def identity(self) -> dict[str, Any]:
        return {"model": self.model}


def make_texts(count: int) -> list[Episode]:
    """Make texts of 8 words: 8 tokens of a prompt, whose bound is its bytes and 64."""
    return [Episode.from_text(f"e{n}", f"Hill {n:03} has a spring. It never dries.") for n in range(count)]


TEXT_BOUND = len(make_texts(1)[0].text) + 64
CAP = 8
BOUND = TEXT_BOUND + CAP
BOUND_NANO_USD = (TEXT_BOUND + 2 * CAP) * 1000
USED = 8 + 5


def go(
    texts: int | list[Episode],
    *,
    script: dict[str, Any] | None = None,
    warns: bool | None = None,
    **given: Any,
) -> Run:
    """Run texts, and see to it that a warning of the budget comes as expected (None: either way)."""
    config = Config(provider="scripted", summary_max_tokens=CAP, **given)
    clock = ManualClock()
    provider = Priced(config, **{"clock": clock, **(script or {})})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done = run(
            make_texts(texts) if isinstance(texts, int) else texts, config, provider=provider, clock=clock
        )
    told = [warning for warning in caught if warning.category is BudgetWarning]
    assert len(caught) == len(told)
    assert warns is None or bool(told) is warns
    return done


@pytest.fixture
def runs_url(store_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TOOLKIT_STORE_URL", store_url)
    return store_url


def spent_of(url: str, name: str | None = None) -> list[tuple[int, ...]]:
    """Return nano-dollars, tokens and calls of the budgets of a store, each spent and held."""
    budgets = schema.budgets.c
    query = sa.select(*(budgets[f"{kind}_{unit}"] for unit in UNITS for kind in ("spent", "held")))
    with store_at(read_address(url)).reading() as connection:
        rows = connection.execute(query if name is None else query.where(budgets.name == name)).all()
    return [tuple(row) for row in rows]


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        ({"budget_calls": 6}, "6 of 6 calls are made"),
        ({"budget_tokens": 5 * USED + BOUND}, f"{6 * USED} of {5 * USED + BOUND} tokens are spent"),
        (
            {"budget_usd": (5 * (8 + 10) + TEXT_BOUND + 2 * CAP) / 1e6},
            "are spent, and the next call could cost",
        ),
    ],
)
def test_a_budget_drains_the_run(runs_url: str, budget: dict[str, Any], says: str) -> None:
    """At its end the run stops, says why, keeps what is done, and holds nothing any more."""
    done = go(10, warns=True, **budget)
    assert done.counts() == {"ok": 6, "cancelled": 4}
    assert done.stopped_because is not None
    assert done.stopped_because.startswith("the run's budget is used up: ")
    assert says in done.stopped_because
    assert not done.interrupted
    assert [record.summary.status.value for record in done.records] == ["ok"] * 6 + ["cancelled"] * 4
    assert all(done.stopped_because in (record.summary.error or "") for record in done.records[6:])
    assert list(done.calls["status"]) == ["ok"] * 6 + ["cancelled"]
    assert list(done.calls["attempts"]) == [1] * 6 + [0]
    assert spent_of(runs_url) == [(6 * 18_000, 0, 6 * USED, 0, 6, 0)]


@pytest.mark.parametrize("workers", [1, 8])
def test_a_budget_that_does_is_no_bound(runs_url: str, workers: int) -> None:
    """Just as much as the plan says lets all come to its end, without a warning; a little less warns."""
    enough = 9 * (8 + CAP) + BOUND
    done = go(10, warns=False, summary_batch_size=workers, budget_tokens=enough, budget_calls=10)
    assert done.counts() == {"ok": 10}
    go(
        10,
        warns=True,
        summary_batch_size=workers,
        budget_tokens=enough - 1,
        reuse="none",
        store_url="memory://",
    )


def test_threads_of_a_run_end_within_its_budget(runs_url: str) -> None:
    """32 episodes at a time draw from one budget; none of the calls made is lost."""
    done = go(100, summary_batch_size=32, budget_calls=40)
    assert done.counts() == {"ok": 40, "cancelled": 60}
    assert spent_of(runs_url) == [(40 * 18_000, 0, 40 * USED, 0, 40, 0)]


def test_reused_calls_take_nothing(runs_url: str) -> None:
    """What is kept already is had again without a budget for it."""
    go(6)
    done = go(10, warns=True, budget_calls=4)
    assert done.counts() == {"ok": 10}
    assert spent_of(runs_url) == [(4 * 18_000, 0, 4 * USED, 0, 4, 0)]


def test_starts_of_one_run_share_a_budget(runs_url: str) -> None:
    """Starting again spends nothing more; a raised budget goes on; after the end it is a fresh one."""
    assert go(10, warns=True, budget_calls=4).counts() == {"ok": 4, "cancelled": 6}
    assert go(10, warns=True, budget_calls=4).counts() == {"ok": 4, "cancelled": 6}
    assert go(10, warns=True, budget_calls=9).counts() == {"ok": 9, "cancelled": 1}
    assert go(10, warns=False, budget_calls=10).counts() == {"ok": 10}
    assert [row[4] for row in spent_of(runs_url)] == [10]
    assert go(10, warns=True, budget_calls=9, reuse="none").counts() == {"ok": 9, "cancelled": 1}
    assert [row[4] for row in spent_of(runs_url)] == [9]


def test_a_text_without_words_keeps_no_budget_shared(runs_url: str) -> None:
    """No start could bring it: the run is over without it, and the next one's budget is a fresh one."""
    texts = [Episode.from_text("empty", ""), *make_texts(3)]
    for _ in range(3):
        done = go(texts, warns=False, budget_calls=3, reuse="none")
        assert done.counts() == {"ok": 3, "failed": 1}
        assert [row[4] for row in spent_of(runs_url)] == [3]


def test_other_runs_have_their_own(runs_url: str) -> None:
    """Another text or another repeat is another run, whose budget is its own."""
    for episodes, repeat in ((make_texts(3), 1), (make_texts(4), 1), (make_texts(3), 2)):
        done = go(episodes, budget_calls=2, repeat=repeat, reuse="none")
        assert done.counts()["ok"] == 2
    assert [row[4] for row in spent_of(runs_url)] == [2, 2, 2]


def test_a_name_shares_a_budget(runs_url: str) -> None:
    """Whatever runs have one name draw from one budget, which never becomes fresh by itself."""
    assert go(3, warns=False, budget_calls=5, budget_name="lab").counts() == {"ok": 3}
    texts = make_texts(20)[10:]
    done = go(texts, warns=True, budget_calls=5, budget_name="lab")
    assert done.counts() == {"ok": 2, "cancelled": 8}
    assert done.stopped_because == "the budget 'lab' is used up: 5 of 5 calls are made"
    assert [row[4] for row in spent_of(runs_url, "lab")] == [5]


SHARES = """
import warnings
from toolkit import Config, Episode, run
warnings.simplefilter("ignore")
texts = [Episode.from_text(f"e{{n}}", f"Hill {{n}} of land {number} has a spring.") for n in range(60)]
budget = dict(budget_calls=50, budget_name="lab")
config = Config(provider="scripted", store_url={url!r}, summary_batch_size=8, **budget)
print(run(texts, config, progress=False).counts().get("ok", 0))
"""


@pytest.mark.parametrize("store_url", ["sqlite", "postgresql"], indirect=True)
def test_processes_share_a_budget(store_url: str, store: Store) -> None:
    """Three processes of eight threads make exactly as many calls as all are allowed together."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", SHARES.format(number=number, url=store_url)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for number in range(3)
    ]
    made = [int(child.communicate(timeout=100)[0]) for child in children]
    assert sum(made) == 50
    assert (books(store, "lab").spent_calls, books(store, "lab").held_calls) == (50, 0)


def test_dollars_without_a_price_are_a_mistake() -> None:
    """It is said before anything is asked, with what to do."""
    asked: list[Request] = []
    config = Config(provider="scripted", budget_usd=1.0)

    def reply(request: Request) -> str:
        asked.append(request)
        return "A reply."

    with pytest.raises(
        ConfigError, match=r"no price is known of scripted/.*; set prices=, or take budget_tokens"
    ):
        run(make_texts(1), config, provider=ScriptedSummarizationProvider(config, replies=reply))
    assert asked == []


@pytest.mark.parametrize("budget_usd", [1e-12, 1e305])
def test_very_small_and_very_large_budgets(budget_usd: float) -> None:
    """Less than a nano-dollar allows nothing, and more than databases can count allows all."""
    assert go(2, budget_usd=budget_usd).counts() == ({"cancelled": 2} if budget_usd < 1 else {"ok": 2})


def test_a_text_that_cannot_be_asked_about_fails_as_without_a_budget() -> None:
    """Where the prompts leave no room, planning a budget does not end the run before it says so."""
    config: dict[str, Any] = {"direct_prompt": "word " * 200 + "{text}"}
    free = go(2, script={"context_tokens": 100}, **config)
    bound = go(2, script={"context_tokens": 100}, budget_calls=2, **config)
    assert free.counts() == bound.counts() == {"failed": 2}
    assert [r.summary.error for r in free.records] == [r.summary.error for r in bound.records]


class Unclear(Priced):
    """Says of each failure that it may have been paid for."""

    def classify(self, error: Exception) -> RetryDecision:
        assert isinstance(error, TransientError)
        return RetryDecision(error, Retry.TRANSIENT, paid_unknown=str(error) == "unclear")


def failing(*words: str | None) -> Callable[[Request, int], Exception | None]:
    """Fail the first attempts of each call with these words; None lets one through."""
    return lambda request, attempt: (
        TransientError(words[attempt - 1]) if attempt <= len(words) and words[attempt - 1] else None
    )


@pytest.mark.parametrize(
    ("faults", "statuses", "spent"),
    [
        (("clear", "clear"), {"ok": 1}, (18_000, USED, 1)),
        (("unclear",), {"ok": 1}, (18_000 + BOUND_NANO_USD, USED + BOUND, 1)),
        (("clear", "unclear", "clear"), {"ok": 1}, (18_000 + BOUND_NANO_USD, USED + BOUND, 1)),
        (("unclear",) * 4, {"failed": 1}, (4 * (BOUND_NANO_USD), 4 * BOUND, 1)),
        (("clear",) * 4, {"failed": 1}, (0, 0, 1)),
        (("unclear", "clear", "clear", "clear"), {"failed": 1}, (BOUND_NANO_USD, BOUND, 1)),
    ],
)
def test_what_nobody_knows_is_spent_in_full(
    runs_url: str, faults: tuple[str, ...], statuses: dict[str, int], spent: tuple[int, ...]
) -> None:
    """An attempt whose end is not known costs the most that it could, each time; it stays one call."""
    config = Config(provider="scripted", summary_max_tokens=CAP, budget_tokens=10_000, budget_calls=1)
    clock = ManualClock()
    provider = Unclear(config, faults=failing(*faults), clock=clock)
    assert run(make_texts(1), config, provider=provider, clock=clock).counts() == statuses
    assert spent_of(runs_url) == [(spent[0], 0, spent[1], 0, spent[2], 0)]


def test_a_count_that_is_estimated_is_spent_in_full(runs_url: str) -> None:
    """Where the server does not say what it counted, the most that it could have counted is taken."""

    class Estimated(Priced):
        def generate(self, request: Request) -> Reply:
            return Reply("A reply.", Usage(8, 2, counter="estimate:bytes"))

    config = Config(provider="scripted", summary_max_tokens=CAP, budget_tokens=10_000)
    assert run(make_texts(1), config, provider=Estimated(config)).counts() == {"ok": 1}
    assert spent_of(runs_url) == [(BOUND_NANO_USD, 0, BOUND, 0, 1, 0)]


@pytest.mark.parametrize("fails", ["settling", "giving up"])
def test_a_store_that_fails_on_the_way_leaves_no_hole(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """What could not be written off is spent in full for the next start, which does not wait for it."""
    given = {
        "summary_max_tokens": CAP,
        "budget_tokens": 2 * BOUND - 1,
        "store_url": sqlite_url,
        "store_wait_s": 0,
    }
    config = Config(provider="scripted", **given)
    clock = ManualClock()
    provider = Unclear(config, faults=failing("unclear") if fails == "giving up" else None, clock=clock)
    settling = Budget.settling

    def broken(self: Budget, reservation: Reservation, spent: Spending) -> Any:
        if spent == reservation.held or fails == "settling":
            raise StoreError("the disk is full")
        return settling(self, reservation, spent)

    with monkeypatch.context() as patched:
        patched.setattr(Budget, "settling", broken)
        first = run(make_texts(1), config, provider=provider, clock=clock)
    assert first.stopped_because == "the disk is full"
    again = config.replace(reuse="none")
    second = run(make_texts(1), again, provider=Unclear(again, clock=clock), clock=clock)
    assert second.counts() == {"cancelled": 1}
    assert f"{BOUND} of {2 * BOUND - 1} tokens are spent" in (second.stopped_because or "")


def test_money_is_counted_in_whole_nano_dollars() -> None:
    """What is added and taken away again leaves nothing; a fraction counts as a whole one."""
    assert Spending.of(1e-10, 3) == Spending(1, 3, 1)
    assert Spending.of(None, 3) == Spending(0, 3, 1)
    assert Spending.of(2.0, 0).nano_usd == 2 * NANO
