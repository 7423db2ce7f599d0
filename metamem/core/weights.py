"""Hash of a model's files: what identifies the weights of backbones, embedders and compressors.

In: a folder and those of its files that decide what the model does. Out: 32 hex digits that depend on the files' names
inside the folder and on their contents, not on where the folder lies. Journals, runs and memory banks are addressed by
them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from metamem.core.errors import DataError
from metamem.core.files import file_digest

_WHOLE = 64 << 20  # a sampled hash still reads files up to this size whole
_SAMPLE = 1024  # of larger ones, so many bytes from the middle of every tensor, or of every block
_BLOCKS = 4096


def weights_hash(folder: Path, files: Iterable[Path], *, sampled: bool = False) -> str:
    """Return the hash of files below a folder.

    `sampled` is for weights of many gigabytes, which would take minutes to read at every start: of a large file only
    its size, its header and a sample of every tensor count. A change that leaves every sample as it was (a single row
    of one matrix) is not seen; training changes them all.
    """
    listing = "\n".join(f"{file.relative_to(folder).as_posix()} {_remembered(file, sampled)}" for file in sorted(files))
    return sha256(listing.encode()).hexdigest()[:32]


def read_header(stream: BinaryIO, file: Path) -> tuple[dict[str, Any], int]:
    """Return what a safetensors file says of its tensors, and how many bytes that takes behind the first eight.

    The format: https://huggingface.co/docs/safetensors. Raises `DataError` for a file that is damaged.
    """
    length = int.from_bytes(stream.read(8), "little")
    try:
        return dict(json.loads(stream.read(length))), length
    except (ValueError, TypeError, OverflowError, MemoryError):
        raise DataError(f"{file} is damaged: its header cannot be read") from None


def _remembered(file: Path, sampled: bool) -> str:
    facts = file.stat()
    return _hash_of(file.resolve(), facts.st_size, facts.st_mtime_ns, sampled)


# A process asks again and again for the same files: size and time of change tell whether they still are.
@lru_cache(maxsize=4096)
def _hash_of(file: Path, size: int, modified: int, sampled: bool) -> str:
    return _sampled_digest(file, size) if sampled else file_digest(file)


def _sampled_digest(file: Path, size: int) -> str:
    hashed = sha256(str(size).encode())
    with file.open("rb") as stream:
        if size <= _WHOLE:
            while block := stream.read(1 << 20):
                hashed.update(block)
        else:
            for start, end in _places(stream, file, size):
                stream.seek(max(start, (start + end - _SAMPLE) // 2))
                hashed.update(stream.read(min(_SAMPLE, end - start)))
    return hashed.hexdigest()


def _places(stream: BinaryIO, file: Path, size: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges that are sampled: the tensors of a safetensors file and its header, else even blocks."""
    if file.suffix == ".safetensors":
        tensors, length = read_header(stream, file)
        for place in range(0, length, _SAMPLE):
            yield 8 + place, min(8 + place + _SAMPLE, 8 + length)
        for name in sorted(tensors):
            if name != "__metadata__":
                start, end = tensors[name]["data_offsets"]
                yield 8 + length + start, 8 + length + end
        return
    step = max(size // _BLOCKS, 1)
    for start in range(0, size, step):
        yield start, min(start + step, size)
