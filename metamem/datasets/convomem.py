"""ConvoMem (arXiv 2511.10523): questions of six kinds on 1 to 300 conversations, resting on 1 to 6 of their messages.

In: the test cases of its hub data set, one file or a folder of such (below `core_benchmark/pre_mixed_testcases`,
`KIND/N_evidence/*.json`). Out: for each test case a conversation whose sessions are its conversations, in the file's
order and without dates, and its questions. Files of hundreds of megabytes are read case by case; conversations that
stand in many cases are held once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metamem.core.collector import collector_at_rest
from metamem.core.contracts import Dataset
from metamem.core.errors import ConfigError, DataError, unknown
from metamem.core.json_form import digest
from metamem.core.records import Conversation, Question, Session, Turn
from metamem.core.registry import option, register
from metamem.datasets.reading import Place, Problems, found, given_path, json_files
from metamem.datasets.record_stream import read_records

if TYPE_CHECKING:
    from metamem.datasets.schemas import ConvoCase, ConvoItem

KEY = "dataset.path"
EXPECTED = "a list of ConvoMem's test cases, each an object with evidenceItems and conversations"
SUFFIX = "_evidence"
ABSTENTION = "abstention"
# The folders of the published files, less their ending.
KINDS = ("user", "assistant_facts", "changing", ABSTENTION, "preference", "implicit_connection")
ROLES = ("user", "assistant")


@register("dataset", "convomem")
class ConvoMem:
    """ConvoMem: six kinds of evidence in 1 to 6 messages among 1 to 300 conversations."""

    @dataclass
    class Config:
        """Options of the data set."""

        path: str = option("", "a JSON file of test cases (batched_044.json), or a folder of such")
        kind: str | None = option(
            None,
            "user, assistant_facts, changing, abstention, preference or implicit_connection; null: told by the folder",
        )
        evidence: list[int] = option([], "keep questions that rest on so many messages only (1 to 6; empty: all)")
        conversations: list[int] = option([], "keep test cases of so many conversations only (1 to 300; empty: all)")
        limit: int | None = option(None, "read no further than the first so many questions, for smoke runs", least=1)

        def __post_init__(self) -> None:
            """Check the kind. Raises `ConfigError`."""
            if self.kind is not None and self.kind not in KINDS:
                raise ConfigError(f"dataset.kind: {unknown('kind', self.kind, KINDS)}")

    def __init__(self, config: Config) -> None:
        what = "give a file of test cases or a folder of such, such as dataset.path=pre_mixed_testcases/user_evidence"
        self._path = given_path(config.path, KEY, what)
        self._config = config

    def files(self) -> Sequence[Path]:
        """The files of test cases."""
        return json_files(self._path, KEY)

    def load(self) -> Dataset:
        """Read and validate everything. Raises `DataError` naming file and record, `ConfigError` for a file whose
        folder does not tell its kind.
        """
        notices: Counter[str] = Counter()
        problems = Problems()
        conversations: dict[str, Conversation] = {}
        questions: list[Question] = []
        shared: dict[str, tuple[Any, Session]] = {}
        with collector_at_rest():
            for name, kind, row, place in self._cases(problems):
                with problems.collect():
                    if self._config.conversations and len(row.conversations) not in self._config.conversations:
                        notices["test cases of other numbers of conversations, left out"] += 1
                        continue
                    conversation, held = _conversation(name, row, place, shared, notices)
                    asked = self._asked(name, kind, row, held, notices)
                    if asked:
                        conversations[name] = conversation
                        questions += asked
                    if self._config.limit is not None and len(questions) >= self._config.limit:
                        notices["files read no further than dataset.limit"] += 1
                        break
        problems.finish()
        if not questions:
            raise DataError(f"{KEY}: {self._path}: its test cases hold no question that dataset's options keep")
        kept = questions[: self._config.limit]
        return Dataset("convomem", conversations, tuple(kept), +notices)

    def _cases(self, problems: Problems) -> Iterator[tuple[str, str, ConvoCase, Place]]:
        """Yield the test cases of all files, each with a name by its place and its kind."""
        from metamem.datasets.schemas import ConvoCase, check

        for file, path in enumerate(self.files(), start=1):
            kind = self._config.kind or _kind_of(path)
            with problems.collect():
                for number, raw in enumerate(read_records(path, KEY, EXPECTED), start=1):
                    place = Place(path, KEY, number)
                    with problems.collect():
                        if not isinstance(raw, dict):
                            raise place.error("", f"expected an object, found {found(raw)}")
                        yield f"f{file}t{number}", kind, check(ConvoCase, raw, place), place

    def _asked(
        self, name: str, kind: str, row: ConvoCase, held: Mapping[str, Session], notices: Counter[str]
    ) -> list[Question]:
        """Return the questions of a test case that the options keep."""
        questions: list[Question] = []
        for number, item in enumerate(row.evidenceItems, start=1):
            if self._config.evidence and len(item.message_evidences) not in self._config.evidence:
                notices["questions on other numbers of messages, left out"] += 1
                continue
            questions.append(_question(f"{name}q{number}", kind, name, item, held, notices))
        return questions


def _kind_of(path: Path) -> str:
    """Return the kind that the folders of a file name. Raises `ConfigError` where none does."""
    named = [part.removesuffix(SUFFIX) for part in path.parts if part.endswith(SUFFIX)]
    kinds = [part for part in named if part in KINDS]
    if not kinds:
        raise ConfigError(
            f"dataset.kind is not given: no folder of {path} is one such as user{SUFFIX}, which tells it; choices: "
            f"{', '.join(KINDS)}"
        )
    return kinds[-1]


def _conversation(
    name: str, row: ConvoCase, place: Place, shared: dict[str, tuple[Any, Session]], notices: Counter[str]
) -> tuple[Conversation, dict[str, Session]]:
    """Return the sessions of a test case, and conversation id → session. Raises `DataError`.

    `shared` holds what was read of conversations that stand in many cases, so that they are read and held once.
    """
    held: dict[str, Session] = {}
    notices["test cases of another size than they say"] += row.contextSize not in (None, len(row.conversations))
    for index, raw in enumerate(row.conversations):
        given = raw.get("id") if isinstance(raw, dict) else None
        known = shared.get(given) if isinstance(given, str) else None
        if known is not None and known[0] == raw:
            session = known[1]
        else:
            session = _read_session(raw, f"conversations[{index}]", f"c{index + 1}", place)
            if isinstance(given, str):
                shared[given] = raw, session
        if session.id in held:
            raise place.error(f"conversations[{index}].id", "is the id of an earlier one too; ids must be unique")
        held[session.id] = session
        notices["messages without text, left out"] += len(raw["messages"]) - len(session.turns)
        notices["conversations without text, left out"] += not session.turns
    sessions = tuple(session for session in held.values() if session.turns)
    if not sessions:
        raise place.error("conversations", "expected at least one message with text, found none")
    return Conversation(name, sessions), held


def _read_session(raw: Any, field: str, unnamed: str, place: Place) -> Session:
    from metamem.datasets.schemas import ConvoConversation, check

    given = check(ConvoConversation, raw, place, field)
    id = given.id or unnamed
    turns: list[Turn] = []
    for number, message in enumerate(given.messages, start=1):
        role = message.speaker.strip().lower()
        if role not in ROLES:
            at = f"{field}.messages[{number - 1}].speaker"
            raise place.error(at, unknown("speaker", message.speaker, [r.title() for r in ROLES]))
        if message.text.strip():
            turns.append(Turn(f"{id}:{number}", role, message.text))
    return Session(id, None, tuple(turns))


def _question(
    id: str, kind: str, name: str, item: ConvoItem, held: Mapping[str, Session], notices: Counter[str]
) -> Question:
    own = [c.get("id") for c in item.conversations if isinstance(c, dict)]
    named = {i for i in own if isinstance(i, str) and i in held}
    notices["conversations of questions that are not in their test case"] += len(own) - len(named)
    turns: list[str] = []
    for message in item.message_evidences:
        stating = _stating(message.text, [held[i] for i in held if i in named] or list(held.values()))
        notices["evidence that no message states word for word"] += not stating
        turns += stating
    size = len(held)
    return Question(
        id=id,
        text=item.question,
        type=kind,
        answers=(item.answer,),
        abstention=kind == ABSTENTION,
        conversation_id=name,
        # A question comes again among other numbers of conversations, and the conversations are a person's.
        group=item.personId or digest([item.question, item.answer]),
        evidence_turns=tuple(dict.fromkeys(turns)),
        evidence_sessions=tuple(i for i, s in held.items() if s.turns and (i in named or _holds(s, turns))),
        category=f"{len(item.message_evidences)} messages, {size} conversations",
    )


def _stating(text: str, sessions: Sequence[Session]) -> list[str]:
    """Return the id of the first message that is a text, or else holds it; nothing where none does."""
    wanted = text.strip()
    said = [(turn.id, turn.text.strip()) for session in sessions for turn in session.turns]
    same = [id for id, words in said if words == wanted] or [id for id, words in said if wanted and wanted in words]
    return same[:1]


def _holds(session: Session, turns: Sequence[str]) -> bool:
    return any(turn.id in turns for turn in session.turns)
