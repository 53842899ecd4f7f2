"""Finding weights: what a folder must hold, and how the hub is asked without long waits."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from toolkit.engines import weights
from toolkit.engines.hub import Hub
from toolkit.engines.weights import find_weights, list_models
from toolkit.errors import ModelUnavailable

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def safetensors_bytes(values: bytes) -> bytes:
    """Return a safetensors file of one tensor of bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(values)], "data_offsets": [0, len(values)]}})
    return len(header).to_bytes(8, "little") + header.encode() + values


def model_files(values: bytes = b"12345678") -> dict[str, bytes]:
    """Return the smallest set of files that counts as a model."""
    return {
        "config.json": b'{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}',
        "tokenizer.json": b"{}",
        "model.safetensors": safetensors_bytes(values),
        "README.md": b"---\nlicense: mit\n---\n# A model\n",
    }


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


class FakeHub:
    """A hub on 127.0.0.1 that holds one repository, or answers every request with one error."""

    def __init__(
        self, files: dict[str, bytes] | None = None, status: int = 200, code: str | None = None
    ) -> None:
        self.requests: list[str] = []
        hub, held = self, files or {}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = unquote(urlsplit(self.path).path)
                hub.requests.append(path)
                if status != 200:
                    headers = {"X-Error-Code": code} if code else {}
                    self.answer(status, b"{}", headers)
                elif "/tree/" in path:
                    rows = [
                        {"type": "file", "path": n, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                        for n, c in held.items()
                    ]
                    self.answer(200, json.dumps(rows).encode())
                elif path.startswith("/api/models/"):
                    siblings = [{"rfilename": name} for name in held]
                    info = {"id": "org/tiny", "sha": COMMIT, "siblings": siblings}
                    self.answer(200, json.dumps(info).encode())
                else:
                    content = held[path.split(f"/resolve/{COMMIT}/")[1]]
                    etag = f'"{hashlib.sha1(content).hexdigest()}"'
                    self.answer(200, content, {"ETag": etag, "X-Repo-Commit": COMMIT})

            do_HEAD = do_GET  # noqa: N815 - the name is the base class's

            def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep each test away from the caches of the machine, from its token and from the real hub."""
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "toolkit-cache"))
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.chdir(tmp_path)


def hub_at(endpoint: str, tmp_path: Path, seconds: float = 5.0) -> Hub:
    return Hub(endpoint=endpoint, cache_dir=tmp_path / "hub", probe_timeout_s=seconds)


def nothing_there(tmp_path: Path) -> Hub:
    """Return a hub whose port is closed."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    return hub_at(f"http://127.0.0.1:{port}", tmp_path)


def refusal_of(model: str, hub: Hub | None = None, **choices: object) -> ModelUnavailable:
    with pytest.raises(ModelUnavailable) as caught:
        find_weights(model, hub=hub, progress=False, **choices)  # type: ignore[arg-type]
    return caught.value


# --- folders ---


@pytest.mark.parametrize("spelling", ["{tmp}/mine", "./mine", "mine", "~/mine"])
def test_a_folder_is_found_however_it_is_spelt(
    spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Absolute, relative and home paths lead to the same folder without any network."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write(tmp_path / "mine", model_files())
    found = find_weights(spelling.format(tmp=tmp_path))
    assert (found.folder, found.source, found.gguf_file) == (tmp_path / "mine", "folder", None)


@pytest.mark.parametrize("model", ["mine", "mine/a.gguf"])
def test_a_gguf_is_found_by_its_folder_or_its_path(model: str, tmp_path: Path) -> None:
    """A GGUF file carries config and tokenizer, so that it needs no other files."""
    write(tmp_path / "mine", {"a.gguf": b"GGUF...."})
    found = find_weights(model)
    assert (found.folder, found.gguf_file) == (tmp_path / "mine", "a.gguf")


def without(name: str) -> dict[str, bytes]:
    return {key: value for key, value in model_files().items() if key != name}


INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (without("config.json"), "config.json"),
        (without("tokenizer.json"), "tokenizer"),
        (without("model.safetensors"), "no weights"),
        (without("model.safetensors") | {"pytorch_model.bin": b"x"}, "pickled"),
        (without("model.safetensors") | {"tf_model.h5": b"x"}, "save_pretrained"),
        (without("model.safetensors") | {"weights.safetensors": safetensors_bytes(b"x")}, "Rename"),
        (model_files() | {"model.safetensors": safetensors_bytes(b"12345678")[:-1]}, "broke off"),
        (model_files() | {"model.safetensors": b"version https://git-lfs"}, "git lfs pull"),
        (model_files() | {"model.safetensors": b""}, "damaged"),
        (
            without("model.safetensors")
            | {"model.safetensors.index.json": INDEX, "model-1.safetensors": safetensors_bytes(b"x")},
            "model-2.safetensors",
        ),
        ({"a.gguf": b"x", "b.gguf": b"x"}, "2 GGUF files"),
    ],
)
def test_an_unusable_folder_says_what_is_missing(files: dict[str, bytes], said: str, tmp_path: Path) -> None:
    """Whatever is missing, pickled or truncated is named before any loading starts."""
    write(tmp_path / "mine", files)
    assert said in str(refusal_of(str(tmp_path / "mine")))


