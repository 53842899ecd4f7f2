"""What goes wrong in a sweep: it stays in its row, and what was measured stays measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import toolkit
from toolkit.archive import open_store
from toolkit.clock import ManualClock
from toolkit.config import Config
from toolkit.errors import ConfigError, QuotaExhausted, ToolkitError
from toolkit.keeping import BudgetWarning
from toolkit.limits import Demand, Limiter
from toolkit.providers.registry import get_provider
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.records import Episode
from toolkit.store import schema
from toolkit.store.address import read_address
from toolkit.store.opened import store_at
from toolkit.store.sweeps import KeptCell, SweepBook
from toolkit.sweeps import Sweep, sweep
from toolkit.sweeps.cells import Cell
from toolkit.sweeps.spending import Budget, check_consent
from toolkit.sweeps.study import SweepWarning
from toolkit.testing import ApiServer

ROOT = Path(toolkit.__file__).parents[1]
GRID = {"chunk_tokens": [32, 48, 64]}
CALLS = 9 + 9 + 3
"""Of one repeat over this grid."""


def statuses(study: Sweep) -> list[str]:
    return study.cells["status"].tolist()


# Cells that fail


def test_a_cell_that_fails_says_why_and_the_others_go_on(scripted: Any) -> None:
    """Its row has the error of its first episode; no mean and no choice has it."""

    def script(config: Config) -> dict[str, Any]:
        broken = config.chunk_tokens == 48
        return {"faults": (lambda request, attempt: QuotaExhausted("no credit")) if broken else None}

    study = scripted(GRID, repeats=2, script=script)
    assert statuses(study) == ["ok", "ok", "failed", "failed", "ok", "ok"]
    assert study.cells["error"].str.contains("no credit").sum() == 2
    assert study.means("makespan_s")["ok"].tolist() == [2, 0, 2]
    assert study.best("makespan_s")["chunk_tokens"] != 48


def test_a_cell_whose_memory_runs_out_while_it_works(scripted: Any) -> None:
    """The word stands in the row."""

    def script(config: Config) -> dict[str, Any]:
        short = config.chunk_tokens == 64
        return {"faults": (lambda request, attempt: MemoryError("8 GB")) if short else None}

    study = scripted(GRID, script=script)
    assert statuses(study) == ["ok", "ok", "failed"]
    assert "MemoryError: 8 GB" in study.cells["error"][2]


@pytest.mark.parametrize("error", [MemoryError("4 GB"), ConfigError("no such thing"), ValueError("a bug")])
def test_a_cell_that_cannot_even_begin(episodes: list[Episode], error: Exception) -> None:
    """A model that does not fit, a package that is missing: no run, and a row all the same."""

    class Heavy(ScriptedSummarizationProvider):
        def prepare(self) -> None:
            if self.config.chunk_tokens == 48:
                raise error

    study = sweep(episodes, Config(provider="scripted"), GRID, provider=Heavy)
    assert statuses(study) == ["ok", "failed", "ok"]
    row = study.cells.iloc[1]
    assert row["error"] == f"{type(error).__name__}: {error}"
    assert row[["makespan_s", "calls", "run_id"]].isna().all()


def test_a_failed_cell_is_tried_again_and_is_no_measurement_then(scripted: Any) -> None:
    """What its episodes had is not asked again; the makespan of the rest is not shown for that of all."""
    broken = True

    def script(config: Config) -> dict[str, Any]:
        def fault(request: Any, attempt: int) -> Exception | None:
            return ValueError("broken") if broken and request.episode_id == "e2" else None

        return {"faults": fault, "latency_s": 1.0}

    first = scripted({"chunk_tokens": [64]}, script=script)
    assert statuses(first) == ["failed"]
    broken, calls = False, scripted.calls
    again = scripted({"chunk_tokens": [64]}, script=script, warm_up=False)
    row = again.cells.iloc[0]
    assert row["status"] == "ok"
    assert scripted.calls - calls == 1
    assert row["calls_reused"] == 2
    assert row["resumed"]
    assert row[["makespan_s", "episodes_per_h", "output_tokens_per_s"]].isna().all()
    assert "resumed, without times" in repr(again)
    with pytest.raises(ToolkitError, match="nothing was measured of it"):
        again.best("makespan_s")
    whole = scripted({"chunk_tokens": [64]}, script=script)
    assert whole.cells.iloc[0][["kept", "resumed"]].tolist() == [True, True]


def test_a_score_that_fails_costs_no_measurement(scripted: Any) -> None:
    """The row says so, and the next start judges what is there."""

    def score(run: Any, episodes: Any) -> dict[str, float]:
        if broken:
            raise ZeroDivisionError("no words")
        return {"one": 1.0}

    broken = True
    study = scripted(GRID, score=score)
    assert statuses(study) == ["ok"] * 3
    assert study.cells["error"].eq("the score raised ZeroDivisionError: no words").all()
    assert study.cells["makespan_s"].notna().all()
    broken, calls = False, scripted.calls
    again = scripted(GRID, score=score)
    assert again.cells["one"].eq(1).all()
    assert again.cells["error"].isna().all()
    assert scripted.calls == calls


def test_nothing_succeeded(scripted: Any) -> None:
    """Frames with nulls, means of nothing, and one sentence that says so."""
    study = scripted(GRID, script=lambda config: {"faults": lambda request, attempt: ValueError("dead")})
    assert statuses(study) == ["failed"] * 3
    means = study.means()
    assert means["ok"].tolist() == [0, 0, 0]
    assert list(means) == ["cell", "chunk_tokens", "ok"]
    assert study.means("makespan_s")["makespan_s"].isna().all()
    assert "nothing succeeded; cell 1 (chunk_tokens=32), repeat 1, failed: e0:" in repr(study)
    assert "Nothing succeeded.</strong>" in study._repr_html_()
    assert "The first: chunk_tokens = 32: e0:" in study._repr_html_()
    with pytest.raises(ToolkitError, match="nothing succeeded; cell 1"):
        study.best()


def test_no_episodes_or_what_are_none(scripted: Any) -> None:
    """Told before anything runs."""
    for given, message in (([], "no episodes"), ("e0", "load_episodes"), ([3], "is no Episode")):
        scripted.episodes = given
        with pytest.raises(ConfigError, match=message):
            scripted(GRID)
    assert not scripted.made


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 0}, "repeats=0"),
        ({"parallel": 1.5}, "parallel=1.5"),
        ({"sample": 0}, "sample=0"),
        ({"simulate": True, "latency": 1.0, "parallel": 2}, "a clock of its own"),
        ({"score": "rouge"}, "score='rouge'"),
        ({"budget_calls": 0}, "budget_calls"),
    ],
)
def test_options_out_of_range(scripted: Any, options: dict[str, Any], message: str) -> None:
    """Told before anything runs."""
    with pytest.raises(ConfigError, match=message):
        scripted(GRID, **options)
    assert not scripted.calls


# Money


def test_one_budget_for_all_cells(scripted: Any) -> None:
    """At its end the cell under way and all that follow are cancelled, and say what they lack."""
    study = scripted(GRID, repeats=2, budget_calls=10, warm_up=False)
    assert scripted.calls == 10
    order = study.cells.sort_values("order", kind="stable")
    spent = order["status"].tolist()
    done = spent.count("ok")
    assert spent == ["ok"] * done + ["cancelled"] * (6 - done)
    assert order["error"][order["status"] == "cancelled"].str.contains("10 of 10 calls are made").all()
    assert study.stopped_because is not None
    assert not study.interrupted
    assert "stopped: the budget" in repr(study)


def test_more_budget_and_the_sweep_goes_on(scripted: Any) -> None:
    """What was spent before counts; no answer is paid for twice."""
    scripted(GRID, budget_calls=7, warm_up=False)
    again = scripted(GRID, budget_calls=8, warm_up=False)
    assert scripted.calls == 8
    assert "cancelled" in statuses(again)
    study = scripted(GRID, budget_calls=100, warm_up=False)
    assert statuses(study) == ["ok"] * 3
    assert scripted.calls == CALLS == study.cells[["calls", "calls_reused"]].sum().sum()


def test_the_warm_up_draws_from_the_budget_too(scripted: Any) -> None:
    """Nothing is spent beside it."""
    study = scripted(GRID, budget_calls=1)
    assert scripted.calls == 1
    assert study.warm_ups["status"].tolist() == ["ok"]
    assert statuses(study) == ["cancelled"] * 3


def test_a_paid_server_is_not_called_unasked(
    episodes: list[Episode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what it may cost and what to do; nothing was sent."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "a1" * 20)
    config = Config(provider="openai", model="gpt-5.6-luna", limits_url="memory://")
    with pytest.raises(ConfigError) as caught:
        sweep(episodes, config, {"summary_batch_size": [1, 2]}, repeats=3)
    said = str(caught.value)
    assert "openai/gpt-5.6-luna: 2 cells x 3 with up to 18 calls" in said
    assert ", $0." in said
    assert "confirm=True" in said
    assert open_store().runs().empty


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({"confirm": True}, None),
        ({"simulate": True, "latency": 1.0}, None),
        ({"budget_calls": 100}, None),
        ({"budget_usd": 1.0}, "no price is known"),
        ({}, "would really call"),
    ],
)
def test_no_provider_is_left_open(
    scripted: Any, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], refused: str | None
) -> None:
    """Those that are only looked at (what they cost, what they wait for, how they cut) hold models too."""
    monkeypatch.setattr(ScriptedSummarizationProvider, "spends", True)
    with pytest.raises(ConfigError, match=refused) if refused else nullcontext():
        scripted(GRID, **options)
    assert scripted.made
    assert not scripted.open


def test_a_budget_that_may_not_do_is_told(episodes: list[Episode]) -> None:
    """Before anything is spent, once for all cells; what is sent costs nothing here."""
    with ApiServer() as server:
        config = Config(provider="openai", openai_base_url=server.base_url, limits_url="memory://")
        cell = Cell(1, {"seed": 1}, config, "k")
        budget = Budget(calls=5)
        local = get_provider(config)

        class Paid(type(local)):  # type: ignore[misc]
            spends = True

        with pytest.warns(BudgetWarning, match="1 cell x 2 with up to 6 calls"):
            check_consent([cell], 2, episodes, budget, Paid, confirm=False)
        check_consent([cell], 1, episodes, budget, Paid, confirm=False)


def test_a_budget_in_dollars_needs_prices(episodes: list[Episode]) -> None:
    """Or it would bound nothing, or end every cell."""
    config = Config(
        provider="openai",
        model="mine",
        openai_base_url="https://models.example.org/v1",
        openai_api_key="k" * 20,
        limits_url="memory://",
    )
    with pytest.raises(ConfigError, match=r"no price is known of openai/mine in cell 1"):
        sweep(episodes, config, {"summary_batch_size": [1, 2]}, budget_usd=1)


def test_a_server_on_this_machine_costs_nothing(episodes: list[Episode]) -> None:
    """It needs neither a budget nor consent, and its refusals and shares are in the row."""
    with ApiServer(law="openai", requests_per_minute=6000) as server:
        config = Config(
            provider="openai",
            openai_base_url=server.base_url,
            openai_requests_per_minute=6000,
            openai_tokens_per_minute=10**7,
            limits_url="memory://",
        )
        study = sweep(episodes, config, {"summary_batch_size": [1, 3]}, score=False)
        asked = server.score()
    assert statuses(study) == ["ok", "ok"]
    assert study.cells["rate_limited_attempts"].tolist() == [0, 0]
    assert asked.paid == study.cells["calls"].sum() + 1


def test_dollars_bind_only_who_can_spend_some(scripted: Any) -> None:
    """A local model has no price; a budget for the hosted ones does not end its cells."""
    study = scripted(GRID, budget_usd=1.0)
    assert statuses(study) == ["ok"] * 3


def test_dollars_bind_at_a_server_on_this_machine_that_has_a_price(episodes: list[Episode]) -> None:
    """It may pass calls on to a paid one: the user has said what they cost, and what may be spent."""
    with ApiServer() as server:
        config = Config(
            provider="openai",
            model="mine",
            openai_base_url=server.base_url,
            limits_url="memory://",
            prices={"mine": {"input": 100.0, "output": 100.0}},
        )
        with pytest.raises(ConfigError, match="would really call openai/mine: 2 cells"):
            sweep(episodes, config, {"summary_batch_size": [1, 2]}, score=False)
        assert server.score().paid == 0
        with pytest.warns(BudgetWarning):
            study = sweep(
                episodes, config, {"summary_batch_size": [1, 2]}, score=False, warm_up=False, budget_usd=0.04
            )
    assert "cancelled" in statuses(study)
    assert study.stopped_because is not None
    assert "of $0.0400 are spent" in study.stopped_because


def test_a_price_of_nothing_is_no_price(episodes: list[Episode]) -> None:
    """A table may say that a local server costs nothing."""
    with ApiServer() as server:
        config = Config(
            provider="openai",
            model="mine",
            openai_base_url=server.base_url,
            limits_url="memory://",
            prices={"mine": {"input": 0, "output": 0}},
        )
        assert statuses(sweep(episodes, config, {"seed": [1]}, score=False)) == ["ok"]


def test_a_cell_that_costs_nothing_leaves_the_bound_on_dollars(scripted: Any) -> None:
    """All cells set the bounds of one budget: those of a paid one at work beside it must stay."""
    bounds: list[Any] = []

    def look(row: Any) -> None:
        store = store_at(read_address("memory://"))
        query = sa.select(schema.budgets.c.limit_nano_usd)
        bounds.append(store.commit(work=lambda connection: connection.execute(query).scalar_one()))

    scripted(GRID, budget_usd=1.0, budget_calls=100, on_cell=look)
    assert bounds == [10**9] * 3


def test_each_cell_waits_until_the_quota_is_back(episodes: list[Episode]) -> None:
    """Else the second one would pay for what the first one used, and the order would look like an effect."""
    with ApiServer(law="openai", requests_per_minute=6) as server:
        clock = ManualClock()
        config = Config(
            provider="openai",
            openai_base_url=server.base_url,
            openai_requests_per_minute=6,
            limits_url="memory://",
        )
        provider = get_provider(config)
        limiter = provider.limiter(clock)
        assert limiter is not None
        began = clock.now()
        make = lambda config: get_provider(config)  # noqa: E731
        server.reset_score(refill=True)
        sweep(
            episodes[:1],
            config,
            {"summary_chunk_parallelism": [1, 2]},
            clock=clock,
            provider=make,
            warm_up=False,
            score=False,
        )
    # One request of six: ten seconds until the bucket is full again, which only the manual clock passed.
    assert clock.now() - began == pytest.approx(10, abs=1.5)


@pytest.fixture
def overloaded(episodes: list[Episode]) -> Iterator[tuple[Callable[..., Sweep], Limiter]]:
    """Sweeps over a server that refuses more than two requests at a time and tells nobody; the limiter."""
    with ApiServer(requests_per_minute=10**6, max_concurrent=2, latency=0.05) as server:
        config = Config(
            provider="openai",
            openai_base_url=server.base_url,
            openai_requests_per_minute=10**6,
            openai_tokens_per_minute=10**8,
            openai_max_concurrent_requests=6,
            limits_url="memory://",
            chunk_tokens=32,
            summary_batch_size=3,
            summary_chunk_parallelism=2,
        )
        clock = ManualClock()
        limiter = get_provider(config).limiter(clock)
        assert limiter is not None
        grid = {"seed": [1, 2]}
        yield lambda **options: sweep(episodes, config, grid, clock=clock, score=False, **options), limiter


def test_each_cell_begins_with_all_its_slots(overloaded: tuple[Callable[..., Sweep], Limiter]) -> None:
    """Else the order would look like an effect: what one cell learns from refusals is not the next one's."""
    measure, _ = overloaded
    study = measure(repeats=2)
    for run in study.runs.values():
        events = run.limits
        assert events["slot_cap"].iloc[0] == 6
        assert "cut" in set(events["event"])


