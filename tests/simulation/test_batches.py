"""A local model's queue on the agenda: time is shared by a formula, room and turns are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.config import Config
from toolkit.engines.queue import ARRIVAL_S, LINGER_S
from toolkit.latency import LatencyModel
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.simulation import simulate
from toolkit.simulation.agenda import Agenda, VirtualClock
from toolkit.simulation.batches import Joining, Padded, Prompted, Served

MODEL = LatencyModel(base_s=2.0, per_input_token_s=0.001, per_output_token_s=0.02, per_neighbour_token_s=0.01)
KINDS: list[type[Served]] = [Joining, Padded]


class Done(NamedTuple):
    """What became of a request."""

    name: int
    owner: str
    tokens: int
    came: float
    started: float
    ended: float
    width: int


class Bench:
    """A model, requests that come when a test says so, and what became of them in the order of their ends."""

    def __init__(
        self, kind: type[Served] = Joining, batch_tokens: int = 10**6, latency: LatencyModel = MODEL
    ) -> None:
        self.agenda = Agenda(VirtualClock())
        self.model = kind(self.agenda, latency, batch_tokens)
        self.done: list[Done] = []
        self._names = 0

    def ask(
        self,
        at: float = 0.0,
        owner: str = "e",
        given: int = 100,
        written: int = 100,
        cap: int | None = None,
        chance: float = 0.5,
        then: Callable[[], None] = lambda: None,
    ) -> int:
        name, self._names = self._names, self._names + 1
        most = given + (written if cap is None else cap)

        def done(started: float, ended: float, width: int) -> None:
            self.done.append(Done(name, owner, most, at, started, ended, width))
            then()

        request = Prompted(owner, given, most - given, written, chance, done)
        self.agenda.at(at, lambda: self.model.submit(request))
        return name

    def run(self) -> list[Done]:
        self.agenda.run()
        return self.done


def whole_s(width: int, given: int = 100, written: int = 100) -> float:
    """Return what the model says, with its formula written out."""
    return 2.0 + 0.001 * width * given + (0.02 + 0.01 * (width - 1)) * written


# -- the time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_equal_requests_that_come_together(kind: type[Served], count: int) -> None:
    """So many take what the latency model says of so many, whether they are padded or join."""
    bench = Bench(kind)
    for _ in range(count):
        bench.ask()
    for one in bench.run():
        assert one.started == pytest.approx(LINGER_S)
        assert one.ended - one.started == pytest.approx(whole_s(count), rel=1e-12)
        assert one.width == count


def test_one_that_arrives_slows_the_other_down() -> None:
    """What is left of the first goes on at the rate of two, and what is left of the second at that of one."""
    bench = Bench()
    bench.ask()
    bench.ask(at=2.0 + LINGER_S)
    first, second = bench.run()
    left = 1 - 2.0 / whole_s(1)
    together_s = left * whole_s(2)
    assert first.ended - first.started == pytest.approx(2.0 + together_s)
    assert second.started == pytest.approx(2.0 + LINGER_S), "it does not wait"
    alone_s = (1 - together_s / whole_s(2)) * whole_s(1)
    assert second.ended - second.started == pytest.approx(together_s + alone_s)
    assert first.width == round((2.0 + 2 * together_s) / (2.0 + together_s))


def test_the_shorter_one_leaves_and_the_longer_speeds_up() -> None:
    """Nobody waits for the longest, which is what padded batches do."""
    times: dict[type[Served], tuple[float, float]] = {}
    for kind in KINDS:
        bench = Bench(kind)
        bench.ask(written=10)
        bench.ask(written=400)
        short, long = sorted(bench.run())
        times[kind] = short.ended, long.ended
    short_s, long_s = whole_s(2, written=10), whole_s(2, written=400)
    assert times[Padded] == pytest.approx((LINGER_S + long_s,) * 2)
    left = 1 - short_s / long_s
    assert times[Joining] == pytest.approx(
        (LINGER_S + short_s, LINGER_S + short_s + left * whole_s(1, written=400))
    )


def test_a_request_whose_luck_is_bad_takes_longer() -> None:
    """Each has its own, also in company."""
    latency = MODEL.replace(spread=(0.5, 1.5))
    bench = Bench(latency=latency)
    bench.ask(chance=0.0)
    bench.ask(chance=1.0)
    quick, slow = bench.run()
    assert quick.ended - quick.started == pytest.approx(0.5 * whole_s(2))
    left = 1 - 0.5 / 1.5
    assert slow.ended - quick.ended == pytest.approx(left * 1.5 * whole_s(1))


def test_width_is_the_mean_over_the_time() -> None:
    """One second of four and the rest alone is not a width of four."""
    bench = Bench(latency=LatencyModel(base_s=10.0))
    bench.ask()
    bench.run()
    bench.done.clear()
    began = bench.agenda.clock.time
    bench.ask(at=began)
    for _ in range(3):
        bench.ask(at=began + 9.0 + LINGER_S)
    assert [one.width for one in bench.run()] == [1, 3, 3, 3]  # 9 s of 1 and 1 s of 4; 1 s of 4 and 9 s of 3


def test_what_takes_no_time_ends() -> None:
    """A model of no seconds at all is served at once, and counts as one by itself at least."""
    bench = Bench(latency=LatencyModel())
    for number in range(5):
        bench.ask(at=float(number // 2))
    assert len(bench.run()) == 5
    assert all(one.ended == one.started and one.width >= 1 for one in bench.done)


@pytest.mark.parametrize("kind", KINDS)
def test_an_idle_model_waits_for_company(kind: type[Served]) -> None:
    """For a moment after the last that came, and not for ever."""
    bench = Bench(kind)
    for number in range(400):
        bench.ask(at=0.8 * LINGER_S * number)
    bench.run()
    assert min(one.started for one in bench.done) == pytest.approx(ARRIVAL_S)


# -- room and turns ------------------------------------------------------------------------------------


@st.composite
def arrivals(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw requests of some owners, here and there all at once."""
    found: list[dict[str, Any]] = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "at": st.sampled_from([0.0, 0.001, 1.0, 1.001, 3.0]) | st.floats(0, 20),
                    "owner": st.sampled_from("abc"),
                    "given": st.integers(1, 300),
                    "written": st.integers(0, 60),
                    "cap": st.integers(60, 200),
                    "chance": st.floats(0.01, 0.99),
                }
            ),
            min_size=1,
            max_size=25,
        )
    )
    return found


