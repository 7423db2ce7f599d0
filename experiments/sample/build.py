"""Build the bundled sample data set from its human-editable sources.

The sources are the files ``conversations/*.json`` beside this script, one per fictional user.  A source holds

* ``name`` and ``about``: who the user is,
* ``sessions``: dated sessions, each with a ``session_id``, a ``date`` and its ``turns``; a turn that holds evidence
  lists in ``evidence_for`` the ids of the questions it is evidence of,
* ``questions``: the questions, each with its answer and the sessions that hold its evidence.  A question whose answer
  is a number of days or weeks gives the two dates it is counted between in ``event_dates``, and the answer is checked
  against them.

A question id that ends in ``_abs`` asks for something that the conversation does *not* tell, although it tells
something close to it; the turns marked as its evidence are that near miss.

The output is one JSON list in LongMemEval's format.  Run the script without arguments to write it, or with ``--check``
to exit with status 1 if the shipped file is not the one that would be built.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from datetime import date, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "conversations"
OUTPUT = HERE.parents[1] / "metamem" / "datasets" / "data" / "sample.json"

#: How many questions of each type the data set holds.
TYPE_COUNTS: dict[str, int] = {
    "single-session-user": 10,
    "single-session-assistant": 8,
    "single-session-preference": 6,
    "multi-session": 12,
    "knowledge-update": 12,
    "temporal-reasoning": 12,
}
#: The types whose answers must occur word for word in an evidence turn.
LITERAL_TYPES = {"single-session-user", "single-session-assistant"}
ABSTENTION = "_abs"
DATE_FORMAT = "%Y/%m/%d (%a) %H:%M"
DURATION = re.compile(r"(\d+) (days|weeks)")

Record = dict[str, Any]


class SourceError(ValueError):
    """A source file breaks one of the rules of the data set."""


def require(condition: bool, where: str, problem: str) -> None:
    """Raise a `SourceError` that names the place and the problem unless the condition holds."""
    if not condition:
        raise SourceError(f"{where}: {problem}")


def parse_date(text: str, where: str) -> datetime:
    """Read a date such as ``2024/03/09 (Sat) 18:20``, whose weekday has to be the right one."""
    try:
        parsed = datetime.strptime(text, DATE_FORMAT)
    except ValueError as error:
        raise SourceError(f"{where}: {error}") from None
    require(parsed.strftime(DATE_FORMAT) == text, where, f"{text!r} should be {parsed.strftime(DATE_FORMAT)!r}")
    return parsed


def parse_day(text: str, where: str) -> date:
    """Read a bare date such as ``2024/03/09``."""
    try:
        return datetime.strptime(text, "%Y/%m/%d").date()
    except ValueError as error:
        raise SourceError(f"{where}: {error}") from None


def is_abstention(question_id: str) -> bool:
    """Whether a question asks for something that its conversation does not tell."""
    return question_id.endswith(ABSTENTION)


def check_sessions(source: Record) -> None:
    """Check a conversation's sessions: ids, dates, order, and who speaks when."""
    name = source["name"]
    sessions: list[Record] = source["sessions"]
    require(len(sessions) >= 8, name, "fewer than 8 sessions")
    require(len({s["session_id"] for s in sessions}) == len(sessions), name, "a session id occurs twice")
    question_ids = {q["question_id"] for q in source["questions"]}
    previous: datetime | None = None
    for session in sessions:
        where = session["session_id"]
        require(where.startswith(f"{name}_s"), where, f"the id should start with '{name}_s'")
        current = parse_date(session["date"], where)
        require(previous is None or previous < current, where, "is not later than the session before it")
        previous = current
        turns: list[Record] = session["turns"]
        require(4 <= len(turns) <= 8, where, f"has {len(turns)} turns, not 4 to 8")
        for number, turn in enumerate(turns):
            place = f"{where}, turn {number}"
            require(turn["role"] == ("user", "assistant")[number % 2], place, "the wrong speaker")
            content: str = turn["content"]
            require(bool(content) and content == content.strip(), place, "empty, or has stray blanks")
            require(content.isascii(), place, "holds characters outside ASCII")
            unknown = set(turn.get("evidence_for", [])) - question_ids
            require(not unknown, place, f"is marked as evidence of unknown questions {sorted(unknown)}")