def test_shards_of_an_index_make_a_model(tmp_path: Path) -> None:
    """A model in several files is complete when each file that its index names is there."""
    shards = {f"model-{i}.safetensors": safetensors_bytes(b"x") for i in (1, 2)}
    files = without("model.safetensors") | shards | {"model.safetensors.index.json": INDEX}
    write(tmp_path / "mine", files)
    assert find_weights("mine").source == "folder"


def test_the_fingerprint_tells_fine_tunes_of_one_architecture_apart(tmp_path: Path) -> None:
    """Equal files have equal fingerprints; other values, or another tokenizer, have others."""
    versions = {
        "a": model_files(bytes(100_000)),
        "b": model_files(bytes(100_000)),
        "values": model_files(b"\1" * 100_000),
        "tokenizer": model_files(bytes(100_000)) | {"tokenizer.json": b'{"x": 1}'},
    }
    prints = {name: find_weights(str(write(tmp_path / name, f))).fingerprint for name, f in versions.items()}
    assert prints["a"] == prints["b"]
    assert len(set(prints.values())) == 3


# --- the hub ---


def test_a_model_is_fetched_once_and_then_needs_no_network(tmp_path: Path) -> None:
    """The second search is answered by the cache alone, with the same commit as its identity."""
    files = model_files() | {
        "pytorch_model.bin": b"x",
        "onnx/model.json": b"x",
        "model.fp16.safetensors": b"x",
    }
    with FakeHub(files) as server:
        hub = hub_at(server.endpoint, tmp_path)
        first = find_weights("org/tiny", hub=hub, progress=False)
        asked = len(server.requests)
        second = find_weights("org/tiny", hub=hub, progress=False)
        assert len(server.requests) == asked
    assert (first.source, second.source) == ("hub", "hub cache")
    assert first.fingerprint == second.fingerprint == first.revision == COMMIT
    assert first.folder == second.folder
    assert {path.name for path in first.folder.iterdir()} == set(model_files())
    assert find_weights("org/tiny", revision=COMMIT, hub=hub, progress=False).source == "hub cache"
    assert "hub cache: no copy" in str(refusal_of("org/tiny", nothing_there(tmp_path), revision="v2"))


def test_an_incomplete_cached_copy_is_completed(tmp_path: Path) -> None:
    """A cache that an interrupted download left is not used as it is."""
    with FakeHub(model_files()) as server:
        hub = hub_at(server.endpoint, tmp_path)
        folder = find_weights("org/tiny", hub=hub, progress=False).folder
        (folder / "model.safetensors").unlink()
        assert find_weights("org/tiny", hub=hub, progress=False).source == "hub"
    (folder / "model.safetensors").unlink()
    assert "hub cache: holds no weights" in str(refusal_of("org/tiny", nothing_there(tmp_path)))


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (404, "RepoNotFound", "no such model"),
        (404, None, "no such model"),
        (404, "RevisionNotFound", "no revision"),
        (401, "GatedRepo", "HF_TOKEN"),
        (403, "GatedRepo", "HF_TOKEN"),
        (401, None, "HF_TOKEN"),
        (500, None, "status 500"),
    ],
)
def test_each_answer_of_the_hub_says_what_to_do(
    status: int, code: str | None, said: str, tmp_path: Path
) -> None:
    """One request is made, without retries, and the message fits the kind of refusal."""
    with FakeHub(status=status, code=code) as server:
        error = refusal_of("org/tiny", hub_at(server.endpoint, tmp_path), revision="v9")
        assert len(server.requests) == 1
    assert said in str(error)
    assert [place.split()[0] for place in error.tried] == ["folder", "hub", "hub"]