@given(arrivals(), st.integers(50, 900), st.sampled_from(KINDS), st.booleans())
@settings(deadline=None, max_examples=200)
def test_laws_of_a_queue(asked: list[dict[str, Any]], room: int, kind: type[Served], lucky: bool) -> None:
    """All are served, once, after they came; never more tokens at work than there is room for.

    One that is larger than that is worked on alone. Alone a request is never slower than in company, so that
    the time of each lies between that of its luck alone and in the company of all.
    """
    latency = MODEL.replace(spread=0.4 if lucky else 0.0)
    bench = Bench(kind, room, latency)
    for request in asked:
        bench.ask(**request)
    done = bench.run()
    assert sorted(one.name for one in done) == list(range(len(asked)))
    for one in done:
        assert one.came <= one.started <= one.ended
        assert 1 <= one.width <= len(asked)
        at_work = [other for other in done if other.started <= one.started < other.ended]
        assert sum(other.tokens for other in at_work) <= room or len(at_work) == 1
        if kind is Joining:
            known = asked[one.name]
            sizes = known["given"], known["written"]
            alone, crowded = (latency.service_s(*sizes, width, known["chance"]) for width in (1, len(asked)))
            assert alone - 1e-9 <= one.ended - one.started <= crowded + 1e-9


@given(arrivals(), st.integers(50, 900))
@settings(deadline=None, max_examples=100)
def test_a_model_that_has_room_does_not_let_anybody_wait(asked: list[dict[str, Any]], room: int) -> None:
    """Whoever waits does so for others that fill the room, or for the moment of an idle model."""
    bench = Bench(Joining, room)
    for request in asked:
        bench.ask(**request)
    for one in bench.run():
        if one.started - one.came > ARRIVAL_S:
            busy = [other for other in bench.done if other.ended > one.came and other.started < one.started]
            assert busy, "it waited, and nobody was served meanwhile"


