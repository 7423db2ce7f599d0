"""Run every command of the documents top to bottom, each document in a fresh folder, and compare what is shown.

    .venv/bin/python scripts/docs_check.py [--write] [DOCUMENT ...]

In: Markdown files and notebooks (README.md, docs/tutorial.md and docs/notebook.ipynb where none is named). Out: exit
code 0 when every command ended with 0 and said what the document shows. In Markdown

- a fence of `bash` is run by bash, in the environment of this Python, which stands as `.venv` in the folder;
- a fence of `text` that follows one is what it printed: times, ids and rules may differ, `…` stands for anything,
  alone on a line for any lines;
- a fence of another language whose first line is a comment with a file's name is written to that file;
- `[unchecked: REASON]` in a comment keeps its line from being run; in a line of its own on top, the whole fence.

`--write` puts what was printed in the place of what does not fit any more, cut as it was.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "docs/tutorial.md", "docs/notebook.ipynb")
CARRIED = ("conf", "docs", "experiments", "metamem", "scripts", "Makefile", "pyproject.toml", "README.md")
SECONDS = 600
WIDTH = "100"
# How alike (0 to 1) a printed line is to the one whose place it takes.
ALIKE = 0.6

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_UNCHECKED = re.compile(r"#.*\[unchecked: ([^\]]+)\]")
_NAMED = re.compile(r"(?:#|//) (\S+\.\w+)\n")
# What differs from run to run: durations, the hash in a run's name, and lines as long as a table is wide.
_VOLATILE = (
    (re.compile(r"\b\d+ min(?: \d+ s)?\b|\b\d+(?:\.\d+)? m?s\b"), "‹time›"),
    (re.compile(r"\b[0-9a-f]{10}\b"), "‹id›"),
    (re.compile(r"─+"), "─"),
    (re.compile(r" {2,}"), " "),
)


@dataclass(frozen=True)
class Problem:
    """Where a document is not true, and how."""

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


def plain(text: str) -> list[str]:
    """Return the lines of an output without what differs from run to run; empty lines are left out."""
    for pattern, word in _VOLATILE:
        text = pattern.sub(word, text)
    return [line.strip() for line in text.splitlines() if line.strip()]


def fits(shown: str, printed: str) -> bool:
    """Tell whether a document shows what was printed."""
    wanted = ""
    for line in plain(shown):
        parts = (re.escape(part) for part in line.split("…"))
        wanted += r"(?:.*\n)*?" if line == "…" else ".*".join(parts) + r"\n"
    return re.fullmatch(wanted, "".join(f"{line}\n" for line in plain(printed))) is not None


def renewed(shown: str, printed: str) -> str:
    """Return what a document is to show of what was printed: the lines most like those that it showed, in their order,
    between the same `…`; all of it where that does not fit.
    """
    whole = [line.rstrip() for line in printed.strip("\n").splitlines()]
    kept: list[str] = []
    at = 0
    for line in shown.splitlines() if "…" in shown else ():
        if line.strip() in ("", "…"):
            kept.append(line)
            continue
        alike = [SequenceMatcher(None, line, other, autojunk=False).ratio() for other in whole[at:]]
        if alike and max(alike) >= ALIKE:
            at += alike.index(max(alike)) + 1
            kept.append(line if fits(line, whole[at - 1]) and "…" in line else whole[at - 1])
    text = "".join(f"{line}\n" for line in kept)
    return text if at and fits(text, printed) else "".join(f"{line}\n" for line in whole)


def furnish(folder: Path) -> dict[str, str]:
    """Put the project into a folder, with this Python's environment as its `.venv`; return the variables to use."""
    for name in CARRIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    environment = folder / ".venv"
    environment.mkdir()
    for item in Path(sys.prefix).iterdir():
        if item.name != ".ready":
            (environment / item.name).symlink_to(item)
    (environment / ".ready").touch()  # newer than all that `make` would install it for
    own = {"PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1", "COLUMNS": WIDTH, "IPYTHONDIR": str(folder / ".ipython")}
    return {**a_readers(os.environ), **own, "JUPYTER_RUNTIME_DIR": str(folder / ".jupyter")}


