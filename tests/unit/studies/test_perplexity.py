"""What an analysis of perplexity takes of a run: its texts, its evidence, its guidelines; and whom it refuses."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from metamem.config.options import EvalConfig
from metamem.core.checkpoints import save
from metamem.core.errors import DataError
from metamem.core.json_form import digest, to_json
from metamem.core.meta_memory import MetaMemory, from_texts
from metamem.core.records import Attempt, Evidence, MemoryUnit, Question
from metamem.core.registry import build, load_components
from metamem.core.text import render_unit
from metamem.pipeline.bench import answer_prompt
from metamem.programs.perplexity import texts_of
from metamem.programs.stored_answers import StoredSystem, answered_from, options_then, prompts_again, read_stored
from metamem.retrieval.evidence import evidence_hash

load_components()
QUESTION = Question("q1", "Where is the key?", "single", ("In the box.", "the box"), datetime(2024, 3, 1))
EVIDENCE = tuple(Evidence(MemoryUnit(f"u{i}", f"memory {i}"), 1.0 - i / 9, i) for i in (2, 0, 3, 1))


def attempt(scope: str, response: str = "It is in the box.", made: MetaMemory | None = None, **more: Any) -> Attempt:
    name = scope.split("/")[-1]
    given = (made or MetaMemory()).hash
    return Attempt(f"{scope}#0", name, scope, 0, response, meta_memory_hash=given, **more)


def run(place: Path, attempts: list[Attempt], result: dict[str, Any], **config: Any) -> Path:
    """A run's directory with nothing in it but what is read here, and a checkpoint for every step to 2."""
    place.mkdir()
    (place / "attempts.jsonl").write_text("".join(json.dumps(to_json(a)) + "\n" for a in attempts))
    (place / "result.json").write_text(json.dumps({"format": 1, **result}))
    (place / "config.json").write_text(json.dumps(config))
    for step in range(3):
        save(learned(step), place / "checkpoints" / f"step_{step:04d}.json")
    return place


def learned(step: int) -> MetaMemory:
    return from_texts([f"Rule {i}." for i in range(step)])


def test_failed_and_empty_replies_and_missing_answers_are_named_and_never_scored() -> None:
    attempts = [
        attempt("test/best/q1"),
        attempt("test/best/q1", " \n"),
        attempt("test/best/q1", "", error="the server is down"),
    ]
    assert [(t.what, t.left_out) for t in texts_of(QUESTION, attempts)] == [
        ("own output", ""),
        ("own output", "empty reply"),
        ("own output", "failed attempt"),
        ("reference answer", ""),
    ]
    unanswered = Question("q2", "Who?", "single", ())
    assert [t.left_out for t in texts_of(unanswered, [])] == ["no reference answer"]


def test_the_reference_is_the_first_of_the_accepted_answers() -> None:
    (reference,) = texts_of(QUESTION, [])
    assert reference.text == "In the box."


@pytest.mark.parametrize("kept", [4, 3, 1, 0])
def test_the_evidence_of_an_attempt_is_found_again_also_where_the_least_relevant_was_left_out(kept: int) -> None:
    shown = tuple(e for e in EVIDENCE if e.rank < kept)
    assert answered_from(EVIDENCE, evidence_hash(shown)) == shown


def test_other_evidence_is_not_taken_for_that_of_an_attempt() -> None:
    assert answered_from(EVIDENCE, evidence_hash(EVIDENCE[::-1])) is None


def test_the_prompt_that_was_answered_is_found_again_with_and_without_its_guidelines() -> None:
    prompts, made = build("prompts", {"name": "default"}), learned(2)
    lines = [render_unit(e.unit) for e in EVIDENCE]
    guided = answer_prompt(prompts, QUESTION, made, lines)
    hashes = {"evidence_hash": evidence_hash(EVIDENCE), "prompt_hash": digest(guided)}
    system = StoredSystem("best", made, {"q1": (attempt("test/best/q1", made=made, **hashes),)})
    assert prompts_again(prompts, QUESTION, EVIDENCE, system) == (answer_prompt(prompts, QUESTION, None, lines), guided)
    other = StoredSystem("best", learned(1), system.attempts)
    assert prompts_again(prompts, QUESTION, EVIDENCE, other) is None
    assert prompts_again(prompts, QUESTION, EVIDENCE[1:], system) is None


