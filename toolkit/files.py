"""Writing files so that each is whole at any moment."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def write_whole(files: Iterable[tuple[Path, str | bytes]]) -> None:
    """Write files, and replace those that are there once all could be written.

    Whoever reads one finds the earlier or the new one, also if this process is killed. What is no file but a
    device, such as ``/dev/stdout``, is written to as it is.

    Parameters
    ----------
    files : iterable of (Path, str or bytes)
        Text becomes UTF-8. May be a generator; one content at a time is held.

    Raises
    ------
    OSError
        If one cannot be written; all stay as they were then, and no parts are left.
    """
    parts: dict[Path, Path] = {}
    try:
        for path, content in files:
            written = content.encode() if isinstance(content, str) else content
            if path.exists() and not path.is_file():
                path.write_bytes(written)  # a part would take its place; a folder says that it is one
                continue
            # Another process, or thread, may be writing the same file.
            parts[path] = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
            parts[path].write_bytes(written)
        for path, part in parts.items():
            part.replace(path)
    finally:
        for part in parts.values():
            with suppress(OSError):
                part.unlink()
