"""The stages between data and verdicts: build memory, retrieve evidence, answer, judge.

In: a data set and its components. Out: evidence per question (`gather_evidence`), and judged attempts (`Bench.attempt`,
`Bench.evaluate`). A question flows on as soon as it is ready; what comes out is in the order of question ids and draws,
never of completion.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from metamem.core.banks import MemoryBank
from metamem.core.calls import Draw, Failure, Message, Request
from metamem.core.contracts import Caller, MeasuresPrompts, Tracker
from metamem.core.errors import ConfigError, unknown
from metamem.core.evaluating import AsksJudge, Evaluator, Repeats
from metamem.core.json_form import digest
from metamem.core.learned import ChoosesEvidence, Judged, Recall
from metamem.core.meta_memory import MetaMemory
from metamem.core.records import MOST_INVALID, Attempt, Evidence, Question, Search, Status, Verdict, teaches, unanswered
from metamem.core.text import format_date, render_unit
from metamem.pipeline.searching_answers import FOUND, AskedQuestion, Searching, follow_all
from metamem.prompts.templates import Prompts
from metamem.retrieval.evidence import evidence_hash
from metamem.retrieval.searching import Searcher

# Questions that are under way at once: more than a server answers. Each holds its prompt, and what is made of it.
_AT_ONCE = 2048


class Bench:
    """Has questions answered and judged: what a laboratory gives policies, and what evaluation runs on."""

    def __init__(
        self,
        *,
        prompts: Prompts,
        policy: Caller | None,
        evaluators: Mapping[str, Evaluator],
        reward: str,
        evidence: Mapping[str, tuple[Evidence, ...]],
        seed: int,
        tracker: Tracker,
        recall: Recall | None = None,
        searcher: Searcher | None = None,
        banks: Mapping[str, MemoryBank] | None = None,
        template: str = "answer",
        room: Callable[[Question, Sequence[Evidence], Sequence[str]], tuple[Evidence, ...]] | None = None,
        adapter: str | None = None,
    ) -> None:
        """`recall` chooses which guidelines a prompt shows (None: all). With a `searcher`, answers may search the
        `banks` (by conversation). `template` is the one by which questions are asked. `room` returns
        the evidence that has room beside learned texts (None: they take none). `adapter`: which trained weights wrote
        the memories that the evidence is from.
        """
        self._adapter = adapter
        self._prompts = prompts
        self._policy = policy
        self._evaluators = dict(sorted(evaluators.items()))
        self._reward = reward
        self._evidence = evidence
        self._seed = seed
        self._tracker = tracker
        self._recall = recall
        self._hashes: dict[str, str] = {}  # of all the evidence of a question
        self._measure: MeasuresPrompts | None = None
        if policy is not None and isinstance(policy.backbone, MeasuresPrompts):
            self._measure = policy.backbone
        self._searching = Searching(searcher, prompts, self._fits) if searcher is not None else None
        self._banks = banks or {}
        self._template = template
        self._room = room

    async def attempt(
        self,
        question: Question,
        meta_memory: MetaMemory | None,
        scope: str,
        attempts: int,
        temperature: float,
        draws: str | None = None,
        first: int = 0,
    ) -> Judged:
        """Sample answers to one question under a meta-memory and judge each as soon as it is there.

        `scope` names the place in the run (`train/3`); `draws` the place that the samples are drawn for, where it
        differs; `first` is the index of the first draw there.
        """
        assert self._policy is not None, "this bench only judges"
        given = await self._given(question, meta_memory)
        chosen = await self._chosen(question, meta_memory)
        messages, tools, shown = self._asked(question, given, chosen)
        sampling = replace(self._policy.sampling(), temperature=temperature)
        place = f"{self._seed}/{draws or scope}/{question.id}"
        indices = range(first, first + attempts)
        request = Request(messages, sampling, tuple(Draw(place, i) for i in indices), tools=tools)
        replies = await self._policy(request)
        asked = AskedQuestion(question, request, shown)
        answered = await follow_all(self._searching, asked, self._bank(question), replies, self._policy)
        here = f"{scope}/{question.id}"
        shared: dict[str, Any] = {
            "meta_memory_hash": (MetaMemory() if meta_memory is None else meta_memory).hash,
            "evidence_hash": self._hash(question, shown),
            "prompt_hash": digest(messages),
            "shown": tuple(g.id for g in given.guidelines) if given else (),
        }
        made = []
        for i, (reply, usage, searches) in zip(
            indices, ((a.reply, a.usage, a.searches) for a in answered), strict=True
        ):
            spent: dict[str, Any] = {"searches": searches, "usage": usage} if searches else {}
            base = Attempt(f"{here}#{i}", question.id, here, i, "", key=reply.key, **spent, **shared)
            self._count_searches(searches)
            if isinstance(reply.outcome, Failure):
                made.append(replace(base, finish_reason="error", error=reply.outcome.reason))
            else:
                g = reply.outcome
                filtered = g.finish_reason == "content_filter"
                if filtered or (g.finish_reason not in ("stop", "length") and not g.text.strip()):
                    # Withheld, or cut off in the middle by a filter: not an answer that could be wrong.
                    made.append(
                        replace(base, finish_reason="error", error=f"no reply (finish reason {g.finish_reason})")
                    )
                    continue
                made.append(replace(base, response=g.text, finish_reason=g.finish_reason, usage=usage))
                self._tracker.advance("tokens", usage.completion_tokens)
                if reply.reused:
                    self._tracker.advance("reused")
        self._tracker.advance("attempt", len(made))
        # What taught is what was shown, not what was gathered.
        gathered = () if chosen is None else self._evidence.get(question.id, ())
        return replace(await self.judge(question, tuple(made)), evidence=shown, gathered=gathered)

    async def judge(self, question: Question, attempts: Sequence[Attempt]) -> Judged:
        """Score attempts by every evaluator, all at once."""
        verdicts = await self._verdicts(question, attempts, self._evaluators.values())
        mine = tuple(v for v in verdicts if v.evaluator == self._reward)
        others = tuple(v for v in verdicts if v.evaluator != self._reward)
        for verdict in mine:
            self._tracker.advance("invalid" if not verdict.valid else "right" if verdict.correct else "wrong")
        evidence = self._evidence.get(question.id, ())
        return Judged(question, evidence, tuple(attempts), mine, teaches(attempts, mine), others)

    async def judge_unasked(self, question: Question, attempts: Sequence[Attempt]) -> tuple[Verdict, ...]:
        """Return the verdicts of the evaluators that need no judge; nothing is counted of them."""
        free = [e for e in self._evaluators.values() if not isinstance(e, AsksJudge)]
        return await self._verdicts(question, attempts, free)

    async def judge_again(self, judged: Sequence[Judged]) -> list[Verdict]:
        """Return the further verdicts of judges that are to repeat theirs, each on a sample of the answers."""
        jobs = []
        for evaluator in self._evaluators.values():
            if isinstance(evaluator, Repeats) and evaluator.repeats > 1:
                answered = [
                    (j.question, a) for j in judged for a in j.attempts if a.error is None and a.response.strip()
                ]
                answered.sort(key=lambda row: row[1].id)
                drawn = Random(f"{self._seed}/repeats").sample(answered, min(evaluator.repeat_sample, len(answered)))
                jobs += [(evaluator, q, a, n) for n in range(1, evaluator.repeats) for q, a in drawn]
        return list(await asyncio.gather(*(self._score(*job) for job in jobs)))

    async def judge_all(self, answered: Sequence[tuple[Question, Sequence[Attempt]]]) -> list[Judged]:
        """Score stored attempts, question by question, in the order given."""

        async def one(question: Question, attempts: Sequence[Attempt]) -> Judged:
            judged = await self.judge(question, attempts)
            self._tracker.advance("question")
            return judged

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(q, a)) for q, a in answered]
        return [t.result() for t in tasks]

    async def evaluate(
        self,
        questions: Sequence[Question],
        meta_memory: MetaMemory | Mapping[str, MetaMemory] | None,
        *,
        stage: str,
        scope: str,
        draws: str,
        attempts: int,
        temperature: float,
    ) -> list[Judged]:
        """Answer and judge every question under one meta-memory, or under one for each by its id; the result is in the
        order of question ids.
        """
        ordered = sorted(questions, key=lambda q: q.id)
        self._tracker.stage(stage, len(ordered), "question")

        made: dict[str, Judged] = {}
        left = iter(ordered)

        async def one_after_another() -> None:
            for question in left:
                learned = meta_memory[question.id] if isinstance(meta_memory, Mapping) else meta_memory
                made[question.id] = await self.attempt(question, learned, scope, attempts, temperature, draws)
                self._tracker.advance("question")

        async with asyncio.TaskGroup() as group:
            for _ in range(min(_AT_ONCE, len(ordered))):
                group.create_task(one_after_another())
        judged = [made[q.id] for q in ordered]
        self._warn(stage, [v for j in judged for v in j.verdicts])
        return judged

    def _warn(self, stage: str, verdicts: Sequence[Verdict]) -> None:
        """Say so when more verdicts are invalid than a comparison bears: a judge that cannot be read is known after the
        first part, not the last.
        """
        invalid = [v for v in verdicts if not v.valid]
        if len(invalid) > MOST_INVALID * len(verdicts):
            sample = f"; a reply of the judge: {invalid[0].raw[:200]!r}" if invalid[0].raw else ""
            self._tracker.note(
                f"{stage}: {len(invalid)} of {len(verdicts)} verdicts are invalid ({invalid[0].reason}){sample}"
            )

    async def asked(self, question: Question, meta_memory: MetaMemory | None) -> tuple[Message, ...]:
        """Return the messages by which `attempt` asks a question under a meta-memory; nothing is sampled."""
        given, chosen = await self._given(question, meta_memory), await self._chosen(question, meta_memory)
        return self._asked(question, given, chosen)[0]

    def prompt(self, question: Question, given: MetaMemory | None = None) -> tuple[tuple[Message, ...], str]:
        """Return the messages that ask a question with all that is given, and the hash of their evidence."""
        messages, _, shown = self._asked(question, given)
        return messages, self._hash(question, shown)

    async def _given(self, question: Question, meta_memory: MetaMemory | None) -> MetaMemory | None:
        """Return the meta-memory with the guidelines alone that the question's prompt shows."""
        if meta_memory is None:
            return None
        if meta_memory.adapter != self._adapter:
            raise ConfigError(
                "meta_memory: its trained weights (an adapter) did not write the memories that the evidence is from"
            )
        if self._recall is None or not meta_memory.guidelines:
            return meta_memory
        return replace(meta_memory, guidelines=tuple(await self._recall.shown(meta_memory, unanswered(question))))

    async def _chosen(self, question: Question, meta_memory: MetaMemory | None) -> tuple[Evidence, ...] | None:
        """Return the evidence that the recall chooses; None where it chooses none."""
        gathered = self._evidence.get(question.id, ())
        if not gathered or meta_memory is None or not isinstance(self._recall, ChoosesEvidence):
            return None
        return tuple(await self._recall.evidence(meta_memory, unanswered(question), gathered))

    def _asked(
        self, question: Question, meta_memory: MetaMemory | None, chosen: tuple[Evidence, ...] | None = None
    ) -> tuple[tuple[Message, ...], tuple[dict[str, Any], ...], tuple[Evidence, ...]]:
        """The messages that ask a question, the tools beside them, and the evidence that they show: of the `chosen`
        evidence (None: of all) what there is room for.
        """
        evidence = self._evidence.get(question.id, ())
        lines: Sequence[str] | None = [render_unit(e.unit) for e in evidence]
        if question.id not in self._hashes:
            self._hashes[question.id] = evidence_hash(evidence, lines)
        if self._room is not None and meta_memory is not None and meta_memory.items:
            evidence, lines = self._room(question, evidence, _learned_lines(meta_memory)), None
        if chosen is not None:
            wanted = {e.unit.id for e in chosen}
            evidence, lines = tuple(e for e in evidence if e.unit.id in wanted), None
        messages, tools = self._render(question, meta_memory, evidence, lines)
        if not evidence or self._fits(messages, tools):
            return messages, tools, evidence
        # The policy's backbone measures prompts: the least relevant evidence goes until what is left fits.
        least_first = sorted(evidence, key=lambda e: -e.rank)
        drop, most = 1, len(evidence)
        while drop < most:
            middle = (drop + most) // 2
            kept = _without(evidence, least_first[:middle])
            fits = self._fits(*self._render(question, meta_memory, kept))
            drop, most = (drop, middle) if fits else (middle + 1, most)
        kept = _without(evidence, least_first[:drop])
        self._count_dropped(question, drop)
        return *self._render(question, meta_memory, kept), kept

    def _hash(self, question: Question, shown: tuple[Evidence, ...]) -> str:
        """The hash of what is shown; that of all the evidence is known."""
        whole = shown is self._evidence.get(question.id)
        return self._hashes[question.id] if whole else evidence_hash(shown)

    def _bank(self, question: Question) -> MemoryBank | None:
        return self._banks.get(question.conversation_id or "")

    def _fits(self, messages: tuple[Message, ...], tools: tuple[dict[str, Any], ...] = ()) -> bool:
        """False when the policy's backbone measures prompts and finds this one too long (`on_overflow`)."""
        if self._policy is None or self._measure is None:
            return True
        return self._measure.overflow(messages, self._policy.sampling(), tools) <= 0

    def _count_searches(self, searches: Sequence[Search]) -> None:
        if searches and self._policy is not None:
            self._policy.counts["searches"] += len(searches)
            self._policy.counts["searches_refused"] += sum(s.result != FOUND for s in searches)

    def _count_dropped(self, question: Question, units: int) -> None:
        if self._policy is None:
            return
        if not self._policy.counts["evidence_dropped"]:
            self._tracker.note(
                f"the prompt of question {question.id} is too long for the model: the {units} least relevant pieces of "
                "its evidence are left out, and so with others; counted as evidence_dropped of the policy's calls"
            )
        self._policy.counts["evidence_dropped"] += units

    def _render(
        self,
        question: Question,
        meta_memory: MetaMemory | None,
        shown: Sequence[Evidence],
        lines: Sequence[str] | None = None,
    ) -> tuple[tuple[Message, ...], tuple[dict[str, Any], ...]]:
        units = list(lines) if lines is not None else [render_unit(e.unit) for e in shown]
        messages = answer_prompt(self._prompts, question, meta_memory, units, self._template)
        return self._searching.offer(messages, self._bank(question), shown) if self._searching else (messages, ())

    async def _verdicts(
        self, question: Question, attempts: Sequence[Attempt], evaluators: Iterable[Evaluator]
    ) -> tuple[Verdict, ...]:
        jobs = [(e, a) for e in evaluators for a in attempts]
        return tuple(await asyncio.gather(*(self._score(e, question, a) for e, a in jobs)))

    async def _score(self, evaluator: Evaluator, question: Question, attempt: Attempt, repeat: int = 0) -> Verdict:
        base = Verdict(attempt.id, question.id, evaluator.name, Status.invalid, repeat=repeat)
        if attempt.error is not None:
            return replace(base, reason=f"no answer: {attempt.error}")
        if not attempt.response.strip():
            return replace(base, status=Status.scored, score=0.0, correct=False, reason="empty reply")
        return await evaluator.evaluate(question, attempt, repeat)


