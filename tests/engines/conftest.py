"""What tests of engines share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_models import MAKERS


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Keep tiny models from spreading over all cores, where they would only wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a tiny model: a name of ``tiny_models.MAKERS``."""
    import torch
    from transformers.utils import logging

    made: dict[str, Path] = {}

    def folder_of(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp("models") / kind
            state = torch.random.get_rng_state()
            torch.manual_seed(7)
            bars = logging.is_progress_bar_enabled()
            logging.disable_progress_bar()
            try:
                made[kind] = MAKERS[kind](folder)
            finally:
                torch.random.set_rng_state(state)
                if bars:
                    logging.enable_progress_bar()
        return made[kind]

    return folder_of
