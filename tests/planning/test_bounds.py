"""The bounds are below anything that can be done, and a greedy order comes close to them."""

from __future__ import annotations

import heapq
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.latency import LatencyModel
from toolkit.limits import Demand, Lease, LimiterCore, LimitSettings
from toolkit.limits.laws import MINUTE, Clause, Dimension
from toolkit.limits.window import Kind
from toolkit.planning.bounds import (
    Chains,
    Charges,
    Step,
    Timed,
    rate_bounds,
    shared_s,
    slots_s,
    timed,
    window_s,
)
from toolkit.planning.work import Ask, Shape
from toolkit.records import Stage
from toolkit.simulation.agenda import Agenda, VirtualClock
from toolkit.simulation.batches import Joining, Padded, Prompted, Served

step_sizes = st.lists(st.integers(1, 6), min_size=1, max_size=3)
shapes = st.lists(step_sizes, min_size=1, max_size=8)
seconds = st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.5]), min_size=6, max_size=6)


def shape_of(sizes: list[int]) -> Shape:
    """Make an episode whose calls differ in the lengths of their prompts, by place."""
    return tuple(tuple(Ask(Stage.MAP, place, 10.0, 20) for place in range(size)) for size in sizes)


def work_of(sizes: list[list[int]]) -> dict[Shape, int]:
    found: dict[Shape, int] = {}
    for one in sizes:
        found[shape_of(one)] = found.get(shape_of(one), 0) + 1
    return found


def greedy_s(sizes: list[list[int]], times: list[float], episodes: int, chunks: int, slots: int) -> float:
    """Return when all is done if every call starts as soon as it may, in the order of the episodes."""
    todo = [[list(range(size)) for size in one] for one in sizes]
    in_flight: list[tuple[float, int]] = []
    flying = [0] * len(sizes)
    left = [list(one) for one in sizes]
    now = 0.0
    while any(left):
        at_work = [e for e, steps in enumerate(left) if steps][:episodes]
        for episode in at_work:
            while todo[episode] and todo[episode][0] and flying[episode] < chunks and len(in_flight) < slots:
                place = todo[episode][0].pop(0)
                heapq.heappush(in_flight, (now + times[place], episode))
                flying[episode] += 1
        now, episode = heapq.heappop(in_flight)
        flying[episode] -= 1
        left[episode][0] -= 1
        if left[episode][0] == 0:
            left[episode].pop(0)
            todo[episode].pop(0)
    return now


@given(
    sizes=shapes, times=seconds, episodes=st.integers(1, 4), chunks=st.integers(1, 5), slots=st.integers(1, 6)
)
def test_no_schedule_is_faster(
    sizes: list[list[int]], times: list[float], episodes: int, chunks: int, slots: int
) -> None:
    """Whatever episodes, chunks and slots: what is really done takes as long as the bounds, or longer."""
    work = timed(work_of(sizes), lambda ask: times[ask.input_tokens])
    took = greedy_s(sizes, times, episodes, chunks, slots)
    assert Chains.of(work, min(chunks, slots)).seconds(episodes) <= took + 1e-9
    assert slots_s(work, slots) <= took + 1e-9


@given(sizes=shapes, episodes=st.integers(1, 4), slots=st.integers(1, 6))
def test_the_slots_bound_is_near_where_slots_bind(sizes: list[list[int]], episodes: int, slots: int) -> None:
    """With equal calls and enough of them at a time, a greedy order is at most the longest chain above it."""
    work = timed(work_of(sizes), lambda ask: 1.0)
    took = greedy_s(sizes, [1.0] * 6, len(sizes), 6, slots)
    assert took <= slots_s(work, slots) + max(len(one) for one in sizes)


@given(
    kind=st.sampled_from(list(Kind)),
    limit=st.integers(50, 400),
    amounts=st.lists(st.integers(1, 50), min_size=1, max_size=40),
    start=st.floats(0, 200, allow_nan=False),
)
def test_no_window_lets_in_sooner(kind: Kind, limit: int, amounts: list[int], start: float) -> None:
    """The limiter itself, asked for all at once, lets the last amount in at the bound or later."""
    settings = LimitSettings(tokens_per_minute=limit, law=f"tokens:{kind}", transit_s=0.0)
    core, now = LimiterCore("test", settings), start
    for amount in amounts:
        while not isinstance(answer := core.try_reserve(now, Demand(amount)), Lease):
            assert hasattr(answer, "wake_at")
            now = max(now, answer.wake_at)
        core.settle(now, answer)
    bound = window_s(Clause(Dimension.TOKENS, kind), limit, sum(amounts), max(amounts))
    assert bound <= now - start + 1e-3
    if kind is Kind.BUCKET:
        assert now - start <= bound + 1e-3


def engine_s(kind: type[Served], asks: list[Ask], model: LatencyModel, room: int, most: int) -> float:
    """Return how long an engine takes with so many threads that ask all the time."""
    agenda = Agenda(VirtualClock())
    engine = kind(agenda, model, room)
    left = list(asks)

    def next_one(*told: object) -> None:
        if left:
            ask = left.pop(0)
            engine.submit(Prompted("e", ask.input_tokens, ask.cap, int(ask.output_tokens), 0.5, next_one))

    for _ in range(most):
        next_one()
    agenda.run()
    return agenda.clock.time


coefficients = st.floats(0, 2) | st.just(0.0)
asks = st.builds(
    lambda given, written, spare: Ask(Stage.MAP, given, written, written + spare),
    st.integers(1, 500),
    st.integers(0, 100),
    st.integers(1, 50),
)


