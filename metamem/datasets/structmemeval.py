"""StructMemEval (arXiv 2602.11243): whether a memory is organised as its content asks for: accounts, states, trees.

In: the benchmark's folder (`benchmark`, or a part such as `benchmark/state_tracking`), or one case's file. Out: cases
of four kinds, told by what a file holds. Each session of the accounts is a dialogue of its own, asked about after so
many messages, with a conversation for each beginning. With `hints` whoever writes a memory, and whoever answers, is
told how such content is best organised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metamem.core.contracts import Dataset
from metamem.core.errors import ConfigError, DataError, unknown
from metamem.core.records import Conversation, Question, Session, Turn
from metamem.core.registry import option, register
from metamem.datasets.instructions import Instruction
from metamem.datasets.reading import Place, Problems, found, given_path, json_files, place_of, read_json

if TYPE_CHECKING:
    from metamem.datasets.schemas import StructCase, StructQuery, StructSession

KEY = "dataset.path"
EXPECTED = "a case of StructMemEval, an object with case_id and sessions"
ROLES = ("user", "assistant")
ACCOUNTS, STATES, TASTES, TREES = "accounting", "state_tracking", "recommendations", "tree_based"
# After how many messages of an account each of its answers holds.
AFTER = (10, 20, 50, 100, 200)

# The benchmark asks this of every account; the files do not hold it.
_SETTLE = (
    "Going by everything that was said about shared costs, who has to pay whom how much, so that nobody owes anybody "
    "anything? Answer with the list of these payments and nothing else, each written as: NAME pays AMOUNT to NAME."
)
HINTS = {
    ACCOUNTS: Instruction(
        "Work out from the entries of the ledger what each person has paid and what falls to them, refunds and "
        "cancellations included, before you name any payment.",
        "This is a dialogue about costs that several people share. Keep a ledger: an entry for each payment with who "
        "paid, how much, what for and among whom it is split, and entries of their own for refunds and cancellations. "
        "Leave none out, merge none, and pass over small talk.",
    ),
    STATES: Instruction(
        "Settle first which state holds now (where the user lives, how the user is), then answer by what belongs to "
        "that state alone, and heed what it warns of.",
        "The user's situation changes in these sessions, and what they do depends on it. Keep the present state apart "
        "from earlier ones, replace it when it changes, and note with each fact the place or state that it belongs to.",
    ),
    TASTES: Instruction(
        "Weigh what was liked against what was disliked of each kind, by counting, before you rank or recommend.",
        "The user speaks of what they liked and disliked. Keep a tally for each kind of thing: what was liked, what "
        "was not, and the reason given.",
    ),
    TREES: Instruction(
        "Follow the relations step by step from one person to the other before you answer.",
        "These sentences say how people are related. Keep each as a link between two people with the kind of relation, "
        "so that chains of links can be followed later.",
    ),
}


@dataclass(frozen=True)
class _Case:
    """A file's case, where it stands, of which kind it is."""

    row: StructCase
    place: Place
    kind: str


