"""docs/troubleshooting.md quotes what the program says: every message stands in the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # all of the source is parsed
ROOT = Path(__file__).resolve().parents[2]
QUOTED = re.findall(r"^#### `(.+)`$", (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)


def messages() -> Iterator[str]:
    """Every text of the source, with `…` for what is filled in; and the lines of the installation's script."""
    for path in (ROOT / "metamem").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                parts = (v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
                yield "".join(map(str, parts))
    yield from (ROOT / "scripts" / "install.sh").read_text(encoding="utf-8").splitlines()


def is_said(quoted: str, said: Sequence[str]) -> bool:
    """Whether one text holds the fragments between the `…` of a quotation, in their order."""
    fragments = [re.escape(fragment.strip()) for fragment in quoted.split("…") if fragment.strip(" .,'()=")]
    pattern = re.compile(".*".join(fragments), re.DOTALL)
    return any(pattern.search(text) for text in said)


@pytest.fixture(scope="module")
def said() -> list[str]:
    return list(messages())


@pytest.mark.parametrize("quoted", QUOTED)
def test_a_quoted_message_is_one_of_the_programs(quoted: str, said: list[str]) -> None:
    assert is_said(quoted, said)


def test_what_the_program_does_not_say_is_no_quotation(said: list[str]) -> None:
    assert len(QUOTED) > 30
    assert not is_said("dataset.path: there is no folder … of mine", said)
    assert not is_said("needs vLLM, … which is installed", said)
