"""OpenVINO: the model's own texts, jobs that join and leave at any moment, and nobody left waiting."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from direct_engine import DirectEngine, run_directly
from tiny_models import CAUSAL, VOCABULARY, save_model

pytest.importorskip("openvino_genai")

from toolkit.clock import SystemClock
from toolkit.engines import openvino
from toolkit.engines.jobs import Job, OutOfMemory
from toolkit.engines.openvino import batches, files
from toolkit.engines.openvino.batches import OpenVinoBatches, generation_config
from toolkit.engines.openvino.model import OpenVinoModel
from toolkit.engines.queue import EngineQueue
from toolkit.engines.weights import Weights, find_weights
from toolkit.errors import ModelUnavailable
from toolkit.records import Sampling, StopReason

PATIENCE_S = 60
TEXTS = (
    "Rain fell on the hill",
    "Mara keeps bees; Jonas asks how a bee finds flowers.",
    "spring",
    "She says: " * 9,
)
CAPS = (12, 30, 5, 20)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the caches of the machine, and convert each tiny model once."""
    monkeypatch.setenv("TOOLKIT_CACHE", str(cache))


@pytest.fixture
def llama(model_folder: Callable[[str], Path]) -> Weights:
    return find_weights(str(model_folder("llama")))


@pytest.fixture(scope="session")
def keep() -> dict[str, Any]:
    """Hold what is loaded once for all tests."""
    return {}


@pytest.fixture
def loaded(llama: Weights, keep: dict[str, Any]) -> tuple[OpenVinoModel, OpenVinoBatches]:
    if "loaded" not in keep:
        keep["loaded"] = openvino.load(llama, batch_tokens=1024)[:2]
    model, backend = keep["loaded"]
    return model, backend


def job_of(
    model: OpenVinoModel,
    text: str = TEXTS[1],
    cap: int = 20,
    sampling: Sampling = Sampling(),
    stop: tuple[str, ...] = (),
) -> Job:
    with model.tokenizer() as tokenizer:
        return Job(list(tokenizer(text)["input_ids"]), cap, sampling, stop)


# --- texts ---


def test_it_writes_what_pytorch_writes(
    loaded: tuple[OpenVinoModel, OpenVinoBatches], model_folder: Callable[[str], Path]
) -> None:
    """Weights and their order arrive whole: greedy replies begin as PyTorch's do."""
    model, backend = loaded
    jobs = [job_of(model, text, cap) for text, cap in zip(TEXTS, CAPS, strict=True)]
    ours = run_directly(backend, jobs)
    theirs = DirectEngine(model_folder("llama")).run(jobs)
    # In 8 bits a near tie falls the other way some time, and greedy texts part there for good.
    alike = [ours.text[:8] == theirs.text[:8] for ours, theirs in zip(ours, theirs, strict=True)]
    assert sum(alike) >= 3
    for job, reply in zip(jobs, ours, strict=True):
        assert 1 <= reply.tokens <= job.max_new_tokens
        ends_early = reply.stop_reason is StopReason.STOP
        assert ends_early or reply.tokens == job.max_new_tokens


def test_replies_end_at_the_first_stop_string(loaded: tuple[OpenVinoModel, OpenVinoBatches]) -> None:
    """The text is what it is without the stop string, up to there."""
    model, backend = loaded
    (whole,) = run_directly(backend, [job_of(model)])
    stop = whole.text[3:5]
    (cut,) = run_directly(backend, [job_of(model, stop=(stop, "not in it"))])
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.stop_reason is StopReason.STOP
    assert cut.tokens < whole.tokens


def test_seeds_repeat_and_tell_apart(loaded: tuple[OpenVinoModel, OpenVinoBatches]) -> None:
    """A seed gives the same text alone and in company; another seed, or none, gives another."""
    model, backend = loaded
    seeded = Sampling(temperature=1.0, top_p=0.9, seed=7)
    (alone,) = run_directly(backend, [job_of(model, sampling=seeded)])
    others = [job_of(model, sampling=replace(seeded, seed=seed)) for seed in (8, None)]
    again, *rest = run_directly(backend, [job_of(model, sampling=seeded), *others])
    assert again == alone
    assert len({alone.text, *(reply.text for reply in rest)}) == 3


