"""The metrics of streamed sources equal hand-worked tables and the library that defines one."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from metamem.core.calls import Generation, Request, Sampling
from metamem.core.contracts import Reply
from metamem.core.errors import ConfigError
from metamem.core.learned import Judged
from metamem.core.records import Attempt, Question, Status, Verdict
from metamem.core.registry import REGISTRY, load_components
from metamem.evaluators.rubrics import MetaMemRubric
from metamem.evaluators.source_metrics import (
    Rouge,
    final_answer,
    keyword_share,
    label_match,
    part_share,
    recall_at,
    rouge,
)
from metamem.pipeline.roles import judged_questions
from metamem.statistics.instances import with_instances
from metamem.statistics.streams import StreamScore, averages, rows_of, sizes

load_components()


def verdict(name: str, response: str, source: str, *answers: str, **more: Any) -> Verdict:
    about = {"type": more.pop("type")} if "type" in more else {}
    question = Question("q", "?", source, answers, abstention=more.pop("abstention", False), about=about)
    evaluator = REGISTRY.build("evaluator", {"name": name, **more.pop("options", {})}, **more)
    found: Verdict = asyncio.run(evaluator.evaluate(question, Attempt("a", "q", "s", 0, response)))
    return found


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("It may be 3 or 4.\nAnswer: 7", "7"),
        ("**Answer:** Rome", "Rome"),
        ("Answer: Oslo\nOn reflection:\nANSWER: Rome, Italy.", "Rome, Italy."),
        ("so it is \\boxed{Rome}", "Rome"),
        ("\\boxed{a} then \\boxed{b}", "b"),
        ("just Rome ", "just Rome"),
        ("My answer: none of the facts", "My answer: none of the facts"),
        ("Answer:\n1. Heat\n2. Alien", "1. Heat\n2. Alien"),
        ("Answer: ", ""),
        ("", ""),
    ],
)
def test_the_final_answer_is_what_counts(response: str, answer: str) -> None:
    assert final_answer(response) == answer


@pytest.mark.parametrize(
    ("response", "gold", "score"),
    [
        ("7", "7", 1),
        (" '7' ", "7", 1),
        ("label: 7", "7", 0),
        ("7.0", "7", 0),
        ("07", "7", 0),
        ("7.", "7", 0),
        ("", "7", 0),
    ],
)
def test_a_label_is_digits_and_nothing_else(response: str, gold: str, score: float) -> None:
    assert label_match(response, gold) == score


@pytest.mark.parametrize(
    ("response", "golds", "score"),
    [
        ("Ann met BO in Rome", ("ann, bo, oslo",), 2 / 3),
        ("Ann met Bo", ("Ann", "Bo"), 1.0),
        ("Ann, Bo", ("Ann, Bo", "Cy"), 0.5),
        ("nobody", ("ann, bo",), 0.5),  # as the definition has it: contained, not a word
        ("none", ("ann, bo",), 0.0),
        ("", ("ann",), 0.0),
        ("x", (", ",), 0.0),
    ],
)
def test_key_words_count_by_their_share(response: str, golds: tuple[str, ...], score: float) -> None:
    assert keyword_share(response, golds) == pytest.approx(score)


@pytest.mark.parametrize(
    ("response", "gold", "score"),
    [
        ("her mother; Oslo", "Oslo; her mother", 1.0), ("Oslo", "Oslo;Rome", 0.5), ("OSLO", "oslo", 1.0),
        ("", "a;b", 0.0), ("a", " ; ", 0.0),
    ],
)  # fmt: skip
def test_parts_count_by_their_share(response: str, gold: str, score: float) -> None:
    assert part_share(response, gold) == score


@pytest.mark.parametrize(
    ("response", "golds", "score"),
    [
        ("1. Heat (1995)\n2. Alien\n3. Up", ("Heat", "Up"), 1.0),
        ("Heat, Alien, Up", ("alien", "Jaws"), 0.5),
        ("a\nb\nc\nd\ne\nHeat", ("Heat",), 0.0),
        ("a\nb\nc\nd\nHeat", ("Heat",), 1.0),
        ("- **Heat**\n- Up", ("Heat",), 1.0),
        ("Heat wave", ("Heat",), 0.0),
        ("", ("Heat",), 0.0),
    ],
)
def test_recall_is_the_share_of_the_answers_among_the_first_five(
    response: str, golds: tuple[str, ...], score: float
) -> None:
    assert recall_at(response, golds) == score


@pytest.mark.parametrize("kind", list(Rouge))
def test_rouge_is_the_librarys(kind: Rouge) -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer([kind.value], use_stemmer=True)
    gold, reply = "the cats sat on the mat and slept", "a cat was sitting on the mat"
    assert rouge(reply, gold, kind) == pytest.approx(scorer.score(gold, reply)[kind.value].fmeasure)


def test_rouge_by_hand() -> None:
    pytest.importorskip("rouge_score")
    # 3 of 4 words shared in order, of 4 and of 6: P 3/4, R 3/6, F 0.6.
    assert rouge("red green blue white", "red x green y blue z") == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("source", "response", "gold", "score"),
    [
        ("squad", "It was Oslo.", "Oslo", 1.0),
        ("hotpotqa", "Answer: Rome", "Oslo", 0.0),
        ("factconsolidation_mh_6k", "I think of Oslo.\nAnswer: Rome", "Oslo", 0.0),
        ("pubmed-rct", "Facts 1 and 2.\nAnswer: 4", "4", 1.0),
        ("icl_nlu_8296shot_balance", "4 or 5", "4", 0.0),
        ("icl_nlu_8296shot_balance", "It is 5, no: \\boxed{4}", "4", 1.0),
        ("ttl_train", "label: 4", "4", 0.0),
        ("eventqa_full", "She winds the Clock", "winds the clock", 1.0),
        ("perltqa", "Oslo", "Oslo;Rome", 0.5),
        ("infbench_sum_eng_shots2", "Ann went", "ann, bo", 0.5),
        ("recsys_redial_full", "Heat\nUp", "Heat", 1.0),
        ("detective_qa", "B", "B", 1.0),
        ("detective_qa", "B because", "B", 0.0),
        ("something else", "in Oslo", "Oslo", 1.0),
    ],
)
def test_each_source_has_its_metric(source: str, response: str, gold: str, score: float) -> None:
    found = verdict("by_source", response, source, gold)
    assert (found.score, found.correct, found.evaluator) == (score, score >= 0.5, "by_source")


@pytest.mark.parametrize("name", ["label_match", "keyword_share", "part_share", "recall_at_5", "by_source"])
def test_the_best_accepted_answer_counts_and_abstention_is_saying_so(name: str) -> None:
    if name in ("label_match", "part_share"):
        assert verdict(name, "4", "x", "3", "4").score == 1.0
    assert verdict(name, "That is not known.", "x", "3", abstention=True).score == 1.0
    assert verdict(name, "3", "x", "3", abstention=True).score == 0.0
    assert not verdict(name, "3", "x").valid


def test_a_judged_source_goes_to_the_judge_under_the_metrics_own_name() -> None:
    asked: list[Request] = []

    class Judge:
        label = "judge"

        def sampling(self) -> Sampling:
            return Sampling()

        async def __call__(self, request: Request) -> list[Reply]:
            asked.append(request)
            return [Reply("k", Generation("yes"))]

    rubric = MetaMemRubric(MetaMemRubric.Config())
    found = verdict("by_source", "Oslo", "longmemeval_s*", "Oslo", judge=Judge(), rubric=rubric)
    assert (found.score, found.evaluator, found.judge) == (1.0, "by_source", "judge")
    typed = verdict("by_source", "Oslo", "longmemeval_s*", "Oslo", judge=Judge(), rubric=rubric, type="multi-session")
    assert typed.valid
    # By the type that the data gives, else leniently, as Mem-α judges.
    assert ["suited to the user" in r.messages[0].content for r in asked] == [True, False]
    assert "several conversations" in asked[1].messages[0].content
    with pytest.raises(ConfigError, match="questions of lme_train need a judge"):
        verdict("by_source", "Oslo", "lme_train", "Oslo")


def test_a_judge_is_needed_only_for_judged_sources() -> None:
    questions = [Question("a", "?", "squad", ("x",)), Question("b", "?", "lme_train", ("x",))]
    config: Any = SimpleNamespace
    assert judged_questions(config(evaluator={"exact_match": None}), questions) == []
    judged = judged_questions(config(evaluator={"by_source": None}), questions)
    assert [q.id for q in judged] == ["b"]
    assert set(questions) <= set(judged_questions(config(evaluator={"by_source": None, "llm_judge": None}), questions))
    MetaMemRubric(MetaMemRubric.Config()).check(judged)


def test_averages_weigh_sources_alike_and_leave_conflict_resolution_beside() -> None:
    scored = [
        StreamScore("squad", 1.0),
        StreamScore("squad", 0.0),
        StreamScore("icl_nlu", 1.0),
        StreamScore("hotpotqa", 0.0),
    ]
    found = averages([*scored, StreamScore("factconsolidation_sh_6k", 0.25)])
    assert found["sources"] == {"factconsolidation_sh_6k": 0.25, "hotpotqa": 0.0, "icl_nlu": 1.0, "squad": 0.5}
    assert found["competencies"] == {
        "accurate retrieval": 0.25,
        "conflict resolution": 0.25,
        "test-time learning": 1.0,
    }
    assert (found["average"], found["conflict_resolution"]) == (0.5, 0.25)
    assert averages([])["average"] is None


def test_averages_by_instance_weigh_contexts_alike_then_sources() -> None:
    def judged(source: str, group: str, *scores: float | None) -> Judged:
        question = Question(f"{source}{group}{len(scores)}", "?", source, ("x",), group=group)
        made = [Verdict("a", "q", "e", Status.invalid if s is None else Status.scored, s or 0.0) for s in scores]
        return Judged(question, (), (), tuple(made), False)

    one = [judged("squad", "a", 1.0), judged("squad", "a", 1.0, None), judged("squad", "b", 0.0, 0.5)]
    streams = with_instances({"without": {"average": 9.0}}, {"without": [*one, judged("icl_nlu", "c", 1.0)]})
    found = streams["without"]["per_instance"]
    assert found["sources"] == {"icl_nlu": 1.0, "squad": ((1 + 0.5) / 2 + 0.25) / 2}
    assert (found["average"], streams["without"]["average"]) == (0.75, 9.0)


def test_sizes_are_means_over_banks() -> None:
    found = sizes([{"memory_tokens": 10, "input_tokens": 100}, {"memory_tokens": 60, "input_tokens": 40}, {}])
    assert found == {"memory_tokens": 35.0, "input_tokens": 70.0, "compression": pytest.approx((0.9 - 0.5) / 2)}
    assert sizes([]) == {"memory_tokens": None, "input_tokens": None, "compression": None}


def test_a_result_becomes_a_row_with_averages_and_the_memorys_size() -> None:
    cells = {"squad": {"score": 0.5}, "icl_nlu": {"score": 1.0}, "factconsolidation_sh_6k": {"score": 0.25}}
    result = {
        "reward": "by_source",
        "figures": {"by_source": {"without": {"by_type": cells}}},
        "memory": {"conversations": 2, "counts": {"memory_tokens": 40, "input_tokens": 200}},
    }
    (row,) = rows_of({"a run": result})
    assert row == {
        "run": "a run",
        "system": "without",
        "average": 0.75,
        "conflict_resolution": 0.25,
        "memory_tokens": 20.0,
        "compression": 0.8,
        "accurate retrieval": 0.5,
        "conflict resolution": 0.25,
        "test-time learning": 1.0,
        "factconsolidation_sh_6k": 0.25,
        "icl_nlu": 1.0,
        "squad": 0.5,
    }
    (row,) = rows_of({"cut only": {**result, "memory": None}})
    assert row["memory_tokens"] is None