@register("dataset", "structmemeval")
class StructMemEval:
    """StructMemEval: memories of accounts, states, tastes and trees, with and without hints how to organise them."""

    @dataclass
    class Config:
        """Options of the data set."""

        path: str = option("", "a folder of cases (benchmark, or one below it), or the JSON file of one case")
        hints: bool = option(
            False, "tell whoever writes a memory, and whoever answers, how this kind of content is best organised"
        )
        kinds: list[str] = option([], "keep these kinds only: accounting, state_tracking, recommendations, tree_based")
        after: list[int] = option(
            [10, 20, 50], "accounts: after how many messages they are asked about, of 10, 20, 50, 100, 200"
        )
        limit: int | None = option(None, "keep the first so many questions only, for smoke runs", least=1)

        def __post_init__(self) -> None:
            """Check kinds and numbers. Raises `ConfigError`."""
            for kind in self.kinds:
                if kind not in HINTS:
                    raise ConfigError(f"dataset.kinds: {unknown('kind', kind, HINTS)}")
            for number in self.after:
                if number not in AFTER:
                    raise ConfigError(f"dataset.after: {unknown('number', str(number), map(str, AFTER))}")

    def __init__(self, config: Config) -> None:
        what = "give the folder of cases or one file, such as dataset.path=StructMemEval/benchmark"
        self._path = given_path(config.path, KEY, what)
        self._config = config

    def files(self) -> Sequence[Path]:
        """The files of cases."""
        return json_files(self._path, KEY)

    def load(self) -> Dataset:
        """Read and validate everything. Raises `DataError` naming file and field."""
        config = self._config
        notices: Counter[str] = Counter()
        problems = Problems()
        conversations: dict[str, Conversation] = {}
        questions: list[Question] = []
        seen: dict[str, Path] = {}
        for case in self._cases(problems, notices):
            with problems.collect():
                if case.row.case_id in seen:
                    raise case.place.error("case_id", f"is the id of {seen[case.row.case_id]} too; ids must be unique")
                seen[case.row.case_id] = case.place.path
                if config.kinds and case.kind not in config.kinds:
                    notices["cases of kinds not chosen"] += 1
                    continue
                told = HINTS[case.kind] if config.hints else Instruction()
                if case.kind == ACCOUNTS:
                    held, asked = _accounts(case, told, config.after, notices)
                else:
                    held, asked = _whole(case, told, notices)
                conversations |= held
                questions += asked
        problems.finish()
        if not questions:
            raise DataError(f"{KEY}: {self._path}: expected {EXPECTED}, found none that asks anything")
        kept = questions[: config.limit]
        notices["questions left out by dataset.limit"] += len(questions) - len(kept)
        used = {str(q.conversation_id): conversations[str(q.conversation_id)] for q in kept}
        return Dataset("structmemeval", used, tuple(kept), +notices)

    def _cases(self, problems: Problems, notices: Counter[str]) -> Iterator[_Case]:
        """Yield the case of each file; in a folder files that hold none are counted and passed over."""
        from metamem.datasets.schemas import StructCase, check

        for path in self.files():
            with problems.collect():
                if self._path.is_dir() and path.stat().st_size == 0:
                    notices["empty files, passed over"] += 1
                    continue
                raw = read_json(path, KEY)
                if self._path.is_dir() and not (
                    isinstance(raw, dict) and raw.keys() & {"case_id", "sessions", "queries"}
                ):
                    notices["files that hold no case, passed over"] += 1
                    continue
                place = place_of(path, KEY, 1, raw, "case_id")
                if not isinstance(raw, dict):
                    raise place.error("", f"expected {EXPECTED}, found {found(raw)}")
                row = check(StructCase, raw, place)
                _check(row, place)
                yield _Case(row, place, _kind(row))


def _check(row: StructCase, place: Place) -> None:
    """Raise `DataError` for sessions that cannot be told apart, unknown roles, and a case that asks nothing."""
    ids = Counter(session.session_id for session in row.sessions)
    for index, session in enumerate(row.sessions):
        if ids[session.session_id] > 1:
            raise place.error(f"sessions[{index}].session_id", "is the id of another session too; ids must be unique")
        for number, message in enumerate(session.messages):
            if message.role not in ROLES:
                field = f"sessions[{index}].messages[{number}].role"
                raise place.error(field, unknown("role", message.role, ROLES))
    if not row.queries and not any(session.answers for session in row.sessions):
        raise place.error("queries", "expected questions, or answers of sessions, found neither")
    if not any(message.content.strip() for session in row.sessions for message in session.messages):
        raise place.error("sessions", "expected at least one message with text, found none")


def _kind(row: StructCase) -> str:
    if any(session.answers for session in row.sessions):
        return ACCOUNTS
    if any(query.reference_answer.required_facts for query in row.queries):
        return TASTES
    return STATES if any(session.topic for session in row.sessions) else TREES