@pytest.mark.parametrize(
    ("names", "said"),
    [(["pytorch_model.bin"], "pickled"), (["a.gguf", "b.gguf"], "give its path"), (["x.txt"], "no weights")],
)
def test_a_repository_without_safetensors_is_not_downloaded(
    names: list[str], said: str, tmp_path: Path
) -> None:
    """What cannot be loaded is told from the list of files."""
    with FakeHub({"config.json": b"{}"} | dict.fromkeys(names, b"x")) as server:
        assert said in str(refusal_of("org/tiny", hub_at(server.endpoint, tmp_path)))
        assert len(server.requests) == 1


def test_a_hub_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """A server that accepts and stays silent costs the probe's time and no more."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        error = refusal_of("org/tiny", hub_at(endpoint, tmp_path, seconds=0.2))
    assert "no answer within 0.2 s" in str(error) or "Timeout" in str(error)


def test_a_closed_port_is_told_with_its_reason(tmp_path: Path) -> None:
    """Without network the message says so and what else can be done."""
    error = refusal_of("org/tiny", nothing_there(tmp_path))
    assert "could not be reached" in error.tried[-1]
    assert "toolkit models" in error.advice


def test_nothing_is_asked_where_fetching_is_not_allowed(tmp_path: Path) -> None:
    """With allow_fetch=False neither the hub nor pip is touched, also for an embedded model."""
    with FakeHub(model_files()) as server:
        for model in ("org/tiny", "smollm2-135m"):
            error = refusal_of(model, hub_at(server.endpoint, tmp_path), allow_fetch=False)
            assert "allow_fetch" in str(error)
        assert server.requests == []


@pytest.mark.parametrize("name", ["smollm-135m", "SmolLM2-135m", "org/smollm2-135M-it"])
def test_a_near_miss_of_the_embedded_name_is_suggested(name: str, tmp_path: Path) -> None:
    """A misspelt embedded name is the commonest unknown model."""
    assert "'smollm2-135m'" in refusal_of(name, nothing_there(tmp_path)).advice


def test_a_word_that_is_no_name_is_refused(tmp_path: Path) -> None:
    """A name that the hub's rules exclude gives no traceback of the client."""
    assert "valid name" in str(refusal_of("two words??", nothing_there(tmp_path)))


# --- the list ---


def test_the_list_shows_only_what_a_text_engine_can_load(tmp_path: Path) -> None:
    """Embedded models come first; a model of sound and a broken copy are left out."""
    hub = nothing_there(tmp_path)
    whisper = {"architectures": ["WhisperForConditionalGeneration"], "num_mel_bins": 80}
    repos = {
        "models--org--tiny": model_files(),
        "models--org--whisper": model_files() | {"config.json": json.dumps(whisper).encode()},
        "models--org--broken": without("model.safetensors"),
    }
    for name, files in repos.items():
        write(tmp_path / "hub" / name / "snapshots" / COMMIT, files)
        write(tmp_path / "hub" / name / "refs", {"main": COMMIT.encode()})
    (tmp_path / "hub" / "odd.txt").write_text("not a repository")
    embedded_row, tiny = list_models(hub=hub)
    assert (embedded_row.name, embedded_row.state, embedded_row.folder) == ("smollm2-135m", "not yet", None)
    assert (tiny.name, tiny.state, tiny.licence) == ("org/tiny", "cached", "mit")
    assert (tiny.architecture, tiny.revision) == ("LlamaForCausalLM", COMMIT)


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_an_odd_cache_gives_a_list_all_the_same(kind: str, tmp_path: Path) -> None:
    """No cache, or a file in its place, leaves the embedded models."""
    if kind == "file":
        (tmp_path / "hub").write_text("")
    assert [row.name for row in list_models(hub=Hub(cache_dir=tmp_path / "hub"))] == ["smollm2-135m"]


def test_the_source_words_are_the_documented_ones() -> None:
    """Other modules print and store these words."""
    assert weights.Source.__args__ == ("folder", "user cache", "hub cache", "hub", "wheel")  # type: ignore[attr-defined]
