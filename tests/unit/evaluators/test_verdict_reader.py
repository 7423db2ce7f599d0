"""The verdict reader: what counts as a verdict, what does not, and that wrapping changes nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metamem.replies.verdict_reader import read_verdict

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"

RIGHT = [
    # alone
    "yes",
    "Yes",
    "YES",
    "Yes.",
    "yes!",
    " \n yes \n",
    "**Yes**",
    "**Yes.**",
    "__yes__",
    "*yes*",
    "`yes`",
    "'yes'",
    '"Yes."',
    "“Yes”",
    "(yes)",
    "[yes]",
    "> yes",
    "- Yes",
    "1. Yes",
    "# Yes",
    "```\nyes\n```",
    "```text\nYes\n```",
    "| Yes |",
    "✅ Yes",
    "Y",
    "Yep",
    "Yeah.",
    "yes yes",
    "Yes, yes, yes.",
    "Ｙｅｓ．",
    "yes<|im_end|>",
    "\ufeffyes",
    # labels
    "Answer: yes",
    "**Answer:** Yes",
    "**Verdict:**\n\nYes",
    "Verdict - YES",
    "Verdict — yes",
    "Final answer: yes.",
    "Judgment: Correct",
    "Judgement: correct.",
    "Answer (yes/no): yes",
    "Yes or no: yes",
    "Yes/No: Yes",
    "My final verdict is: yes",
    "Is the response correct: yes",
    "## Final Verdict\n**Yes**",
    "answer=yes",
    "<answer>Yes</answer>",
    "<verdict>yes</verdict>",
    "<b>Yes</b>",
    "Correct: yes",
    # first word
    "Yes. The response says Business Administration.",
    "Yes, the response contains the correct answer.",
    "Yes - the response matches.",
    "Yes because the two are equivalent",
    "Yes the response is correct",
    "Yes, although it adds earlier information.",
    "Yes! It says no such thing is known, which is right.",
    "Yes. The correct response is no, and the model says no.",
    'Yes. The response states: "I cannot determine the name."',
    "Yes. The response says the name is not known.",
    "Well, yes.",
    "Sure! Yes.",
    "Yes, correct.",
    "yes\n\nThe model's response matches the truth.",
    # as words
    "Correct.",
    "**Correct**",
    "Correct, the response names the degree.",
    "Right.",
    "True",
    "Correct because both name May.",
    "The response is correct.",
    "The model's response is correct because it names the degree.",
    "The answer is correct.",
    "The response should be considered correct.",
    "It is correct.",
    "That's right.",
    # final verdict
    "The truth is 8 days and the response says 8 days. Therefore, the answer is **yes**.",
    "The response matches the truth, so yes.",
    "It names the same city so the answer is yes",
    "Step 1: the truth is Rome.\nStep 2: the response says Rome.\n\nYes",
    "The truth says no hamster.\nFinal verdict: yes",
    r"\boxed{yes}",
    r"The final answer is $\boxed{\text{Yes}}$.",
    "Is the response correct? Yes.",
    "Does the response contain the correct answer? Yes, it does.",
    "Does it name the hamster? No. Does it say so? Yes. Verdict: yes",
    "I conclude that the answer is yes.",
    "I would say yes.",
    "The answer is yes",
    "So, the answer is yes. Both name Rome.",
    "I believe the answer is yes.",
    "Based on the above, I would answer: Yes",
    "The two are equivalent, therefore, yes.",
    "It names the degree. So: yes",
    "<|assistant|>Yes",
    "Yes. No further explanation is needed.",
    "Yes, no doubt.",
    "No further comments. Yes.",
    "<reasoning>no</reasoning>yes",
    "The assistant's response is therefore correct.",
    # JSON
    '{"verdict": "yes"}',
    '{"correct": true}',
    '{"correct": 1}',
    '```json\n{"reason": "No mention of a date is needed.", "verdict": "Yes"}\n```',
    'Here is my verdict: {"verdict": "correct"}',
    '{"reason": {"dates": "equal"}, "is_correct": true}',
    '{"verdict": "yes", "reason": "it says',
    "{'verdict': 'yes'}",
    # reasoning
    "<think>The answer is no? No, it matches.</think>Yes",
    "<think>\n\n</think>\n\nyes",
    "Hmm, no, wait. It matches.</think>\n\nYes.",
    "<THINK>no</THINK> yes",
    "[THINK]no[/THINK]yes",
    "<think>the tag </think> ends it, so no</think>\nYes",
]

WRONG = [
    "no",
    "No",
    "NO.",
    "no!",
    "**No**",
    "*No.*",
    "`no`",
    '"no"',
    "(No)",
    "n",
    "Nope.",
    "❌ No",
    "Answer: no",
    "Verdict - NO",
    "Verdict:\n\n**No**",
    "Final verdict: no",
    "The verdict is no.",
    "Answer: No, the date differs.",
    "Result: incorrect",
    "Correct? No.",
    "Correct: no",
    "correct: false",
    "<answer>no</answer>",
    # first word
    "No, the response says yes",
    "No, the response says yes.",
    "No. The response says the answer is yes.",
    'No. The response says "yes, it was in May".',
    'No, the response says: "yes".',
    "No, the response says: yes",
    "No the response does not name the degree",
    "No, because only one of the two is named.",
    "No - the dates differ.",
    "No, this is not correct.",
    "No. The correct answer is yes.",
    "No, I can't find the degree in the response.",
    "No, the response is only partially correct.",
    "No, the response merely says it is unclear.",
    "No; the response is wrong.",
    "No: the response leaves out the second city.",
    "No, wrong.",
    "Actually, no.",
    "no, la respuesta no es correcta",
    # as words
    "Incorrect.",
    "Incorrect, the response names another degree.",
    "Incorrect: the response names another degree.",
    "Incorrect:",
    "Wrong",
    "**False**",
    "Inaccurate.",
    "Not correct.",
    "not correct",
    "Not right.",
    "not true",
    "The response is incorrect.",
    "The response is not correct.",
    "The response isn't correct because it names Paris.",
    "This is not correct.",
    "The response cannot be considered correct.",
    "The answer is wrong.",
    "It's not right.",
    # final verdict
    "The truth is Rome but the response says Paris. So the answer is no.",
    "Yesterday's note is what I know. Final verdict: no",
    "The response names one of the two cities, so no.",
    "It is not contained, thus: no",
    "I'm sorry, the answer is no.",
    "The response does not contain the correct answer, so the answer is no.",
    "Verdict: not correct",
    "Is the response correct? I think not. No.",
    "Therefore, my final judgement is **no**.",
    "If only one is named, the answer is no. One is named, therefore the answer is no.",
    "According to the response, the answer is yes. Verdict: no",
    "The response says yes.\n\nNo",
    r"$\boxed{\text{no}}$",
    r"The response says yes. \boxed{No}",
    "Does it mention Rome? Yes. Does it mention Paris? No. Verdict: no",
    "Model response:\nYes\n\nVerdict: No",
    "<response>yes</response> <verdict>no</verdict>",
    # JSON
    '{"verdict": "no"}',
    '{"correct": false}',
    '{"Verdict": "NO", "explanation": "yes would need the date"}',
    '[{"verdict": "Incorrect"}]',
    'Some prose with {braces}. {"correct": false}',
    # reasoning
    "<think>yes</think>no",
    "It says yes, so yes.\n</think>\n\nNo.",
    "<think>Yes</think>\n**No**",
    "No <think>yes</think>",
]

UNREADABLE = [
    # empty and without a verdict
    "",
    "   \n\t",
    "...",
    "**",
    "?",
    "42",
    "N/A",
    "none",
    "null",
    "{}",
    "{",
    "}{",
    '{"score": 0.7}',
    '{"verdict": "maybe"}',
    '{"hallucination": true}',
    "The response names Business Administration.",
    "The correct answer is Business Administration.",
    "The response contains the correct answer",
    # words that only look like verdicts
    "yesterday",
    "I know",
    "Note the date.",
    "nothing",
    "Yesterday was fine.",
    "Knowing this, note it.",
    "no-one",
    "No one said so.",
    "No mention of a hamster was made",
    "No longer",
    "Right, let me look at the response first",
    "The right answer is blue",
    "A true story",
    "yes-man",
    # contradictory
    "Yes and no",
    "Yes and no.",
    "yes/no",
    "Yes or no",
    "yes or no?",
    "Yes, no",
    "Yes. No.",
    "No, wait, yes.",
    "Yes... no",
    "yes but no",
    "no yes",
    "Yes. The response is incorrect.",
    "No, the response is correct.",
    "Verdict: yes\nVerdict: no",
    "Yes.\nNo.\nYes.",
    "Verdict: partially correct",
    "A: CORRECT\nB: INCORRECT",
    "I do not think the response is correct.",
    "It is not the case that the response is correct",
    "Yes.\n\nFinal verdict: no",
    '{"correct": true, "verdict": "no"}',
    '{"correct": true, "correct": false}',
    "Neither yes nor no.",
    "Answer yes or no",
    # hedged
    "Yes?",
    "Maybe.",
    "Maybe yes",
    "Probably yes.",
    "Yes, probably.",
    "Yes, partially.",
    "Yes (partially)",
    "Yes partially",
    "Partially correct.",
    "The response is partially correct.",
    "The response is correct, but incomplete.",
    "Not entirely correct",
    "It depends.",
    "I cannot determine",
    "I cannot determine whether the response is correct.",
    "Yes, but I am not sure.",
    "If the date counts, the answer is no.",
    "If yes, then good",
    # negated negations
    "is not incorrect",
    "The response is not incorrect.",
    "Not wrong.",
    "not false",
    "not yes",
    # quotations
    "The response says yes",
    "The response: no",
    "Response: yes",
    "Correct answer: yes",
    "Expected: yes, got: no",
    "The response says, no.",
    'The response is "No, I do not".',
    "According to the response, the answer is yes.",
    "Options: yes, no",
    "The answer is yes, and the response says no.",
    "The answer is no. The response says no",
    # refusals
    "I'm sorry, but I can't help with that.",
    "I cannot assist with this request.",
    "As an AI model I do not judge people.",
    "No, I cannot help with that.",
    # other languages alone
    "Sí",
    "Sí, la respuesta es correcta.",
    "Oui",
    "Ja.",
    "Nein",
    "Нет",
    "はい",
    "いいえ。",
    "是",
    "不是",
    "아니요",
    "نعم",
    # verdicts inside unfinished reasoning
    "<think>",
    "<think>Yes",
    "<think>The answer is yes. Verdict: yes",
    "Yes <think> but then again",
    "<think>a</think><think>yes",
    "[THINK]yes",
    "<think>yes</think>",
    "yes</think>",
]

TABLE = [(t, True) for t in RIGHT] + [(t, False) for t in WRONG] + [(t, None) for t in UNREADABLE]


@pytest.mark.parametrize(("reply", "expected"), TABLE, ids=[repr(t)[:50] for t, _ in TABLE])
def test_reply_reads_as_a_person_would_read_it(reply: str, expected: bool | None) -> None:
    assert read_verdict(reply) is expected


def test_table_holds_at_least_a_hundred_different_replies() -> None:
    assert len({reply for reply, _ in TABLE}) == len(TABLE) >= 100


CLEAR = st.sampled_from(
    [
        ("yes", True),
        ("No", False),
        ("Yes.", True),
        ("Incorrect.", False),
        ("No, the response says yes", False),
        ("Verdict: yes", True),
        ("Therefore, the answer is no.", False),
        ('{"correct": true}', True),
    ]
)
SPACE = st.text(" \n\t", max_size=5)
FRAMES = st.sampled_from(["{}", "**{}**", "*{}*", "`{}`", "```\n{}\n```", "> {}", "- {}", "__{}__", "({})"])
REASONING = st.one_of(st.just(""), st.text(max_size=80).map(lambda t: f"<think>{t.replace('think', '')}</think>"))


@given(CLEAR, SPACE, SPACE, FRAMES, REASONING)
def test_wrapping_a_clear_verdict_does_not_change_it(
    clear: tuple[str, bool], before: str, after: str, frame: str, reasoning: str
) -> None:
    reply, expected = clear
    assert read_verdict(reasoning + before + frame.replace("{}", reply) + after) is expected


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert read_verdict(text) in (True, False, None)


PIECES = [
    "yes",
    "no",
    "not",
    "correct",
    "wrong",
    "the answer is",
    "<think>",
    "</think>",
    "{",
    "}",
    '"',
    ":",
    "?",
    ".",
    "\n",
]
PIECES += [
    ",",
    " ",
    "-",
    "verdict",
    "if",
    "so",
    "and",
    "\\boxed{",
    "<verdict>",
    "</verdict>",
    "é",
    "是",
    "says",
    "*",
    "(",
    "=",
]


@settings(max_examples=400)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_any_mixture_of_what_it_looks_for_is_read_without_an_error(text: str) -> None:
    assert read_verdict(text) in (True, False, None)


@given(st.text(), st.sampled_from(["<think>", "<thinking>", "[THINK]"]))
def test_nothing_is_read_after_reasoning_that_never_ends(text: str, opener: str) -> None:
    assert read_verdict(opener + text.replace("think", "").replace("THINK", "") + " Verdict: yes") is None


HUNDRED_KB = [
    *(
        "a ",
        "<",
        ">",
        "{",
        "}",
        '{"a":',
        "[",
        '"',
        '" ',
        "yes ",
        "no ",
        "yes, ",
        "no. ",
        "so ",
        "the ",
        "so the answer is ",
    ),
    *(
        "thus the final ",
        ": \n",
        ":\t",
        "\n",
        " ",
        "-",
        " - ",
        "<think>",
        "</think>",
        "<think></think>",
        "not ",
        "if ",
        "\\boxed{",
    ),
    *(
        "```",
        "*",
        "says ",
        "is correct ",
        "the response is ",
        "1 ",
        "and ",
        "no yes ",
        "?",
        "yes? ",
        "'a",
        "a-",
        "(",
        "<verdict>",
    ),
    *("{}", "{ } ", '{"verdict": "yes"} ', "ﬁ", "̣̇", "i cannot ", "wait ", "final ", ". " * 3, "\\text", "\\f", ":*\t"),
]


@pytest.mark.parametrize("piece", HUNDRED_KB, ids=repr)
def test_a_hundred_kilobytes_of_anything_are_read_in_linear_time(piece: str) -> None:
    began = time.process_time()
    read_verdict(piece * (100_000 // len(piece)) + " Verdict: yes")
    # A quadratic reader needs minutes here; the bound leaves room for a slow machine.
    assert time.process_time() - began < 2.0


def test_a_verdict_at_the_end_of_a_long_explanation_is_found() -> None:
    assert read_verdict("The response names a city and a date. " * 3000 + "\n\nFinal verdict: no") is False


@pytest.mark.parametrize("system", ["rag", "cm"])
def test_published_replies_read_as_their_published_verdicts(system: str) -> None:
    path = SHARED / f"longmemeval_judged_{system}_500.json"
    if not path.exists():
        pytest.skip(f"the public judged answers are not here: {path.name}")
    rows = json.loads(path.read_text(encoding="utf-8"))["per_question"]
    different = [
        (row["judge_raw"], row["correct"]) for row in rows if read_verdict(row["judge_raw"]) is not row["correct"]
    ]
    assert len(rows) == 500
    assert different == []