def test_settings_in_the_words_of_openvino() -> None:
    """Penalties become one that spares the prompt; without end tokens a reply goes on to its cap."""
    config = generation_config(Job([1], 9, Sampling(repetition_penalty=1.1, no_repeat_ngram=4)), {4, 2})
    assert (config.max_new_tokens, config.eos_token_id, config.stop_token_ids) == (9, 2, {2, 4})
    assert config.frequency_penalty == pytest.approx(0.6)
    assert (config.repetition_penalty, config.do_sample) == (1, False)
    assert generation_config(Job([1], 9, Sampling()), {2}).frequency_penalty == 0
    assert generation_config(Job([1], 9, Sampling(no_repeat_ngram=4)), {2}).frequency_penalty > 0
    assert generation_config(Job([1], 9, Sampling(repetition_penalty=2)), {2}).frequency_penalty == 2
    assert generation_config(Job([1], 9), set()).ignore_eos
    config.validate()
    generation_config(Job([1], 9, Sampling(temperature=0.5, seed=2**62)), set()).validate()


def test_penalties_keep_a_reply_from_going_round(loaded: tuple[OpenVinoModel, OpenVinoBatches]) -> None:
    """A tiny model loops without them."""
    model, backend = loaded
    plain, varied = (
        job_of(model, cap=120, sampling=sampling)
        for sampling in (Sampling(), Sampling(repetition_penalty=1.3, no_repeat_ngram=4))
    )
    model.end_ids, own = set(), model.end_ids
    try:
        texts = [reply.text for reply in run_directly(backend, [plain, varied])]
    finally:
        model.end_ids = own
    assert len(set(texts[1])) >= len(set(texts[0]))


# --- jobs that join and leave ---


def test_any_number_of_jobs_at_any_time(loaded: tuple[OpenVinoModel, OpenVinoBatches]) -> None:
    """Whether jobs find the pipeline idle, starting, at work or just ending: each gets its own reply."""
    model, backend = loaded
    asked = [job_of(model, text, cap) for text, cap in zip(TEXTS, CAPS, strict=True)]
    expected = [len(run_directly(backend, [job])[0].text) > 0 for job in asked]
    assert all(expected)
    queue = EngineQueue(backend, clock=SystemClock())
    rng = np.random.default_rng(3)
    pauses = rng.choice([0, 0.001, 0.003, 0.01, 0.03], size=(4, 30))
    failed: list[BaseException] = []

    def ask(own_pauses: Any) -> None:
        try:
            for turn, pause in enumerate(own_pauses):
                time.sleep(pause)  # Real time is the point: the pipeline is at work, ending or idle.
                like = asked[turn % len(asked)]
                job = Job(like.input_ids, like.max_new_tokens)
                if turn % 7 == 3:
                    future = queue.submit(job)
                    job.cancelled.set()
                    with pytest.raises(CancelledError):
                        future.result(PATIENCE_S)
                    continue
                served = queue.submit(job).result(PATIENCE_S)
                assert 1 <= served.generated.tokens <= job.max_new_tokens
                assert served.first_token is not None
                assert served.started <= served.first_token <= served.ended
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(own,)) for own in pauses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    queue.close()
    assert not failed
    assert not backend._rows


class Counting:
    """The real pipeline, and how often it was told to step."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.stepped = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pipeline, name)

    def step(self) -> None:
        self.stepped += 1
        self.pipeline.step()


def test_jobs_are_not_worked_on_with_pythons_lock_held(
    loaded: tuple[OpenVinoModel, OpenVinoBatches], llama: Weights
) -> None:
    """All join the call that releases the lock; the pipeline's step() would stop all other threads."""
    pipeline = Counting(openvino.pipeline_of(llama, batch_tokens=1024))
    backend = OpenVinoBatches(loaded[0], lambda: pipeline, batch_tokens=1024, capacity_tokens=1024)
    first, late = job_of(loaded[0], cap=30), job_of(loaded[0], cap=30)
    backend.admit([first])
    begun: list[Job] = []
    ended: dict[Job, Any] = {}
    while first not in begun:
        step = backend.step()
        begun += step.first
        ended.update(step.ended)
    backend.admit([late])
    while len(ended) < 2:
        ended.update(backend.step().ended)
    assert pipeline.stepped == 0


