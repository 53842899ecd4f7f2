"""Our client against aimock: connections that break, answers that are no JSON, failures and delays.

Its journal says of each request how it was answered, with the fault that it met; a request whose client
did not wait for the answer is not in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import toolkit as tk

MakeEpisodes = Callable[..., Any]
FAULTS = {
    # How aimock calls it: what it does, the status that comes of it, whether it may have been paid.
    "drop": ("dropRate", 500, False),
    "malformed": ("malformedRate", 200, True),
    "rateLimit": ("rateLimitRate", 429, False),
    "disconnect": ("disconnectRate", None, True),
}

providers = pytest.mark.parametrize("provider", ["openai", "anthropic"])


def asked(row: dict[str, Any]) -> str:
    """Return the text that a request of the journal asks about."""
    content = row["body"]["messages"][-1]["content"]
    assert isinstance(content, str)
    return content


def assert_attempts_are_those_of(run: Any, journal: list[dict[str, Any]], late: int = 0) -> None:
    """Hold that the attempts say what the journal says; ``late`` requests were not waited for.

    Each text is answered once, by the last of its requests.
    """
    met = Counter(row["response"].get("chaosAction") for row in journal)
    answered = met.pop(None, 0)
    for text in {asked(row) for row in journal}:
        rows = [row["response"] for row in journal if asked(row) == text]
        assert ["chaosAction" in row for row in rows] == [True] * (len(rows) - 1) + [False], rows
    attempts = run.attempts
    assert len(attempts) == len(journal) + late
    assert attempts["error_kind"].isna().sum() == answered == len(run.episodes)
    failed = attempts.dropna(subset=["error_kind"])
    for fault, (_, status, _) in FAULTS.items():
        code = failed["status_code"]
        found = (code.isna() if status is None else code == status).sum()
        assert found == met[fault] + (late if status is None else 0), fault
    assert (failed["error_kind"] == "RateLimited").sum() == met["rateLimit"]
    assert failed["paid_unknown"].sum() == met["malformed"] + met["disconnect"] + late


@pytest.mark.parametrize(
    ("provider", "settings"), [("openai", {}), ("openai", {"openai_api": "responses"}), ("anthropic", {})]
)
def test_answers_are_read(
    aimock: Any, make_episodes: MakeEpisodes, provider: str, settings: dict[str, Any]
) -> None:
    """Text and usage arrive as somebody else writes them, by each protocol."""
    usage = {"prompt_tokens": 20, "completion_tokens": 4, "total_tokens": 24}
    usage |= {"input_tokens": 20, "output_tokens": 4}
    aimock.answer({"match": {}, "response": {"content": "Bees dance.", "usage": usage}})
    run = tk.run(make_episodes(1), aimock.config(provider, **settings))
    (call,) = run.calls.to_dict("records")
    assert run.episodes["summary"][0] == "Bees dance."
    assert (call["token_counter"], call["stop_reason"]) == ("server", "stop")
    assert (call["input_tokens"], call["output_tokens"]) == (20, 4)


@providers
def test_one_fault_each_and_then_an_answer(aimock: Any, make_episodes: MakeEpisodes, provider: str) -> None:
    """Broken, malformed, refused, failed and late: every episode ends well, and the attempts say how."""
    chaos = [{rate: 1} for rate, _, _ in FAULTS.values()] + [{"latencyMs": 2000}]
    for number, met in enumerate(chaos):
        match = {"userMessage": f"Hill {number} "}
        aimock.answer({"match": {**match, "sequenceIndex": 0}, "response": {"content": "x"}, "chaos": met})
    aimock.answer({"match": {}, "response": {"content": "Bees."}})
    config = aimock.config(provider, request_timeout_s=1)
    run = tk.run(make_episodes(len(chaos)), config)
    assert run.counts() == {"ok": 5}
    assert set(run.episodes["summary"]) == {"Bees."}
    assert_attempts_are_those_of(run, aimock.journal(), late=1)
    assert sorted(run.calls["attempts"]) == [2] * 5
    # Its refusals name limits whose numbers and times contradict each other: nothing is learned of them.
    assert set(run.limits["tokens_limit"].dropna()) <= {config.openai_tokens_per_minute}


@pytest.mark.parametrize("fault", FAULTS)
@providers
def test_fault_without_end(aimock: Any, make_episodes: MakeEpisodes, provider: str, fault: str) -> None:
    """It fails with the last error after the tries of the config, and says what may have been paid."""
    rate, status, paid_unknown = FAULTS[fault]
    aimock.answer({"match": {}, "response": {"content": "Bees."}})
    aimock.chaos(**{rate: 1})
    # Refusals are not counted as tries, only time ends them.
    refused = fault == "rateLimit"
    tries, end = (1, {"retry_total_s": 0}) if refused else (2, {"max_attempts": 2})
    run = tk.run(make_episodes(1), aimock.config(provider, **end))
    assert run.counts() == {"failed": 1}
    assert [row["response"]["chaosAction"] for row in aimock.journal()] == [fault] * tries
    assert list(run.attempts["error_kind"]) == ["RateLimited" if refused else "TransientError"] * tries
    assert list(run.attempts["status_code"].fillna(0)) == [status or 0] * tries
    assert list(run.attempts["paid_unknown"]) == [paid_unknown] * tries


def test_slow_answers_are_waited_for(aimock: Any, make_episodes: MakeEpisodes) -> None:
    """Within the time that the config gives them, once each, and the time is the service's."""
    aimock.answer({"match": {}, "response": {"content": "Bees."}})
    aimock.chaos(latencyMs=300)
    run = tk.run(make_episodes(4), aimock.config(request_timeout_s=20))
    assert run.counts() == {"ok": 4}
    assert_attempts_are_those_of(run, aimock.journal())
    assert run.calls["service_s"].min() >= 0.29


@pytest.mark.slow
@providers
def test_faults_at_random(aimock: Any, make_episodes: MakeEpisodes, provider: str) -> None:
    """Whatever the dice: all episodes end well, nothing that was answered is asked again, all is recorded."""
    aimock.answer({"match": {}, "response": {"content": "Bees."}})
    aimock.chaos(**{rate: 0.05 for rate, _, _ in FAULTS.values()}, latencyMs=20)
    run = tk.run(make_episodes(40), aimock.config(provider, max_attempts=100))
    assert run.counts() == {"ok": 40}
    assert_attempts_are_those_of(run, aimock.journal())