def check_question(source: Record, question: Record) -> None:
    """Check one question against the conversation it belongs to."""
    where: str = question["question_id"]
    kind: str = question["question_type"]
    require(re.fullmatch(rf"sample_{source['name']}_[a-z]+\d+(_abs)?", where) is not None, where, "not a valid id")
    require(kind in TYPE_COUNTS, where, f"unknown question type {kind!r}")
    asked = parse_date(question["question_date"], where)
    last = parse_date(source["sessions"][-1]["date"], where)
    require(asked > last, where, "is asked before the last session")

    evidence = {
        session["session_id"]: [t["content"] for t in session["turns"] if where in t.get("evidence_for", [])]
        for session in source["sessions"]
    }
    held = [session_id for session_id, turns in evidence.items() if turns]
    require(bool(held), where, "has no evidence")
    require(question["answer_session_ids"] == held, where, f"answer_session_ids should be {held}")

    answer = str(question["answer"])
    require(bool(answer) and answer.isascii() and question["question"].isascii(), where, "empty or outside ASCII")
    if is_abstention(where):
        base = [q for q in source["questions"] if q["question_id"] == where.removesuffix(ABSTENTION)]
        require(len(base) == 1 and base[0]["question_type"] == kind, where, "has no base question of its type")
        require(answer.startswith("The information provided is not enough."), where, "does not abstain")
        return
    if kind in LITERAL_TYPES:
        require(len(held) == 1, where, "should have its evidence in a single session")
        text = " ".join(evidence[held[0]])
        require(answer.lower() in text.lower(), where, f"{answer!r} does not occur in its evidence")
    if kind in {"multi-session", "knowledge-update"}:
        require(len(held) >= 2, where, "should have its evidence in several sessions")
    if kind == "multi-session":
        require(re.match(r"\$?\d", answer) is not None, where, "the answer should begin with a number")
    duration = DURATION.fullmatch(answer)
    if duration is not None:
        first, second = (parse_day(day, where) for day in question["event_dates"])
        require(second <= last.date(), where, "an event lies after the last session")
        days = (second - first).days
        expected = int(duration[1]) * (7 if duration[2] == "weeks" else 1)
        require(days == expected, where, f"{days} days lie between the events, not {expected}")


def records_of(source: Record) -> list[Record]:
    """Turn one conversation into its records, each of which repeats the whole haystack."""
    sessions: list[Record] = source["sessions"]
    records: list[Record] = []
    for question in source["questions"]:
        haystack: list[list[Record]] = []
        for session in sessions:
            turns: list[Record] = []
            for turn in session["turns"]:
                kept: Record = {"role": turn["role"], "content": turn["content"]}
                if question["question_id"] in turn.get("evidence_for", []):
                    kept["has_answer"] = True
                turns.append(kept)
            haystack.append(turns)
        records.append(
            {
                "question_id": question["question_id"],
                "question_type": question["question_type"],
                "question": question["question"],
                "question_date": question["question_date"],
                "answer": question["answer"],
                "answer_session_ids": question["answer_session_ids"],
                "haystack_dates": [session["date"] for session in sessions],
                "haystack_session_ids": [session["session_id"] for session in sessions],
                "haystack_sessions": haystack,
            }
        )
    return records


def build(folder: Path = SOURCES) -> str:
    """Validate every source in a folder and return the text of the data set."""
    records: list[Record] = []
    for path in sorted(folder.glob("*.json")):
        source: Record = json.loads(path.read_text(encoding="utf-8"))
        require(source["name"] == path.stem, path.name, "the name should be that of the file")
        check_sessions(source)
        for question in source["questions"]:
            check_question(source, question)
        records.extend(records_of(source))
    ids = Counter(record["question_id"] for record in records)
    repeated = sorted(question_id for question_id, count in ids.items() if count > 1)
    require(not repeated, "data set", f"question ids that occur twice: {repeated}")
    counts = Counter(record["question_type"] for record in records)
    require(counts == TYPE_COUNTS, "data set", f"{dict(counts)} questions by type, not {TYPE_COUNTS}")
    lines = ",\n".join(json.dumps(record, ensure_ascii=True) for record in records)
    return f"[\n{lines}\n]\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the data set, or with ``--check`` compare it with the shipped file."""
    parser = argparse.ArgumentParser(description="Build the bundled sample data set.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the shipped file is out of date")
    options = parser.parse_args(arguments)
    try:
        text = build()
    except SourceError as error:
        print(error, file=sys.stderr)
        return 1
    if options.check:
        if OUTPUT.is_file() and OUTPUT.read_bytes() == text.encode():
            return 0
        print(f"{OUTPUT.name} is out of date: run {Path(__file__).name}", file=sys.stderr)
        return 1
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_bytes(text.encode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