@pytest.mark.parametrize("threads", [None, 1])
def test_threads_are_those_that_are_wanted(
    threads: int | None, llama: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that shares its machine takes its share; one that does not says nothing."""
    import openvino_genai

    make, _ = openvino.pipeline_maker(llama, batch_tokens=1024, threads=threads)
    assert make()  # It is a property that there is.
    monkeypatch.setattr(openvino_genai, "ContinuousBatchingPipeline", lambda *given: given)
    make, _ = openvino.pipeline_maker(llama, batch_tokens=1024, threads=threads)
    assert make()[-1].get("INFERENCE_NUM_THREADS") == threads  # type: ignore[index]


def test_a_cancelled_reply_ends_at_once(loaded: tuple[OpenVinoModel, OpenVinoBatches]) -> None:
    """Its room is free again, and those beside it are not held up."""
    model, backend = loaded
    kept, dropped = job_of(model, cap=10), job_of(model, cap=400)
    backend.admit([kept, dropped])
    dropped.cancelled.set()
    ended = dict(backend.step().ended)
    assert dropped in ended
    while kept not in ended:
        ended.update(backend.step().ended)
    assert not backend._rows


def test_a_job_beyond_the_cache_is_refused(loaded: tuple[OpenVinoModel, OpenVinoBatches]) -> None:
    """The queue hears it before the pipeline does, and the next job is answered."""
    model, backend = loaded
    with pytest.raises(OutOfMemory, match="engine_batch_tokens"):
        backend.admit([Job([1], 10**6)])
    backend.reset()
    assert run_directly(backend, [job_of(model)])


def test_no_more_join_than_there_is_room_for(loaded: tuple[OpenVinoModel, OpenVinoBatches]) -> None:
    """Bounds are those of the queue's other engines: the first always, others while they fit."""
    _, backend = loaded
    jobs = [Job([1] * 400, 100) for _ in range(3)]
    assert backend.choose(jobs) == jobs[:2]
    assert backend.choose([Job([1] * 5000, 1)])


def test_deterministic_means_one_at_a_time(llama: Weights) -> None:
    """A reply depends on nothing else, because there is nothing else."""
    model, backend, _ = openvino.load(llama, batch_tokens=1024, deterministic=True)
    jobs = [job_of(model, text, cap) for text, cap in zip(TEXTS, CAPS, strict=True)]
    assert backend.choose(jobs) == jobs[:1]
    first, second = (run_directly(backend, [jobs[1]]) for _ in range(2))
    assert first == second
    backend.admit(jobs[:1])
    assert backend.choose(jobs[1:]) == []
    backend.reset()
    queue = EngineQueue(backend, clock=SystemClock())
    futures = [queue.submit(job) for job in jobs]
    assert {future.result(PATIENCE_S).batch_size for future in futures} == {1}
    assert futures[1].result().generated == first[0]
    queue.close()


# --- what the real pipeline does too rarely ---


class FakeHandle:
    """A request of the fake pipeline: gives ``tokens`` one after the other."""

    def __init__(self, tokens: int) -> None:
        import openvino_genai

        self.states = openvino_genai.GenerationStatus
        self.status = self.states.RUNNING
        self.left = tokens
        self.ready = 0
        self.asked = 0

    def get_status(self) -> Any:
        self.asked += 1
        return self.status

    def can_read(self) -> bool:
        return self.ready > 0 and self.status != self.states.CANCEL

    def read(self) -> dict[int, Any]:
        self.ready -= 1
        return {0: type("Output", (), {"generated_ids": [5]})}

    def cancel(self) -> None:
        self.status = self.states.CANCEL


class FakePipeline:
    """Ends, or fails, exactly where a test wants it to."""

    def __init__(
        self,
        *,
        on_return: Callable[[], None] = lambda: None,
        fails: str = "",
        goes: threading.Event | None = None,
    ) -> None:
        self.requests: list[FakeHandle] = []
        self.on_return = on_return
        self.fails = fails
        self.goes = goes
        """It works on while this is set."""
        self.stepped = 0

    def generate(self, prompts: list[Any], configs: list[Any], streamer: Any) -> None:
        assert not self.requests, "Generate cannot be called while there are requests"
        streamer.write(0)
        while self.requests:
            if self.fails == "generate":
                self.requests.clear()
                raise RuntimeError("broken")
            if self.goes is not None:
                self.goes.wait(PATIENCE_S)
            self._work()
        self.on_return()

    def add_request(self, request_id: int, prompt: Any, config: Any) -> FakeHandle:
        if self.fails == "add":
            raise ValueError("no such request")
        handle = FakeHandle(config.max_new_tokens)
        if self.fails == "ignored":
            handle.status = handle.states.IGNORED
        self.requests.append(handle)
        return handle

    def has_non_finished_requests(self) -> bool:
        return bool(self.requests)

    def step(self) -> None:
        self.stepped += 1
        self._work()

    def _work(self) -> None:
        for handle in list(self.requests):
            if handle.status == handle.states.RUNNING:
                handle.left -= 1
                if not handle.left:  # It says that it is over before it gives its last token.
                    handle.status = handle.states.FINISHED
                handle.ready += 1
            if handle.status != handle.states.RUNNING:
                self.requests.remove(handle)


def faked(model: OpenVinoModel, *pipelines: FakePipeline) -> OpenVinoBatches:
    made = iter(pipelines)
    return OpenVinoBatches(model, lambda: next(made), batch_tokens=1000, capacity_tokens=1000)


def test_a_job_that_comes_as_generate_returns_is_stepped(
    loaded: tuple[OpenVinoModel, OpenVinoBatches],
) -> None:
    """Between the pipeline's last look for requests and its return it would be left for ever."""
    late = Job([1], 3)
    pipeline = FakePipeline(on_return=lambda: backend.admit([late]))
    backend = faked(loaded[0], pipeline)
    early = Job([1], 2)
    backend.admit([early])
    ended = {}
    until = time.monotonic() + PATIENCE_S
    while len(ended) < 2 and time.monotonic() < until:
        ended.update(backend.step().ended)
    assert {job: reply.tokens for job, reply in ended.items()} == {early: 2, late: 3}
    assert pipeline.stepped > 0


def test_while_no_token_comes_one_reply_is_asked_for_all(
    loaded: tuple[OpenVinoModel, OpenVinoBatches],
) -> None:
    """Each look takes time from the pipeline's threads. What is not wanted any more ends all the same."""
    goes = threading.Event()
    pipeline = FakePipeline(goes=goes)
    backend = faked(loaded[0], pipeline)
    jobs = [Job([1], 4) for _ in range(12)]
    backend.admit(jobs)
    until = time.monotonic() + PATIENCE_S
    while not (len(pipeline.requests) == 12 and all(handle.asked for handle in pipeline.requests)):
        assert backend.step() == ((), ())
        assert time.monotonic() < until
    before = [handle.asked for handle in pipeline.requests]
    for _ in range(4):
        assert backend.step() == ((), ())
    asked = [handle.asked - count for handle, count in zip(pipeline.requests, before, strict=True)]
    assert asked[0] > 0
    assert asked[1:] == [0] * 11
    jobs[-1].cancelled.set()
    assert [job for job, _ in backend.step().ended] == [jobs[-1]]
    goes.set()
    ended: list[Job] = []
    while len(ended) < 11 and time.monotonic() < until:
        ended += [job for job, _ in backend.step().ended]
    assert set(ended) == set(jobs[:-1])


@pytest.mark.parametrize("place", ["generate", "add"])
def test_an_error_reaches_all_jobs_and_the_next_is_answered(
    loaded: tuple[OpenVinoModel, OpenVinoBatches], place: str
) -> None:
    """The pipeline is made anew, because it does not tell what it still holds."""
    backend = faked(loaded[0], FakePipeline(fails=place), FakePipeline())
    queue = EngineQueue(backend, clock=SystemClock())
    futures = [queue.submit(Job([1], 4)) for _ in range(3)]
    for future in futures:
        assert isinstance(future.exception(PATIENCE_S), RuntimeError if place == "generate" else ValueError)
    assert queue.submit(Job([1], 4)).result(PATIENCE_S).generated.tokens == 4
    queue.close()


def test_a_request_that_finds_no_room_is_out_of_memory(
    loaded: tuple[OpenVinoModel, OpenVinoBatches],
) -> None:
    """The queue then tries with half of the jobs, and at last tells the only one."""
    backend = faked(loaded[0], FakePipeline(fails="ignored"))
    queue = EngineQueue(backend, clock=SystemClock())
    futures = [queue.submit(Job([1], 4)) for _ in range(3)]
    assert all(isinstance(future.exception(PATIENCE_S), OutOfMemory) for future in futures)
    queue.close()


# --- files ---


def write_gguf(
    path: Path, kind: str = "llama", *, scaling: str = "", tensor: str = "x", experts: int = 0
) -> Path:
    """Write the smallest file that has a head."""
    writer = gguf.GGUFWriter(path, kind)
    writer.add_token_list(["a", "b"])
    writer.add_array("odd", [1, 2, 3])
    if scaling:
        writer.add_string(f"{kind}.rope.scaling.type", scaling)
    if experts:
        writer.add_uint32(f"{kind}.expert_count", experts)
    writer.add_tensor(tensor, np.zeros((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, None),
        ({"kind": "qwen3"}, None),
        ({"kind": "gemma"}, "architecture 'gemma'"),
        ({"scaling": "yarn"}, "positions are scaled"),
        ({"tensor": "rope_freqs.weight"}, "positions are scaled"),
        ({"experts": 8}, "experts"),
    ],
)
def test_a_gguf_file_is_judged_by_its_head(tmp_path: Path, facts: dict[str, Any], said: str | None) -> None:
    """What OpenVINO GenAI would read wrongly, or not at all, is told before anything is loaded."""
    weights = find_weights(str(write_gguf(tmp_path / "a.gguf", **facts)))
    found = openvino.supports(weights)
    assert (found is None) if said is None else (found is not None and said in found)


@pytest.mark.parametrize("content", [b"", b"GG", b"GGUF\3\0\0\0", b"something else"])
def test_a_broken_gguf_file_is_a_reason_and_no_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    assert "cannot be read" in str(openvino.supports(find_weights(str(tmp_path / "a.gguf"))))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"model_type": "gpt2"}, "'gpt2'"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "positions are scaled"),
        ({"rope_scaling": {"type": "linear"}, "rope_parameters": None}, "positions are scaled"),
        ({"head_dim": 16}, "another width"),
        ({"use_sliding_window": True}, "windowed"),
    ],
)
def test_safetensors_are_judged_by_their_config(
    llama: Weights, tmp_path: Path, change: dict[str, Any], said: str | None
) -> None:
    """Whatever the network that OpenVINO GenAI builds does not have is a reason for PyTorch."""
    folder = shutil.copytree(llama.folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    found = openvino.supports(find_weights(str(folder)))
    assert (found is None) if said is None else (found is not None and said in found)


def test_other_kinds_of_models_are_refused(model_folder: Callable[[str], Path]) -> None:
    assert "'t5'" in str(openvino.supports(find_weights(str(model_folder("t5")))))


def test_weights_are_converted_once(llama: Weights, cache: Path) -> None:
    """The second call finds the first one's network, and nothing temporary is left."""
    folder = files.converted(llama)
    stamp = (folder / "openvino_model.xml").stat().st_mtime_ns
    assert files.converted(llama) == folder
    assert (folder / "openvino_model.xml").stat().st_mtime_ns == stamp
    assert sorted(path.name for path in folder.iterdir()) == ["openvino_model.bin", "openvino_model.xml"]
    assert not [path for path in (cache / "models").iterdir() if path.name.startswith(f"{folder.name}.")]


def test_what_cannot_be_converted_says_what_to_do(llama: Weights, tmp_path: Path) -> None:
    """A file that only looks like a model ends in the toolkit's own error, and leaves nothing behind."""
    path = write_gguf(tmp_path / "a.gguf")
    with pytest.raises(ModelUnavailable, match="engine='torch'"):
        files.converted(find_weights(str(path)))


def test_8_bits_hold_the_weights(llama: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers come back within 1 % whether they come from safetensors or from a GGUF file."""
    import openvino as core
    import openvino_genai

    kept: list[Path] = []
    monkeypatch.setattr(
        Path, "unlink", lambda path: kept.append(Path(shutil.copy(path, tmp_path / "kept.gguf")))
    )
    folder = tmp_path / "network"
    folder.mkdir()
    files._convert(replace(llama, fingerprint="other"), folder)
    monkeypatch.undo()
    again = tmp_path / "again"
    again.mkdir()
    files._convert(replace(llama, gguf_beside=kept[0]), again)
    networks = [core.Core().read_model(path / "openvino_model.xml") for path in (folder, again)]
    constants = [
        [op.get_data() for op in network.get_ops() if op.get_type_name() == "Constant"]
        for network in networks
    ]
    for ours, theirs in zip(*constants, strict=True):
        assert np.array_equal(ours, theirs)
    assert openvino_genai.get_version()


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Qwen3"])
def test_the_network_is_the_models_own(kind: str, tmp_path: Path) -> None:
    """Computed in full precision it gives PyTorch's scores for the same rounded weights, to 5 digits."""
    import openvino as core
    import torch
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        **CAUSAL,
        initializer_range=0.4,
        tie_word_embeddings=kind == "Qwen2",
        rope_parameters={"rope_type": "default", "rope_theta": 50_000.0},
    )
    network = getattr(transformers, f"{kind}ForCausalLM")(config)
    weights = find_weights(str(save_model(tmp_path / "model", network, ends=False, longest=512)))
    assert openvino.supports(weights) is None
    folder = tmp_path / "network"
    folder.mkdir()
    files._convert(weights, folder)
    for parameter in network.parameters():
        if parameter.ndim == 2:
            fits = parameter.shape[1] % 32 == 0
            form = gguf.GGMLQuantizationType.Q8_0 if fits else gguf.GGMLQuantizationType.F16
            rounded = gguf.dequantize(gguf.quantize(parameter.detach().numpy(), form), form)
            parameter.data = torch.tensor(rounded)
    exact: dict[str, Any] = dict.fromkeys(("INFERENCE_PRECISION_HINT", "KV_CACHE_PRECISION"), "f32")
    exact["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 0
    compiled = core.Core().compile_model(folder / "openvino_model.xml", "CPU", exact)
    ids = np.array([[(7 * place * place + 3 * place + 11) % VOCABULARY for place in range(40)]])
    given = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "position_ids": np.arange(40)[None],
        "beam_idx": np.zeros(1, np.int32),
    }
    ours = compiled.create_infer_request().infer(given)["logits"][0]
    with torch.inference_mode():
        theirs = network(torch.tensor(ids)).logits[0].numpy()
    assert np.linalg.norm(ours - theirs) < 1e-5 * np.linalg.norm(theirs)


# --- the real model ---


@pytest.mark.slow
def test_the_embedded_model_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """From its GGUF file it knows what it knows elsewhere, and loads from the network that was saved."""
    monkeypatch.delenv("TOOLKIT_CACHE")
    weights = find_weights("smollm2-135m")
    assert weights.gguf_beside is not None
    assert openvino.supports(weights) is None
    model, backend, memory = openvino.load(weights, batch_tokens=4096)
    assert (model.context_tokens, model.end_ids) == (8192, {2})
    assert 0.2e9 < memory.bytes < 1e9
    with model.tokenizer() as tokenizer:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": "Write one sentence about bees."}],
            add_generation_prompt=True,
            return_dict=False,
        )
    (reply,) = run_directly(backend, [Job(list(ids), 60)])
    assert reply.text.startswith("Bees are")
    assert reply.stop_reason is StopReason.STOP


