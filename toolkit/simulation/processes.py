"""What happens on the agenda: processes that do the steps of calls, of lanes of calls, and of workers."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Any, NamedTuple

from toolkit.calls import Admit, Attempt, Pause
from toolkit.limits import Admission, Limiter, StopEvent, WaitCancelled
from toolkit.limits.limiter import Waiter
from toolkit.records import Reply
from toolkit.simulation.agenda import Agenda

Steps = Generator[Any, Any, Any]


class Together(NamedTuple):
    """Have several generators do their steps side by side; answered when all have ended."""

    lanes: tuple[Steps, ...]


Answer = Callable[[Reply | Exception], None]


class World:
    """What all processes of a simulation share.

    Parameters
    ----------
    agenda : Agenda
    stop : StopEvent
    limiter : Limiter or None
    attempt : callable
        Begins an attempt; calls back with its reply or its error.
    overhead_s : float
        Seconds between an admission and the sending.
    """

    def __init__(
        self,
        agenda: Agenda,
        stop: StopEvent,
        limiter: Limiter | None,
        attempt: Callable[[Attempt, Answer], None],
        overhead_s: float,
    ) -> None:
        self.agenda = agenda
        self.stop = stop
        self.limiter = limiter
        self.attempt = attempt
        self.overhead_s = overhead_s
        self.waiting: dict[Process, None] = {}
        stop.subscribe(self._stopped)

    def _stopped(self) -> None:
        """Wake all who wait for the limiter or for a time; what is under way ends by itself."""
        for process in self.waiting:
            self.agenda.after(0.0, process.stopped)


class Process:
    """Does the steps that a generator yields, one after the other.

    Parameters
    ----------
    world : World
    steps : generator
    then : callable
        Told what it returns.
    """

    def __init__(self, world: World, steps: Steps, then: Callable[[Any], None]) -> None:
        self._world = world
        self._steps = steps
        self._then = then
        self._waiter: Waiter | None = None
        self._looks = 0

    def resume(self, answer: object = None) -> None:
        """Go on with the answer of the last step; an exception is thrown in."""
        try:
            if isinstance(answer, BaseException):
                step = self._steps.throw(answer)
            else:
                step = self._steps.send(answer)
        except StopIteration as end:
            self._then(end.value)
            return
        match step:
            case Attempt():
                self._world.attempt(step, self.resume)
            case Admit():
                self._enter(step)
            case Pause():
                self._pause(step.seconds)
            case Together():
                self._together(step.lanes)
            case _:
                raise TypeError(f"{step!r} is no step")

    def _together(self, lanes: tuple[Steps, ...]) -> None:
        left = len(lanes)

        def ended(_: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                self.resume()

        for lane in lanes:
            Process(self._world, lane, ended).resume()

    # Waiting

    def _pause(self, seconds: float) -> None:
        self._look_at(self._world.agenda.clock.time + seconds)
        self._world.waiting[self] = None

    def _enter(self, step: Admit) -> None:
        world = self._world
        assert world.limiter is not None
        if world.stop.is_set():
            self.resume(WaitCancelled({}))
            return
        try:
            entered = world.limiter.enter(step.demand, step.order, self)
        except Exception as refusal:
            # Not from within this step: a thousand refusals in a row would be as deep a stack.
            world.agenda.after(0.0, partial(self.resume, refusal))
            return
        if isinstance(entered, Admission):
            self._admitted(entered)
            return
        self._waiter = entered
        world.waiting[self] = None
        self._look()

    def set(self) -> None:
        """Be woken by the limiter."""
        if self._waiter is not None:
            self._look_at(self._world.agenda.clock.time)

    def stopped(self) -> None:
        """End the waiting because the run is stopped."""
        world = self._world
        if self not in world.waiting:
            return
        waiter, self._waiter = self._waiter, None
        self._end_wait()
        self.resume(None if waiter is None or world.limiter is None else world.limiter.withdraw(waiter))

    def _look_at(self, time: float) -> None:
        self._looks += 1
        look = self._looks
        self._world.agenda.at(time, lambda: self._look() if look == self._looks else None)

    def _look(self) -> None:
        """See whether the waiting is over."""
        waiter, limiter = self._waiter, self._world.limiter
        if waiter is None or limiter is None:
            self._end_wait()
            self.resume()
            return
        try:
            looked = limiter.look(waiter)
        except Exception as refusal:
            self._waiter = None
            self._end_wait()
            self.resume(refusal)
            return
        if isinstance(looked, Admission):
            self._waiter = None
            self._end_wait()
            self._admitted(looked)
        elif looked < math.inf:
            self._look_at(self._world.agenda.clock.when(looked))

    def _end_wait(self) -> None:
        self._looks += 1
        self._world.waiting.pop(self, None)

    def _admitted(self, admission: Admission) -> None:
        if self._world.overhead_s:
            self._world.agenda.after(self._world.overhead_s, lambda: self.resume(admission))
        else:
            self.resume(admission)


def lanes(jobs: Iterable[Steps], width: int) -> Together:
    """Return so many lanes that each take the next job when they are free."""
    queue = iter(jobs)

    def lane() -> Steps:
        for job in queue:
            yield from job

    return Together(tuple(lane() for _ in range(width)))