def answer_prompt(
    prompts: Prompts,
    question: Question,
    given: MetaMemory | None,
    lines: Sequence[str],
    template: str = "answer",
) -> tuple[Message, ...]:
    """Return the messages that ask a question; `given` is what of the meta-memory they show, `lines` are the units of
    the evidence, rendered.

    A learned text `answer.NAME` is the template's variable NAME. Raises `ConfigError` where the template has no such.
    """
    learned = {n.removeprefix("answer."): t for n, t in given.texts.items() if n.startswith("answer.")} if given else {}
    if learned:
        places = prompts.variables(template) - {"guidelines", "memories", "question", "date", "instruction"}
        for name in learned.keys() - places:
            raise ConfigError(
                f"meta_memory: {unknown(f'place for a learned text in prompts.{template}', name, places)}"
            )
    return prompts.render(
        template,
        guidelines=list(given.guidelines) if given else [],
        memories=list(lines),
        question=question.text,
        date=format_date(question.date),
        **({"instruction": question.instruction} if question.instruction else {}),
        **learned,
    )


def _learned_lines(given: MetaMemory) -> list[str]:
    """What a prompt shows of a meta-memory: a guideline under its id, a learned text as it is."""
    return [*(f"[{g.id}] {g.text}" for g in given.guidelines), *(text for _, text in sorted(given.texts.items()))]


def _without(evidence: Sequence[Evidence], dropped: Sequence[Evidence]) -> tuple[Evidence, ...]:
    """The evidence in its order, without some of it."""
    gone = {id(e) for e in dropped}
    return tuple(e for e in evidence if id(e) not in gone)