def a_readers(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what would change what a document's commands do: keys, settings, a make around."""
    dropped = ("OPENAI_", "WANDB_", "METAMEM_", "HYDRA_", "OMP_", "MAKE", "MFLAGS", "ARGS")
    return {name: value for name, value in environment.items() if not name.startswith(dropped)}


def commands_of(fence: str) -> tuple[str, list[str]]:
    """Return what of a fence of commands is run, and the reasons why the rest is not."""
    lines = fence.splitlines()
    first = _UNCHECKED.search(lines[0]) if lines else None
    if first and lines[0].startswith("#"):
        return "", [first[1]]
    skipped = [found[1] for line in lines if (found := _UNCHECKED.search(line))]
    return "\n".join(line for line in lines if not _UNCHECKED.search(line)), skipped


def check_markdown(document: Path, folder: Path, environment: dict[str, str], write: bool) -> Iterator[Problem]:
    """Run a Markdown file's commands in a folder."""
    text = document.read_text(encoding="utf-8")
    printed: str | None = None
    changes: list[tuple[int, int, str]] = []
    for fence in _FENCE.finditer(text):
        language, body = fence.groups()
        place = f"{document.name}, line {text[: fence.start()].count(chr(10)) + 1}"
        if language == "bash":
            script, skipped = commands_of(body)
            for reason in skipped:
                print(f"{place}: not run: {reason}", flush=True)
            printed = None
            if any(line.strip() and not line.startswith("#") for line in script.splitlines()):
                print(f"{place}: {script.strip().splitlines()[0]}", flush=True)
                code, printed = _run(script, folder, environment)
                if code:
                    yield Problem(place, f"exit code {code}\n{script}\n{printed}")
        elif language == "text":
            if printed is not None and not fits(body, printed):
                changes.append((*fence.span(2), renewed(body, printed)))
                yield Problem(place, f"shown:\n{body}\nprinted:\n{printed}")
            printed = None
        elif named := _NAMED.match(body):
            (folder / named[1]).write_text(body, encoding="utf-8")
    if write and changes:
        for start, end, new in reversed(changes):
            text = text[:start] + new + text[end:]
        document.write_text(text, encoding="utf-8")


def _run(script: str, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    return done.returncode, done.stdout


def check_notebook(document: Path, folder: Path, environment: dict[str, str], write: bool) -> Iterator[Problem]:
    """Run a notebook's cells in a folder."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.read(document, as_version=4)
    shown = [_said(cell) for cell in notebook.cells]
    print(f"{document.name}: {len(notebook.cells)} cells", flush=True)
    client = NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        yield Problem(document.name, str(error))
        return
    changed = False
    for number, (cell, before) in enumerate(zip(notebook.cells, shown, strict=True)):
        if cell.cell_type == "code" and not fits(before, _said(cell)):
            changed = True
            yield Problem(f"{document.name}, cell {number}", f"shown:\n{before}\nprinted:\n{_said(cell)}")
    if write and changed:
        for cell in notebook.cells:
            cell.metadata = {}
        notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
        document.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def _said(cell: Any) -> str:
    """Return the text that a cell shows."""
    if cell.cell_type != "code":
        return ""
    texts = (o.get("text") or o.get("data", {}).get("text/plain", "") for o in cell.outputs)
    return "\n".join("".join(text) for text in texts)


def check(document: Path, write: bool = False) -> list[Problem]:
    """Run a document in a fresh folder; return where it is not true."""
    with tempfile.TemporaryDirectory(prefix="metamem-docs-") as name:
        folder = Path(name)
        environment = furnish(folder)
        checker = check_notebook if document.suffix == ".ipynb" else check_markdown
        return list(checker(document, folder, environment, write))


def main(arguments: Sequence[str]) -> int:
    """Check the named documents."""
    parser = argparse.ArgumentParser(description="Run every command of the documents and compare what is shown.")
    parser.add_argument("documents", nargs="*", default=DOCUMENTS)
    parser.add_argument("--write", action="store_true", help="write what was printed where it does not fit")
    given = parser.parse_args(arguments)
    problems = [p for name in given.documents for p in check((ROOT / name).resolve(), given.write)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
