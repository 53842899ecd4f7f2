"""What providers reach here: a loopback server, and a model that is made in a second."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from toolkit.testing import ApiServer

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SENTENCES = [
    "Here is the transcript of a podcast about honey bees and the dance that shows the way to flowers.",
    "The speakers discuss night trains, tide mills, libraries of seeds and the heat of the city.",
    "What do the speakers say? Write a short summary of the whole episode in two sentences.",
]


@pytest.fixture(autouse=True)
def wide_limits(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the limiter's state in this process, and its limits out of the way of what is tested here."""
    monkeypatch.setenv("TOOLKIT_LIMITS_URL", "memory://")
    for name in (
        "OPENAI_REQUESTS_PER_MINUTE",
        "OPENAI_TOKENS_PER_MINUTE",
        "ANTHROPIC_REQUESTS_PER_MINUTE",
        "ANTHROPIC_INPUT_TOKENS_PER_MINUTE",
        "ANTHROPIC_OUTPUT_TOKENS_PER_MINUTE",
    ):
        monkeypatch.setenv(f"TOOLKIT_{name}", str(10**9))


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """Return a loopback server without limits or latency, whose replies are a few words long."""
    with ApiServer(requests_per_minute=10**6, latency=0.0, reply_words=5) as server:
        yield server


@dataclass(frozen=True)
class Answer:
    """What a player answers: a JSON body, or bytes as they are.

    ``ending`` is ``""`` for a whole answer, ``"short"`` for one that breaks off, ``"reset"`` for a
    connection that breaks without an answer, ``"hang"`` for silence until the player stops.
    """

    body: Any = field(default_factory=dict)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    ending: str = ""


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


class Player:
    """A loopback server that answers by script, one entry a request; the last one is repeated."""

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.asked: list[Asked] = []
        self._asked_lock = threading.Lock()
        self._over = threading.Event()
        player = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                player.answer(self)

            def log_message(self, *parts: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *parts: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def stop(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        size = int(handler.headers["content-length"])
        body = json.loads(handler.rfile.read(size))
        asked = Asked(handler.path, {k.lower(): v for k, v in handler.headers.items()}, body)
        with self._asked_lock:
            turn = self.script[min(len(self.asked), len(self.script) - 1)]
            self.asked.append(asked)
        answer: Answer = turn(asked) if callable(turn) else turn
        handler.close_connection = bool(answer.ending)
        if answer.ending == "hang":
            self._over.wait(10)
            return
        if answer.ending == "reset":
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.connection.close()
            return
        content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        handler.send_response(answer.status)
        for name, value in {"content-type": "application/json", **answer.headers}.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(content) + 9 * (answer.ending == "short")))
        handler.end_headers()
        handler.wfile.write(content)


@pytest.fixture
def player() -> Iterator[Player]:
    """Return a server that answers what its ``script`` says."""
    server = Player()
    yield server
    server.stop()


@pytest.fixture
def answer() -> type[Answer]:
    """Return the class of a player's answers: test modules cannot import from here."""
    return Answer


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder of a random Llama model of two layers with a byte-level vocabulary of its own."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from toolkit.engines.loaded import unload_idle_models

    folder = tmp_path_factory.mktemp("tiny-llama")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=4096
    )
    fast.chat_template = CHATML
    fast.save_pretrained(folder)

    torch.manual_seed(1)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(fast),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            # Wide apart, so that the best token is the best one whatever batch a request is padded into.
            initializer_range=0.5,
            bos_token_id=None,
            eos_token_id=fast.eos_token_id,
            pad_token_id=fast.pad_token_id,
        )
    )
    model.save_pretrained(folder, safe_serialization=True)

    # So small a model gains nothing from a second thread and loses much where others share the cores.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield folder
    torch.set_num_threads(threads)
    unload_idle_models()
