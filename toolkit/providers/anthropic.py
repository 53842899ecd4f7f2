"""Anthropic's models, through the Messages API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from toolkit.config import Config
from toolkit.errors import ConfigError, MissingDependency
from toolkit.limits import LimitSettings
from toolkit.providers.answers import UnusableAnswer
from toolkit.providers.endpoints import Endpoint, read_endpoint
from toolkit.providers.hosted import HostedProvider
from toolkit.records import Reply, Request, StopReason

if TYPE_CHECKING:
    import anthropic

OFFICIAL_URL = "https://api.anthropic.com"
_STOPPED = {
    "max_tokens": StopReason.LENGTH,
    "model_context_window_exceeded": StopReason.LENGTH,
    "refusal": StopReason.REFUSAL,
}


class AnthropicSummarizationProvider(HostedProvider):
    """Summarizes with Claude.

    Parameters
    ----------
    config : Config, optional
        The key is ``anthropic_api_key``, the address ``anthropic_base_url``.

    Raises
    ------
    MissingDependency
        If the package ``anthropic`` is not installed.
    ConfigError
        If ``temperature`` is above 1, where Anthropic's range ends.

    Notes
    -----
    The older models take a temperature or ``top_p``, not both: ``top_p`` is sent where it is below 1, else
    the temperature. The newer ones take neither, and think: as little as they can, unless
    ``reasoning_effort`` says otherwise.
    """

    name: ClassVar[str] = "anthropic"
    default_model: ClassVar[str | None] = "claude-haiku-4-5"
    vendor_host: ClassVar[str] = "api.anthropic.com"
    key_settings: ClassVar[tuple[str, ...]] = ("anthropic_api_key",)

    def __init__(self, config: Config | None = None) -> None:
        try:
            import anthropic  # noqa: F401 (that it is missing is said at once, not at the first call)
        except ModuleNotFoundError as error:
            if error.name != "anthropic":
                raise
            raise MissingDependency("provider 'anthropic'", "anthropic", "anthropic") from error
        super().__init__(config)
        if self._sampled and self.config.temperature > 1:
            raise ConfigError(f"temperature={self.config.temperature}: Anthropic's models take 0 to 1")

    def limits(self) -> LimitSettings:
        """Return the account's limits as the config states them; prompts and replies are counted apart."""
        config = self.config
        return self._limit_settings(
            "anthropic",
            requests_per_minute=config.anthropic_requests_per_minute,
            input_tokens_per_minute=config.anthropic_input_tokens_per_minute,
            output_tokens_per_minute=config.anthropic_output_tokens_per_minute,
            max_concurrent=config.anthropic_max_concurrent_requests,
        )

    def _reach(self) -> tuple[Endpoint, str | None, str, str]:
        secret = self.config.anthropic_api_key
        # The library adds the version itself; with it in the address too, there would be nothing there.
        url = (self.config.anthropic_base_url or OFFICIAL_URL).rstrip("/").removesuffix("/v1")
        return (
            read_endpoint("anthropic_base_url", url),
            secret.get_secret_value() if secret is not None else None,
            "anthropic_api_key (ANTHROPIC_API_KEY)",
            "anthropic_base_url",
        )

    def _connect(self) -> anthropic.Anthropic:
        import anthropic

        return anthropic.Anthropic(
            api_key=self._key,
            base_url=self._where.endpoint.url,
            max_retries=0,
            timeout=self._timeout(),
            http_client=self._http_client(),
        )

    def _send(self, client: Any, request: Request) -> Any:
        return client.messages.with_raw_response.create(**self._asked(request)).http_response

    def _asked(self, request: Request) -> dict[str, Any]:
        asked: dict[str, Any] = {
            "model": self.model,
            "max_tokens": request.max_output_tokens,
            "messages": [{"role": "user", "content": request.prompt}],
        }
        if request.system:
            asked["system"] = request.system
        if request.stop:
            # It refuses marks that are nothing but white space; they are cut at here.
            asked["stop_sequences"] = [mark for mark in request.stop if mark.strip()]
        # In the body and not as arguments: the library has no sampling any more, the older models do.
        extra: dict[str, Any] = {}
        if self._sampled and request.sampling.top_p < 1:
            extra["top_p"] = request.sampling.top_p
        elif self._sampled:
            extra["temperature"] = request.sampling.temperature
        if self._effort == "none" and self._family.reasoning:
            extra["thinking"] = {"type": "disabled"}
        elif self._effort not in (None, "none"):
            extra["output_config"] = {"effort": "low" if self._effort == "minimal" else self._effort}
        return {**asked, "extra_body": extra} if extra else asked

    def _read(self, request: Request, body: dict[str, Any], response: Any) -> Reply:
        content = body.get("content")
        if not isinstance(content, list):
            raise UnusableAnswer(response, "answered with JSON that is no message")
        blocks = [block for block in content if isinstance(block, dict)]
        text = "".join(str(block.get("text") or "") for block in blocks if block.get("type") == "text")
        usage = body.get("usage") if isinstance(body.get("usage"), dict) else {}
        assert isinstance(usage, dict)
        cached, written = (
            usage.get(name) or 0 for name in ("cache_read_input_tokens", "cache_creation_input_tokens")
        )
        fresh = usage.get("input_tokens")
        details = usage.get("output_tokens_details")
        try:
            # What the cache read and wrote is counted apart.
            whole = None if fresh is None else fresh + cached + written
        except TypeError:
            whole = None
        return self._reply(
            request,
            response,
            text=text,
            stop_reason=_STOPPED.get(str(body.get("stop_reason")), StopReason.STOP),
            usage={
                "input": whole,
                "output": usage.get("output_tokens"),
                "cached": cached,
                "written": written,
                "reasoning": details.get("thinking_tokens") if isinstance(details, dict) else None,
            },
            thought=any(block.get("type") in ("thinking", "redacted_thinking") for block in blocks),
        )
