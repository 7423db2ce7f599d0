"""A model's files are one hash: of what lies in a folder, not of where it lies or when it was written."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from metamem.core import weights
from metamem.core.weights import weights_hash


@pytest.mark.parametrize(
    ("sampled", "expected"),
    [(False, "02737b8a0f90522dfce311ba4f977a8c"), (True, "2c3afb7cc51cae28f6ddfdaa6883ee0c")],
)
def test_the_hash_of_a_folder_stays_what_it_was(tmp_path: Path, sampled: bool, expected: str) -> None:
    (tmp_path / "1_Pooling").mkdir()
    files = [tmp_path / "model.safetensors", tmp_path / "1_Pooling" / "config.json"]
    for file in files:
        file.write_bytes(file.name.encode())
    assert weights_hash(tmp_path, files, sampled=sampled) == expected, "journals and banks are addressed by it"
    assert weights_hash(tmp_path, files[::-1], sampled=sampled) == expected


def test_the_name_and_the_content_of_every_file_count(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    hashes = {weights_hash(tmp_path, [tmp_path / n for n in names]) for names in ("a", "b", "ab")}
    (tmp_path / "a").write_bytes(b"22")
    assert len(hashes | {weights_hash(tmp_path, [tmp_path / "a"])}) == 4


def test_a_change_in_any_tensor_of_a_large_file_is_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_WHOLE", 100)
    size, count = 4096, 5
    header = json.dumps({f"t{i}": {"data_offsets": [i * size, (i + 1) * size]} for i in range(count)}).encode()
    body = struct.pack("<Q", len(header)) + header + bytes(size * count)
    hashes = set()
    for changed in [None, *range(count)]:
        data = bytearray(body)
        if changed is not None:
            start = 8 + len(header) + changed * size
            data[start : start + size] = b"\1" * size
        file = tmp_path / str(changed) / "model.safetensors"
        file.parent.mkdir()
        file.write_bytes(data)
        hashes.add(weights.weights_hash(tmp_path / str(changed), [file], sampled=True))
    assert len(hashes) == count + 1