@given(
    asked=st.lists(asks, min_size=1, max_size=20),
    figures=st.tuples(coefficients, coefficients, coefficients, coefficients),
    room=st.integers(20, 3000),
    most=st.integers(1, 12),
    kind=st.sampled_from([Joining, Padded]),
)
def test_no_engine_is_faster(
    asked: list[Ask], figures: tuple[float, float, float, float], room: int, most: int, kind: type[Served]
) -> None:
    """Whatever sizes go together, padded or joining: the calls take as long as the bound, or longer."""
    base, given, written, neighbour = figures
    model = LatencyModel(
        base_s=base,
        per_input_token_s=given / 100,
        per_output_token_s=written / 10,
        per_neighbour_token_s=neighbour / 10,
    )
    took = engine_s(kind, asked, model, room, most)
    shapes: dict[Shape, int] = {((ask,),): asked.count(ask) for ask in asked}

    def service(ask: Ask, width: int) -> float:
        return model.mean_service_s(ask.input_tokens, ask.output_tokens, width)

    assert shared_s(shapes, service, room, most) <= took * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize(("most", "width"), [(3, 3), (8, 8), (20, 8)])
@pytest.mark.parametrize("kind", [Joining, Padded])
def test_equal_calls_take_what_the_bound_says(kind: type[Served], most: int, width: int) -> None:
    """As many as there is room for, or as are asked at a time, round after round."""
    model = LatencyModel(
        base_s=1.0, per_input_token_s=0.001, per_output_token_s=0.02, per_neighbour_token_s=0.002
    )
    ask = Ask(Stage.MAP, 100, 20, 25)
    count = 5 * width
    took = engine_s(kind, [ask] * count, model, 1000, most)
    bound = shared_s({((ask,),): count}, lambda a, w: model.mean_service_s(100, 20, w), 1000, most)
    assert took == pytest.approx(5 * model.mean_service_s(100, 20, width), abs=0.03)  # an idle engine lingers
    assert bound == pytest.approx(took, abs=0.03)


def test_small_calls_go_beside_each_other() -> None:
    """Where there is room for two large calls there is for twenty small ones, and the bound knows it."""
    large, small = Ask(Stage.MAP, 400, 50, 100), Ask(Stage.REDUCE, 40, 5, 10)
    shapes: dict[Shape, int] = {((large,), (small,)): 20}
    bound = shared_s(shapes, lambda ask, width: 1.0, 1000, 40)
    assert bound == pytest.approx(20 / 2 + 20 / 20)


def test_a_bucket_starts_full() -> None:
    """100 requests at 60 a minute: 60 at once, and one a second from then on."""
    assert window_s(Clause(Dimension.REQUESTS, Kind.BUCKET), 60, 100, 1) == 40
    assert window_s(Clause(Dimension.REQUESTS, Kind.SLIDING), 60, 100, 1) == 60
    assert window_s(Clause(Dimension.REQUESTS, Kind.FIXED), 60, 100, 1) == 0
    assert window_s(Clause(Dimension.REQUESTS, Kind.FIXED), 60, 130, 1) == MINUTE
    # What is larger than the limit goes when nothing else counts, and overdraws.
    assert window_s(Clause(Dimension.TOKENS, Kind.BUCKET), 100, 300, 150) == pytest.approx(90)


def test_the_reduce_comes_after_the_last_map() -> None:
    """All is let in at once, but a reduce waits for its maps: two services at least, not one."""
    maps, reduce = tuple(Ask(Stage.MAP, 10, 5.0, 20) for _ in range(4)), (Ask(Stage.REDUCE, 10, 5.0, 20),)
    work: dict[Shape, int] = {(maps, reduce): 1}
    settings = LimitSettings(requests_per_minute=4)
    charges = Charges.of(work, settings)
    assert charges.behind == [(5, 150, 50, 25), (4, 120, 40, 20)]
    (bound,) = rate_bounds(charges, settings, work, lambda ask: 3.0)
    # The fifth request is let in after 15 s; without the limit it would start after 3 s.
    assert bound.seconds == pytest.approx(15 + 3)
    settings = LimitSettings(requests_per_minute=60)
    (bound,) = rate_bounds(Charges.of(work, settings), settings, work, lambda ask: 3.0)
    assert bound.seconds == pytest.approx(6)
    (bound,) = rate_bounds(Charges.of(work, settings), settings, work, None)
    assert bound.seconds == 0


def test_what_counts_follows_the_charge() -> None:
    """A sum counts the cap, an actual charge what is written."""
    work: dict[Shape, int] = {((Ask(Stage.DIRECT, 100, 30.0, 200),),): 10}
    tokens = Dimension.TOKENS
    assert Charges.of(work, LimitSettings(charge="sum")).total(tokens) == 3000
    assert Charges.of(work, LimitSettings(charge="max")).total(tokens) == 2000
    assert Charges.of(work, LimitSettings(charge="actual")).total(tokens) == 1300


def test_a_step_takes_whole_rounds() -> None:
    """Five calls of one second on two threads take three seconds, not two and a half."""
    step = Step(5, 5.0, 1.0, 1.0)
    assert step.seconds(2) == 3
    assert step.seconds(8) == 1
    work: Timed = [((step, Step(1, 1.0, 1.0, 1.0)), 3)]
    assert Chains.of(work, 2).seconds(1) == 12
    assert Chains.of(work, 2).seconds(2) == 8
    assert Fraction(math.ceil(15 / 4)) == slots_s([((step,), 3)], 4)
