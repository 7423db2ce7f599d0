"""Perplexity against numbers worked by hand, and what must hold of its averages, intervals and verdicts."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metamem.statistics.estimate import Observations, mean_of
from metamem.statistics.perplexity import OWN, WITH, WITHOUT, Text, decide, figures, paired, perplexity, sentence


def text(question: str, tokens: int, without: float, guided: float | None = None, **more: Any) -> Text:
    return Text(question, more.pop("group", question), tokens, without, guided, **more)


def many(count: int, seed: int = 0) -> list[Text]:
    rng = random.Random(seed)
    made = []
    for i in range(count):
        tokens = rng.randint(1, 40)
        without = -tokens * rng.uniform(1, 5)
        made.append(text(f"q{i}", tokens, without, without + tokens * rng.gauss(0.1, 0.5), group=f"g{i // 2}"))
    return made


def row(name: str, condition: str, tokens: int = 2, mean: float | None = -1.0, left_out: str = "") -> dict[str, Any]:
    about = {"question_id": name, "group": name, "what": OWN, "text": f"{name}#0", "given": condition}
    return {**about, "tokens": tokens, "log_probability": mean, "left_out": left_out}


def test_a_fair_coin_has_perplexity_two_however_often_it_is_thrown() -> None:
    assert perplexity(math.log(1 / 2), 1) == pytest.approx(2)
    assert perplexity(10 * math.log(1 / 2), 10) == pytest.approx(2)


def test_a_token_beyond_all_probability_has_a_perplexity_that_json_can_hold() -> None:
    assert perplexity(-1e9, 1) == pytest.approx(math.exp(700))


def test_the_corpus_weighs_by_tokens_and_the_average_question_does_not() -> None:
    # Two tokens of 1/2 each, and one of 1/16: (4 · 16)^(1/3) = 4 over all tokens, √(2 · 16) = √32 over questions.
    cell = figures([text("a", 2, math.log(1 / 4)), text("b", 1, math.log(1 / 16))])
    assert (cell["texts"], cell["questions"], cell["tokens"]) == (2, 2, 3)
    assert cell["without"]["perplexity"] == pytest.approx(4)
    assert cell["without"]["mean_perplexity"] == pytest.approx(math.sqrt(32))
    assert cell["without"]["log_probability"] == pytest.approx(-math.log(4))
    assert cell["with"] is None and cell["difference"] is None


def test_the_difference_is_between_the_same_texts() -> None:
    # With guidelines the first text's tokens have 1 each: (16)^(1/3) against 4.
    cell = figures([text("a", 2, math.log(1 / 4), 0.0), text("b", 1, math.log(1 / 16), math.log(1 / 16))])
    assert cell["with"]["perplexity"] == pytest.approx(16 ** (1 / 3))
    assert cell["difference"]["ratio"] == pytest.approx(16 ** (1 / 3) / 4)
    assert cell["difference"]["perplexity"] == pytest.approx(16 ** (1 / 3) - 4)
    assert cell["difference"]["log_probability"] == pytest.approx(math.log(4) / 3)


def test_the_attempts_at_a_question_are_one_question() -> None:
    apart = [text("a", 3, -2.0, -1.0), text("a", 1, -4.0, -3.0), text("b", 2, -1.0, -1.5)]
    together = [text("a", 4, -6.0, -4.0), text("b", 2, -1.0, -1.5)]
    one, other = figures(apart), figures(together)
    assert one.pop("texts") == 3 and other.pop("texts") == 2
    assert one == other


def test_nothing_scored_gives_none_and_no_number() -> None:
    cell = figures([])
    assert cell["texts"] == cell["tokens"] == 0
    assert cell["without"] is cell["with"] is cell["difference"] is None
    assert sentence(decide([cell])[0]) == "nothing could be scored"


def test_few_groups_show_no_difference() -> None:
    (cell,) = decide([figures([text(f"q{i}", 5, -9.0, -1.0, group=f"g{i % 5}") for i in range(30)])])
    assert cell["difference"]["interval"] is None
    assert cell["difference"]["verdict"] == "no difference shown"
    (cell,) = decide([figures([text(f"q{i}", 5, -9.0, -1.0, group=f"g{i % 6}") for i in range(30)])])
    assert cell["difference"]["interval"] is not None


def test_a_change_that_every_text_shares_is_shown_with_itself_as_its_interval() -> None:
    texts = [text(f"q{i}", i + 1, -2.0 * (i + 1), -1.5 * (i + 1)) for i in range(20)]
    (cell,) = decide([figures(texts)])
    assert cell["difference"]["interval"] == pytest.approx([math.exp(-0.5)] * 2)
    assert cell["difference"]["verdict"] == "lower"
    worse = [Text(t.question_id, t.group, t.tokens, t.guided or 0.0, t.without) for t in texts]
    assert decide([figures(worse)])[0]["difference"]["verdict"] == "higher"


def test_intervals_hold_their_figures_and_the_difference_reckons_with_pairs() -> None:
    cell = figures(many(80))
    for given_ in ("without", "with"):
        found = cell[given_]
        assert found["interval"][0] < found["perplexity"] < found["interval"][1]
        assert found["mean_interval"][0] < found["mean_perplexity"] < found["mean_interval"][1]
    low, high = cell["difference"]["interval"]
    assert low < cell["difference"]["ratio"] < high
    (a, b), (c, d) = cell["without"]["interval"], cell["with"]["interval"]
    assert high / low < (d / a) / (c / b), "the texts are the same, so their own spread cancels"


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_texts_changes_nothing(rng: random.Random) -> None:
    texts = many(14)
    shuffled = rng.sample(texts, len(texts))
    one, other = figures(texts), figures(shuffled)
    for given_ in ("without", "with", "difference"):
        for key, value in one[given_].items():
            assert other[given_][key] == pytest.approx(value)


def test_verdicts_are_corrected_over_their_table_and_equal_prompts_are_no_comparison() -> None:
    cells = [figures(many(40, seed)) for seed in range(4)]
    same = figures([text(f"q{i}", 3, -4.0, -4.0) for i in range(20)])
    alone = [decide([c])[0]["difference"]["p_holm"] for c in cells]
    table = decide([*cells, same])
    assert [c["difference"]["p_holm"] >= p for c, p in zip(table, alone, strict=False)] == [True] * 4
    assert min(c["difference"]["p_holm"] for c in table[:4]) == pytest.approx(min(1.0, 4 * min(alone)))
    assert table[-1]["difference"]["ratio"] == 1
    assert table[-1]["difference"]["verdict"] == "no difference shown"


def test_rows_become_texts_with_both_conditions_or_with_the_one_there_is() -> None:
    texts, left_out = paired([row("a", WITHOUT), row("a", WITH, mean=-0.5), row("b", WITHOUT, tokens=5)], "run")
    assert texts == [Text("a", "a", 2, -2.0, -1.0, "run"), Text("b", "b", 5, -5.0, None, "run")]
    assert left_out == {}


def test_a_text_that_lacks_a_condition_counts_in_none_and_is_counted_by_its_reason() -> None:
    gone = {"tokens": 0, "mean": None}
    rows = [
        *(row("a", WITHOUT), row("a", WITH, left_out="not scored", **gone)),
        *(row("b", c, left_out="empty reply", **gone) for c in (WITHOUT, WITH)),
        *(row("c", c, left_out="empty reply", **gone) for c in (WITHOUT, WITH)),
        *(row("d", c) for c in (WITHOUT, WITH)),
    ]
    texts, left_out = paired(rows)
    assert [t.question_id for t in texts] == ["d"]
    assert left_out == {"empty reply": 2, "not scored": 1}


def test_a_weight_of_two_is_an_observation_made_twice() -> None:
    values, weights, groups = [1.0, 4.0, 2.0, 8.0, 3.0, 5.0, 0.0], [2, 1, 1, 3, 1, 1, 2], list("abcdefg")
    repeated = [i for i, n in enumerate(weights) for _ in range(n)]
    weighted = mean_of(Observations(values, groups, weights=weights))
    spread_out = mean_of(Observations([values[i] for i in repeated], [groups[i] for i in repeated]))
    assert weighted.point == pytest.approx(spread_out.point)
    assert weighted.variance == pytest.approx(spread_out.variance)