@given(arrivals(), st.integers(50, 900), st.sampled_from(KINDS))
@settings(deadline=None, max_examples=100)
def test_nobody_starves(asked: list[dict[str, Any]], room: int, kind: type[Served]) -> None:
    """Who has nothing at work is overtaken by none that came later, however many small ones keep coming.

    In padded batches those of a like length go with the first; but the first is the one that came first.
    """
    bench = Bench(kind, room)
    for number, one in enumerate(asked):
        left = [20]
        owner = f"{one['owner']}{number}"

        def again(one: dict[str, Any] = one, owner: str = owner, left: list[int] = left) -> None:
            if left[0] and len(bench.done) < 2000:
                left[0] -= 1
                now = bench.agenda.clock.time
                bench.ask(**{**one, "at": now, "owner": owner, "then": again})

        bench.ask(**{**one, "owner": owner, "then": again})
    large = bench.ask(at=2.0, owner="large", given=700, written=50)
    victim = next(one for one in bench.run() if one.name == large)
    later = [one for one in bench.done if one.came > victim.came and one.name != large]
    if kind is Joining:
        assert all(one.started >= victim.started for one in later)
    else:
        # Those who were there before it are served first, each in one batch at most.
        batches = {one.started for one in bench.done if victim.came <= one.started < victim.started}
        assert len(batches) <= 1 + len(asked)


def test_owners_take_turns() -> None:
    """Many requests of one episode do not keep the few of another waiting."""
    bench = Bench(Joining, batch_tokens=2 * 200)
    for _ in range(10):
        bench.ask(owner="many")
    few = [bench.ask(at=0.5, owner="few") for _ in range(2)]
    bench.run()
    order = [one.name for one in sorted(bench.done, key=lambda one: (one.started, one.name))]
    assert order[:6] == [0, 1, 2, few[0], 3, few[1]], "one of each at a time, as long as both have some"
    own = [name for name in order if name not in few]
    assert own == sorted(own), "those of one owner keep their order"


def test_owners_are_episodes() -> None:
    """In a simulated run too the short episode does not wait for all chunks of the long one."""
    config = Config(
        summary_batch_size=2, summary_chunk_parallelism=16, chunk_tokens=300, engine_batch_tokens=1000
    )
    played = simulate([8000, 900], config, latency=LatencyModel(base_s=1.0, output_tokens=20))
    long, short = (played.episodes["total_s"][n] for n in (0, 1))
    assert short < long / 3


class Stepped(ScriptedSummarizationProvider):
    """A script that stands for a model on this machine."""

    runs_here = True
    joins = True


class Whole(Stepped):
    """One whose batches run to their end."""

    joins = False


@pytest.mark.parametrize("kind", [Stepped, Whole])
def test_the_provider_says_whether_requests_join(kind: type[Stepped]) -> None:
    """Requests of different lengths end together only in padded batches."""
    latency = LatencyModel(base_s=1.0, per_input_token_s=0.001, output_tokens=20)
    provider = kind(Config(provider="scripted", summary_batch_size=2))
    played = simulate([100, 400], provider=provider, latency=latency)
    together = played.calls["service_s"].round(9).nunique() == 1
    assert together == (kind is Whole)
    assert set(played.calls["batch_size"]) == {2}
    assert played.calls[["prompt_s", "decode_s", "tokens_per_s"]].isna().all(axis=None)