def _turns(session: StructSession) -> tuple[Turn, ...]:
    """Return the messages of a session that have text, named by their place."""
    numbered = enumerate(session.messages, start=1)
    return tuple(Turn(f"{session.session_id}:{n}", m.role, m.content) for n, m in numbered if m.content.strip())


def _accounts(
    case: _Case, told: Instruction, after: Sequence[int], notices: Counter[str]
) -> tuple[dict[str, Conversation], list[Question]]:
    """Return the beginnings of each dialogue about costs, and what is owed after each."""
    conversations: dict[str, Conversation] = {}
    questions: list[Question] = []
    for index, session in enumerate(case.row.sessions):
        if len(session.answers) != len(AFTER):
            field = f"sessions[{index}].answers"
            raise case.place.error(
                field, f"expected {len(AFTER)}, one after each of {AFTER} messages, found {len(session.answers)}"
            )
        held = _turns(session)
        notices["messages without text, left out"] += len(session.messages) - len(held)
        notices["answers after other numbers of messages, not asked for"] += len(set(AFTER) - set(after))
        for number in sorted(set(after)):
            group = f"{case.row.case_id}/{session.session_id}"
            name = f"{group}@{number}"
            turns = tuple(turn for turn in held if int(turn.id.rpartition(":")[2]) <= number)
            conversations[name] = Conversation(name, (Session(session.session_id, None, turns),), told.writing)
            questions.append(
                Question(
                    id=name,
                    text=_SETTLE,
                    type=ACCOUNTS,
                    answers=(session.answers[AFTER.index(number)],),
                    conversation_id=name,
                    group=group,
                    category=f"{number} messages",
                    instruction=told.answer,
                )
            )
    return conversations, questions


def _whole(case: _Case, told: Instruction, notices: Counter[str]) -> tuple[dict[str, Conversation], list[Question]]:
    """Return a case's sessions as one conversation, and its questions."""
    row = case.row
    sessions: list[Session] = []
    for session in row.sessions:
        turns = _turns(session)
        notices["messages without text, left out"] += len(session.messages) - len(turns)
        notices["facts that no message of their session states word for word"] += bool(session.fact_quote) and not any(
            _states(turn, session) for turn in turns
        )
        if turns:
            sessions.append(Session(session.session_id, None, turns))
        else:
            notices["sessions without text, left out"] += 1
    conversation = Conversation(row.case_id, tuple(sessions), told.writing)
    questions = [_question(query, case, number, told, notices) for number, query in enumerate(row.queries, start=1)]
    if len({question.id for question in questions}) < len(questions):
        raise case.place.error("queries", "two have the same query_id; ids must be unique")
    return {row.case_id: conversation}, questions


def _states(turn: Turn, session: StructSession) -> bool:
    """Tell whether a message holds the words that its session's fact is quoted by."""
    quote = (session.fact_quote or "").strip().rstrip(".")
    return bool(quote) and quote in turn.text


def _question(query: StructQuery, case: _Case, number: int, told: Instruction, notices: Counter[str]) -> Question:
    wanted = query.reference_answer.required_facts
    stating = {session.fact_id for session in case.row.sessions}
    notices["required_facts that no session states"] += sum(fact not in stating for fact in wanted)
    evidence = [session for session in case.row.sessions if session.fact_id in wanted]
    return Question(
        id=f"{case.row.case_id}:{query.query_id or number}",
        text=query.question,
        type=case.kind,
        answers=(query.reference_answer.text,),
        conversation_id=case.row.case_id,
        group=case.row.case_id,
        evidence_turns=tuple(turn.id for session in evidence for turn in _turns(session) if _states(turn, session)),
        evidence_sessions=tuple(session.session_id for session in evidence if _turns(session)),
        instruction=told.answer,
    )
