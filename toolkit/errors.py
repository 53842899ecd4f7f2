"""Every error that the toolkit raises on purpose.

::

    ToolkitError
      ConfigError                  a setting is wrong
      TranscriptError              a file is no transcript, or a broken one
      MissingDependency            an optional package is not installed
      StoreError                   what is shared or kept on disk cannot be read or written
      BudgetExceeded               what a run may spend is spent
      ModelUnavailable             no weights could be found or fetched
      ProviderError                a call to a model failed
        AuthenticationFailed         |
        RequestRejected              |
        ContextTooLong               | never tried again
        QuotaExhausted               |
        Oversize                     |
        RateLimited                  | tried again
        TransientError               |
      RunInterrupted               a run was stopped before its end
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar


class ToolkitError(Exception):
    """Base of all errors of the toolkit; its message is written for the user."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Most are made of other things than their message, and come to the driver out of worker processes.
        return _revive, (type(self), self.args, self.__dict__)


def _revive(kind: type[ToolkitError], args: tuple[Any, ...], state: dict[str, Any]) -> ToolkitError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(ToolkitError, ValueError):
    """A setting is unknown or out of its range; ``settings`` names those that are wrong, where known."""

    def __init__(self, message: str, settings: Iterable[str] = ()) -> None:
        self.settings = tuple(settings)
        super().__init__(message)


class TranscriptError(ToolkitError, ValueError):
    """A file could not be read as a transcript.

    Parameters
    ----------
    message : str
        What is wrong and what to do, without the place.
    path : Path or str, optional
        The file or folder.
    line : int, optional
        Line in the file, from 1.
    problems : sequence of TranscriptError, optional
        Several files' errors, reported together.
    loaded : sequence, optional
        The episodes of the same call that could be read, so that they are not lost.
    """

    def __init__(
        self,
        message: str,
        *,
        path: Path | str | None = None,
        line: int | None = None,
        problems: Sequence[TranscriptError] = (),
        loaded: Sequence[object] = (),
    ) -> None:
        self.path = None if path is None else Path(path)
        self.line = line
        self.problems = tuple(problems)
        self.loaded = tuple(loaded)
        place = "" if path is None else f"{path}:{line}: " if line is not None else f"{path}: "
        super().__init__(place + message)


class MissingDependency(ToolkitError, ImportError):
    """A feature needs a package that is not installed.

    Parameters
    ----------
    feature : str
        What was asked for, such as ``"provider 'anthropic'"``.
    package : str
        The missing package.
    extra : str, optional
        The extra of ``episode-toolkit`` that brings it.
    """

    def __init__(self, feature: str, package: str, extra: str | None = None) -> None:
        self.package = package
        install = f'"episode-toolkit[{extra}]"' if extra else package
        super().__init__(
            f"{feature} needs the package {package!r}; install it with: python -m pip install {install}"
        )


class StoreError(ToolkitError):
    """The file or database of the limits or of the runs cannot be read or written.

    ``passing`` says whether it may go well at another try: a lock, a full disk, a server that restarts.
    """

    def __init__(self, message: str, *, passing: bool = False) -> None:
        self.passing = passing
        super().__init__(message)


class BudgetExceeded(ToolkitError):
    """A call was not made because it could have gone beyond what may be spent."""


class ModelUnavailable(ToolkitError):
    """No usable weights of a model were found; ``tried`` says where, in order.

    Parameters
    ----------
    model : str
        The name that was asked for.
    tried : sequence of str
        One sentence for each place that was looked at.
    advice : str
        What to do.
    """

    def __init__(self, model: str, tried: Sequence[str], advice: str) -> None:
        self.model = model
        self.tried = tuple(tried)
        self.advice = advice
        places = "".join(f"\n  - {place}" for place in self.tried)
        super().__init__(f"Model {model!r} is not available. Tried:{places}\n{advice}")


class ProviderError(ToolkitError):
    """A call to a model failed.

    Parameters
    ----------
    message : str
        What happened, in the provider's words where it has any.
    provider, model, call_id : str, optional
        Which call; filled in by the call path where the provider left them out.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        model: str | None = None,
        call_id: str | None = None,
    ) -> None:
        self.message = message
        self.provider = provider
        self.model = model
        self.call_id = call_id
        super().__init__(message)

    lasting: ClassVar[bool] = False
    """Whether every further call of the run would meet it too."""

    def __str__(self) -> str:
        where = "/".join(part for part in (self.provider, self.model) if part)
        return f"{where}: {self.message}" if where else self.message


class AuthenticationFailed(ProviderError):
    """The key is missing, wrong, or may not use this model."""

    lasting = True


class RequestRejected(ProviderError):
    """The request itself is wrong; the same request would fail again."""


class ContextTooLong(ProviderError):
    """The request does not fit the model's context."""


class QuotaExhausted(ProviderError):
    """The account has no quota or no credit left."""

    lasting = True


class Oversize(ProviderError):
    """The request is larger than a limit, so that it could never be admitted."""


class RateLimited(ProviderError):
    """The server asked to wait; ``retry_after_s`` is its own figure in seconds, if it gave one."""

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        provider: str | None = None,
        model: str | None = None,
        call_id: str | None = None,
    ) -> None:
        super().__init__(message, provider=provider, model=model, call_id=call_id)
        self.retry_after_s = retry_after_s


class TransientError(ProviderError):
    """Something that may go well at the next try: a broken connection, a server's own fault."""


class RunInterrupted(ToolkitError):
    """A run could not go on; what it has done is kept.

    Parameters
    ----------
    reason : str
        Why, as a clause.
    done : int
        Episodes that are finished.
    remaining : int or None
        Episodes that are not; None if nobody knows how many there would have been.
    run : Run, optional
        The run as far as it came.
    """

    def __init__(self, reason: str, done: int, remaining: int | None, run: object = None) -> None:
        self.done = done
        self.remaining = remaining
        self.run = run
        rest = "an unknown number" if remaining is None else str(remaining)
        super().__init__(f"The run was stopped: {reason}. Of the episodes {done} ended, {rest} did not.")


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Say which known name a wrong one most likely meant, as the end of a sentence."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known are: " + ", ".join(known)
