"""``Calls``: the one path that every call takes, whatever the provider.

An attempt is made, timed, and on an error the provider's decision is acted on; every call leaves one
``CallRecord``, also one that failed or was cancelled.
"""

from __future__ import annotations

import random
import threading
from concurrent.futures import CancelledError
from dataclasses import replace

from toolkit.clock import Clock
from toolkit.errors import ProviderError
from toolkit.protocols import Outcome, Provider, Retry, SummarizeParams
from toolkit.records import AttemptRecord, CallRecord, Reply, Request, Status
from toolkit.retry import RetryPolicy


class Phases:
    """Splits a span of time into named phases that add up to it.

    There is one chain of clock readings; each link belongs to one phase.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start = self._last = clock.now()
        self.seconds: dict[str, float] = {}

    @property
    def total_s(self) -> float:
        """Seconds from the first reading to the last."""
        return self._last - self._start

    def mark(self, phase: str, at: float | None = None) -> float:
        """Give the time since the last reading to ``phase``; ``at`` is an earlier reading, else now.

        A reading from outside the span (of another clock, say) is moved to its edge: no phase is negative.
        """
        now = self._clock.now()
        if at is not None:
            now = min(max(self._last, at), now)
        link = now - self._last
        self.seconds[phase] = self.seconds.get(phase, 0.0) + link
        self._last = now
        return link


class Calls:
    """Makes the calls of one text.

    Parameters
    ----------
    provider : Provider
    params : SummarizeParams
        Clock, stop event and the callback for records.
    policy : RetryPolicy
    rng : random.Random, optional
        Source of the jitter between tries.
    """

    def __init__(
        self,
        provider: Provider,
        params: SummarizeParams,
        policy: RetryPolicy,
        rng: random.Random | None = None,
    ) -> None:
        self._provider = provider
        self._params = params
        self._policy = policy
        self._rng = rng or random.Random()

    def generate(self, request: Request) -> Outcome:
        """Make one call and record it.

        Only errors of the call itself become an outcome; what is wrong with the program (a ``TypeError``
        in a provider, say) is classified by the provider too, so that one episode's failure never takes
        the others with it.
        """
        request = replace(request, cancelled=self._params.stop)
        clock = self._params.clock
        started_at = clock.epoch()
        phases = Phases(clock)
        attempts: list[AttemptRecord] = []
        reply: Reply | None = None
        error: ProviderError | None = None
        counted = 0
        while not self._params.stop.is_set():
            attempt = len(attempts) + 1
            try:
                answer = self._provider.generate(request)
                if not isinstance(answer, Reply):
                    raise TypeError(f"generate returned {type(answer).__name__} and no Reply")
                reply = answer
            except CancelledError:
                phases.mark("queue_s")
                break
            except Exception as raised:
                failed_s = phases.mark("failed_attempts_s")
                decision = self._provider.classify(raised)
                attempts.append(
                    AttemptRecord(
                        request.call_id,
                        attempt,
                        service_s=failed_s,
                        error_kind=type(decision.error).__name__,
                        status_code=decision.status_code,
                        retry_after_s=decision.retry_after_s,
                    )
                )
                counted += decision.retry is not Retry.RATE_LIMITED
                wait = self._policy.wait_s(
                    decision,
                    failures=attempt,
                    counted=counted,
                    elapsed_s=phases.total_s,
                    rng=self._rng,
                )
                if wait is None:
                    error = self._name(decision.error, request)
                    if error is not raised and error.__cause__ is None:
                        error.__cause__ = raised
                    break
                clock.sleep(wait, self._params.stop)
                phases.mark("retry_wait_s")
            else:
                if reply.service_started is not None and reply.service_ended is not None:
                    phases.mark("queue_s", reply.service_started)
                    service_s = phases.mark("service_s", reply.service_ended)
                else:
                    service_s = phases.mark("service_s")
                attempts.append(AttemptRecord(request.call_id, attempt, service_s=service_s))
                break
        outcome = self._outcome(request, reply, error, phases, started_at, tuple(attempts))
        self._params.on_call(outcome.record)
        return outcome

    def _name(self, error: ProviderError, request: Request) -> ProviderError:
        error.provider = error.provider or self._provider.name
        error.model = error.model or self._provider.model
        error.call_id = request.call_id
        return error

    def _outcome(
        self,
        request: Request,
        reply: Reply | None,
        error: ProviderError | None,
        phases: Phases,
        started_at: float,
        attempts: tuple[AttemptRecord, ...],
    ) -> Outcome:
        usage = reply.usage if reply else None
        cost = self._provider.price(reply) if reply else None
        phases.mark("overhead_s")
        record = CallRecord(
            episode_id=request.episode_id,
            call_id=request.call_id,
            stage=request.stage,
            chunk_index=request.chunk_index,
            provider=self._provider.name,
            model=self._provider.model,
            status=Status.OK if reply else Status.FAILED if error else Status.CANCELLED,
            stop_reason=reply.stop_reason if reply else None,
            started_at=started_at,
            **phases.seconds,
            total_s=phases.total_s,
            input_tokens=usage.input_tokens if usage else None,
            output_tokens=usage.output_tokens if usage else None,
            cached_tokens=usage.cached_tokens if usage else None,
            token_counter=usage.counter if usage else None,
            batch_size=reply.batch_size if reply else None,
            cost_usd=cost,
            worker=threading.current_thread().name,
            error=str(error) if error else None,
            attempts=attempts,
        )
        return Outcome(record, reply, error)