def test_a_training_s_systems_have_the_guidelines_of_their_steps(tmp_path: Path) -> None:
    attempts = [
        attempt("test/without/q1"),
        attempt("test/best/q1", made=learned(1)),
        attempt("test/last/q1", made=learned(2)),
        attempt("test/step-1/q1", made=learned(1)),
        *(attempt(f"validation/{i}/q1", made=learned(i)) for i in range(3)),
        *(attempt(f"train/{i}/q1", made=learned(i - 1)) for i in (1, 2)),
    ]
    systems = [{"label": n} for n in ("without", "best (step 1)", "last (step 2)", "step-1")]
    place = run(tmp_path / "run", attempts, {"kind": "train", "best_step": 1, "steps": 2, "systems": systems})

    def found(part: str) -> list[tuple[str, int | None, int | None]]:
        stored = read_stored(place, part, "perplexity").systems
        return [(s.label, s.step, None if s.meta_memory is None else len(s.meta_memory)) for s in stored]

    assert found("test") == [
        ("without", None, None),
        ("best (step 1)", 1, 1),
        ("last (step 2)", 2, 2),
        ("step-1", 1, 1),
    ]
    assert found("validation") == [("step 0", 0, 0), ("step 1", 1, 1), ("step 2", 2, 2)]
    assert found("train") == [("step 1", 0, 0), ("step 2", 1, 1)]


def test_refused_steps_are_left_out_and_said_so(tmp_path: Path) -> None:
    attempts = [attempt("validation/0/q1"), attempt("validation/1/q1", made=learned(2))]
    place = run(tmp_path / "run", attempts, {"kind": "train", "steps": 1, "systems": [], "rejected_steps": [1]})
    stored = read_stored(place, "validation", "perplexity")
    assert [s.label for s in stored.systems] == ["step 0"]
    assert "step 1" in stored.notes[0] and "refused" in stored.notes[0]


def test_an_evaluation_s_systems_have_the_guidelines_that_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "two.json"
    save(learned(2), path)
    attempts = [attempt("test/0/q1"), attempt("test/1/q1", made=learned(2))]
    result = {"kind": "eval", "systems": [{"label": "without"}, {"label": "two"}]}
    place = run(tmp_path / "run", attempts, result, meta_memory=[None, str(path)])
    assert [s.meta_memory and len(s.meta_memory) for s in read_stored(place, "test", "perplexity").systems] == [None, 2]
    save(learned(1), path)
    with pytest.raises(DataError, match="'two' of .* was answered with guidelines that are not there any more"):
        read_stored(place, "test", "perplexity")


def test_what_is_no_finished_run_that_answered_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"perplexity: .* holds no attempts.jsonl"):
        read_stored(tmp_path, "test", "perplexity")
    place = run(tmp_path / "run", [attempt("test/0/q1")], {"kind": "eval", "systems": []}, **{"from": "that/run"})
    with pytest.raises(DataError, match="give that run, that/run"):
        read_stored(place, "test", "perplexity")
    (place / "config.json").write_text('{"search": {"calls": 3}}')
    with pytest.raises(DataError, match=r"search.calls=3"):
        read_stored(place, "test", "perplexity")
    (place / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"no attempts for part=train; it has test"):
        read_stored(place, "train", "perplexity")
    (place / "result.json").unlink()
    with pytest.raises(DataError, match="is not finished"):
        read_stored(place, "test", "perplexity")


def test_the_options_that_led_to_other_prompts_are_named_as_they_are_typed(tmp_path: Path) -> None:
    then = {"retriever": {"name": "dense", "k": 3}, "evidence": {"budget": None}, "seed": 7}
    stored = read_stored(
        run(tmp_path / "run", [attempt("test/0/q1")], {"kind": "eval", "systems": []}, meta_memory=None, **then),
        "test",
        "perplexity",
    )
    retriever = build("retriever", {"name": "bm25", "k": 20}, embedder=None, store=None).config
    config = EvalConfig(retriever=retriever, seed=7)
    assert options_then(stored, config) == "Its options were retriever=dense retriever.k=3"