def test_a_quota_that_others_use_is_told(overloaded: tuple[Callable[..., Sweep], Limiter]) -> None:
    """Cells that begin while other calls are under way begin with what those have learned."""
    measure, limiter = overloaded
    lease = limiter.acquire(Demand()).lease
    with pytest.warns(SweepWarning, match="2 of its cells began while other calls were under way"):
        study = measure()
    assert study.runs[1, 1].limits["in_flight"].iloc[0] == 2
    limiter.settle(lease)
    measure(name="alone")


# Stopping


def test_ctrl_c_brings_what_is_there_and_the_next_start_goes_on(scripted: Any) -> None:
    """The cell under way is cancelled with what it has; those after it are not begun."""

    def script(config: Config) -> dict[str, Any]:
        def fault(request: Any, attempt: int) -> None:
            if scripted.calls == 12:
                os.kill(os.getpid(), signal.SIGINT)
                assert stopping.wait(10)

        return {"faults": fault}

    stopping = threading.Event()
    tell = toolkit.interrupts.tell  # type: ignore[attr-defined]

    def told(text: str) -> None:
        stopping.set()
        tell(text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("toolkit.interrupts.tell", told)
        study = scripted(GRID, repeats=2, script=script, warm_up=False)
    assert study.interrupted
    assert scripted.calls == 12
    counts = study.counts()
    assert counts["cancelled"] >= 3
    assert counts["ok"] + counts["cancelled"] == 6
    assert "interrupted" in repr(study)
    again = scripted(GRID, repeats=2, warm_up=False)
    assert statuses(again) == ["ok"] * 6
    assert again.cells["kept"].sum() == counts["ok"]
    assert scripted.calls == 2 * CALLS


KILLED = """
    import os, signal, sys
    import toolkit as tk

    class Deadly(tk.ScriptedSummarizationProvider):
        def generate(self, request):
            with open(sys.argv[2], "a") as log:
                log.write("call\\n")
            if os.path.exists(sys.argv[3]) and len(open(sys.argv[2]).readlines()) > 13:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().generate(request)

        def identity(self):
            return {"provider": "deadly"}

    episodes = [tk.Episode.from_text(f"e{n}", f"Hill{n} dries. " * 20) for n in range(3)]
    study = tk.sweep(
        episodes,
        tk.Config(provider="scripted", store_url=sys.argv[1]),
        {"chunk_tokens": [32, 48, 64]},
        repeats=2,
        warm_up=False,
        provider=Deadly,
        score=False,
    )
    print(study.cells[["status", "kept", "resumed", "calls", "calls_reused"]].to_json(orient="records"))
"""


def test_a_sweep_killed_in_the_middle_goes_on(tmp_path: Path) -> None:
    """Nothing measured is measured again, and no answer asked for twice.

    The cell in which the process died is no clean measurement.
    """
    script, log, alive = tmp_path / "s.py", tmp_path / "log", tmp_path / "alive"
    script.write_text(textwrap.dedent(KILLED))
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    command = [sys.executable, str(script), url, str(log), str(alive)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    alive.touch()
    killed = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    alive.unlink()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    rows = json.loads(done.stdout.splitlines()[-1])
    assert [row["status"] for row in rows] == ["ok"] * 6
    kept = [row for row in rows if row["kept"]]
    resumed = [row for row in rows if row["resumed"]]
    assert 1 <= len(kept) < 6
    assert len(resumed) == 1
    assert not resumed[0]["kept"]
    total = len(log.read_text().splitlines())
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert all(row["kept"] for row in json.loads(again.stdout.splitlines()[-1]))
    assert len(log.read_text().splitlines()) == total
    # What was asked before the kill is asked once, but for the call that it broke into.
    assert total == sum(row["calls"] + row["calls_reused"] for row in rows) + 1


def test_the_cell_of_a_process_that_died_goes_last(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it takes this process along as well, the others are measured by then."""
    first: list[Any] = []
    scripted(GRID, repeats=2, on_cell=first.append, name="x")
    dead = first[0]
    order: list[Any] = []
    cells = SweepBook.cells

    def unfinished(self: SweepBook) -> dict[tuple[str, int], KeptCell]:
        return {
            place: kept._replace(
                status=None if place == (dead.cell.key, dead.repeat) else "failed", figures=None
            )
            for place, kept in cells(self).items()
        }

    monkeypatch.setattr(SweepBook, "cells", unfinished)
    scripted(GRID, repeats=2, on_cell=order.append, name="x")
    assert (order[-1].cell.key, order[-1].repeat) == (dead.cell.key, dead.repeat)
    assert [row.values["order"] for row in order[:-1]] == [2, 3, 4, 5, 6]


# Others


def test_two_sweeps_at_once_on_one_store(tmp_path: Path, episodes: list[Episode]) -> None:
    """Each has its own cells, runs and answers, though they ask the same."""
    studies: dict[str, Sweep] = {}
    config = Config(provider="scripted", chunk_tokens=32, store_url=f"sqlite:///{tmp_path / 'runs.db'}")

    def go(name: str) -> None:
        studies[name] = sweep(
            episodes, config, {"summary_batch_size": [1, 2, 3]}, repeats=3, name=name, score=False
        )

    threads = [threading.Thread(target=go, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert studies["a"].id != studies["b"].id
    for study in studies.values():
        assert statuses(study) == ["ok"] * 9
        assert study.cells["calls_reused"].sum() == 0
    assert not set(studies["a"].cells["run_id"]) & set(studies["b"].cells["run_id"])


def test_one_sweep_is_not_done_twice_at_once(scripted: Any) -> None:
    """The second one is told who has it; after the end it may be had again."""
    told = []

    def inside(row: Any) -> None:
        with pytest.raises(ConfigError, match=f"under way in process {os.getpid()}"):
            scripted(GRID)
        told.append(row)

    scripted(GRID, on_cell=inside)
    assert len(told) == 3
    assert scripted(GRID).cells["kept"].all()


def test_a_sweep_in_another_process_is_not_done_here(
    scripted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While that process lives; what the dead have left is gone on with."""
    study = scripted(GRID)
    monkeypatch.setattr("toolkit.store.sweeps.this_process", lambda: "77/elsewhere")
    book = SweepBook(store_at(read_address("memory://")), study.id)
    assert book.claim(None, "{}", 0.0) is None
    book._forget()
    monkeypatch.undo()
    monkeypatch.setenv("TOOLKIT_STORE_URL", "memory://")
    monkeypatch.setattr("toolkit.store.sweeps.is_alive", lambda holder: holder == "77/elsewhere")
    with pytest.raises(ConfigError, match="under way in process 77"):
        scripted(GRID)
    monkeypatch.setattr("toolkit.store.sweeps.is_alive", lambda holder: False)
    assert scripted(GRID).cells["kept"].all()


def test_an_exception_of_the_listener_ends_the_sweep_and_loses_nothing(scripted: Any) -> None:
    """It is raised; what was measured is taken at the next start."""

    def listen(row: Any) -> None:
        raise ValueError("listener")

    with pytest.raises(ValueError, match="listener"):
        scripted(GRID, on_cell=listen)
    assert scripted(GRID).cells["kept"].sum() == 1


def test_a_store_that_breaks_ends_the_sweep(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be kept is not measured: the rest is cancelled and says so."""
    from toolkit.errors import StoreError

    begin = SweepBook.begin

    def breaks(self: SweepBook, key: str, repeat: int, started_at: float) -> None:
        if repeat == 2:
            raise StoreError("the disk is full")
        begin(self, key, repeat, started_at)

    def lost(self: SweepBook) -> None:
        self._forget()
        raise StoreError("the disk is full")

    monkeypatch.setattr(SweepBook, "begin", breaks)
    monkeypatch.setattr(SweepBook, "release", lost)
    study = scripted(GRID, repeats=2)
    assert study.cells.groupby("repeat")["status"].unique().map(list).to_dict() == {
        1: ["ok"],
        2: ["cancelled"],
    }
    assert study.cells["error"].dropna().str.contains("the disk is full").all()
    assert study.stopped_because == "the disk is full"


def test_cells_of_another_machine_are_told(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the cells from a laptop and half from a server are no comparison."""
    scripted(GRID)
    monkeypatch.setattr("toolkit.sweeps.study.machine_digest", lambda environment: "another")
    with pytest.warns(
        SweepWarning, match="3 of its cells were measured in an earlier start on another machine"
    ):
        scripted(GRID, repeats=2)