def test_its_modules_load_no_heavy_packages() -> None:
    """The engine is imported to ask whether it can; that must not cost a second."""
    for module in (openvino, batches, files):
        assert not {"openvino_genai", "torch", "np", "transformers"} & set(vars(module)), module
    assert "openvino_genai" in sys.modules  # By the tests above.


@pytest.mark.slow
def test_ctrl_c_is_safe_after_a_pipeline_has_gone(llama: Weights) -> None:
    """OpenVINO sets a stack for signals and frees it; in the main thread the next Ctrl-C would crash."""
    script = f"""
import faulthandler, os, signal, threading
faulthandler.enable()
signal.signal(signal.SIGINT, signal.default_int_handler)  # What starts in the background ignores it.
from toolkit.engines import openvino
from toolkit.engines.weights import find_weights
held = list(openvino.load(find_weights({str(llama.folder)!r}), batch_tokens=64))
going = threading.Thread(target=held.clear)
going.start()
going.join()
try:
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(60)
except KeyboardInterrupt:
    print("interrupted")
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "interrupted\n"), ended.stderr


@pytest.mark.parametrize("is_cancelled", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_process_that_ends_while_the_pipeline_works(is_cancelled: bool, llama: Weights) -> None:
    """Its thread comes back before the interpreter has gone; else the process is aborted."""
    script = f"""
import time
from concurrent.futures import wait
from toolkit.engines.choice import EngineSpec
from toolkit.engines.jobs import Job
from toolkit.engines.loaded import acquire_engine
engine = acquire_engine(EngineSpec(model={str(llama.folder)!r}, engine="openvino"))
engine.model.end_ids.clear()
jobs = [Job([5 + number] * 400, 3000) for number in range(4)]
futures = [engine.submit(job) for job in jobs]
while len(engine._queue._at_work) < len(jobs):
    time.sleep(0)
for job in jobs if {is_cancelled} else []:
    job.cancelled.set()
wait(futures if {is_cancelled} else [])
print("ends")
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "ends\n"), ended.stderr
