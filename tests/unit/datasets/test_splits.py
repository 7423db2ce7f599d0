from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamem.core.contracts import Split
from metamem.core.errors import ConfigError, DataError
from metamem.core.records import Question
from metamem.datasets.balance import draw, grouped, quotas, stratum
from metamem.datasets.splits import (
    Everything,
    FromFile,
    KFold,
    MetaMemPublished,
    Reference,
    Stream,
    StreamOrder,
    save_split,
    split_hash,
)

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"
TYPES = ["multi-session", "temporal-reasoning", "knowledge-update"]


def question(number: int, type: str = "multi-session", group: str = "", abstention: bool = False) -> Question:
    return Question(f"q{number:04d}", "?", type, ("a",), group=group, abstention=abstention)


@st.composite
def question_sets(draw_: st.DrawFn, groups: int = 8) -> list[Question]:
    """At least `groups` groups of one to five questions, of mixed types."""
    sizes = draw_(st.lists(st.sampled_from([1, 1, 1, 2, 5]), min_size=groups, max_size=3 * groups))
    members = [f"g{name}" for name, size in enumerate(sizes) for _ in range(size)]
    # The ids of a group do not stand next to each other, so that an order by ids is another than one by groups.
    return [
        question(number, draw_(st.sampled_from(TYPES)), group, draw_(st.integers(0, 5)) == 0)
        for number, group in enumerate(draw_(st.permutations(members)))
    ]


def kfold(questions: list[Question], fold: int, seed: int = 0, folds: int = 5, validation: float = 0.1) -> Split:
    return KFold(KFold.Config(folds, str(fold), validation)).split(questions, seed)


@pytest.mark.slow
@given(question_sets(), st.integers(2, 5), st.integers(0, 99), st.sampled_from([0.0, 0.05, 0.1, 0.3]))
def test_every_fold_partitions_the_questions_and_each_is_tested_once(
    questions: list[Question], folds: int, seed: int, validation: float
) -> None:
    ids = sorted(q.id for q in questions)
    splits = [kfold(questions, fold, seed, folds, validation) for fold in range(folds)]
    for split in splits:
        assert sorted(split.train + split.validation + split.test) == ids
        assert split.train
        assert split.test
        assert bool(split.validation) == bool(validation)
        assert all(list(part) == sorted(part) for part in (split.train, split.validation, split.test))
        assert not split.leaky
    assert sorted(i for split in splits for i in split.test) == ids


@given(question_sets(), st.integers(0, 4), st.integers(0, 99))
def test_no_group_stands_on_two_sides(questions: list[Question], fold: int, seed: int) -> None:
    group_of = {q.id: q.group for q in questions}
    split = kfold(questions, fold, seed)
    sides = [{group_of[i] for i in part} for part in (split.train, split.validation, split.test)]
    assert sum(map(len, sides)) == len(set.union(*sides))


@given(question_sets(), st.integers(0, 4), st.integers(0, 99), st.randoms(use_true_random=False))
def test_the_order_of_the_questions_changes_nothing(
    questions: list[Question], fold: int, seed: int, rng: random.Random
) -> None:
    shuffled = list(questions)
    rng.shuffle(shuffled)
    assert kfold(shuffled, fold, seed) == kfold(questions, fold, seed)
    if len(questions) >= 10:
        reference = Reference(Reference.Config(str(fold)))
        assert reference.split(shuffled, seed) == reference.split(questions, seed)


@given(st.lists(st.tuples(st.sampled_from([*TYPES, "abstention"]), st.integers(1, 4)), min_size=5, max_size=60))
def test_a_stratum_differs_between_folds_by_at_most_its_largest_group(groups: list[tuple[str, int]]) -> None:
    questions: list[Question] = []
    largest: dict[str, int] = defaultdict(int)
    for name, (kind, size) in enumerate(groups):
        made = [question(len(questions) + n, kind, f"g{name}", kind == "abstention") for n in range(size)]
        questions += made
        largest[stratum(made[0])] = max(largest[stratum(made[0])], size)
    by_id = {q.id: q for q in questions}
    tests = [Counter(stratum(by_id[i]) for i in kfold(questions, fold, validation=0).test) for fold in range(5)]
    for name, bound in largest.items():
        counts = [test[name] for test in tests]
        assert max(counts) - min(counts) <= bound


@pytest.mark.slow
@given(st.lists(st.sampled_from(TYPES), min_size=30, max_size=90), st.integers(0, 4), st.integers(0, 99))
def test_validation_of_single_questions_is_exactly_its_share_of_each_type(
    types: list[str], fold: int, seed: int
) -> None:
    # Every fold and every type are large enough that no type runs out outside the test fold.
    questions = [question(n, kind) for n, kind in enumerate(types + TYPES * 10)]
    by_id = {q.id: q for q in questions}
    split = kfold(questions, fold, seed)
    shares = quotas(questions, 0.1)
    assert sum(shares.values()) == round(len(questions) * 0.1)
    assert Counter(stratum(by_id[i]) for i in split.validation) == {s: n for s, n in shares.items() if n}


def test_another_seed_gives_other_folds_and_another_validation() -> None:
    questions = [question(n, TYPES[n % 3]) for n in range(60)]
    assert kfold(questions, 0, 1) == kfold(questions, 0, 1)
    assert kfold(questions, 0, 1).test != kfold(questions, 0, 2).test
    assert kfold(questions, 0, 1).validation != kfold(questions, 0, 2).validation


def test_a_seed_of_the_split_keeps_it_whatever_the_seed_of_the_run() -> None:
    questions = [question(n, TYPES[n % 3]) for n in range(60)]
    kept = KFold(KFold.Config(seed=1))
    assert kept.split(questions, 2) == kept.split(questions, 3) == kfold(questions, 0, 1)
    assert KFold(KFold.Config(seed=0)).split(questions, 1) == kfold(questions, 0, 0), "0 is a seed too"


def test_the_folds_do_not_depend_on_the_validation_share() -> None:
    questions = [question(n, TYPES[n % 3], f"g{n // 2}") for n in range(60)]
    assert kfold(questions, 3, validation=0).test == kfold(questions, 3, validation=0.2).test


def test_questions_without_a_group_are_each_their_own() -> None:
    assert [len(g) for g in grouped([question(1), question(2), question(3, group="q0001")])] == [1, 1, 1]


def test_large_groups_give_one_group_to_validation_and_leave_the_rest() -> None:
    groups = grouped([question(n, TYPES[n % 3], f"g{n // 20}") for n in range(60)])
    assert len(draw(groups, {"type multi-session": 1}, random.Random(1))) == 1


def test_a_draw_leaves_at_least_one_group() -> None:
    groups = grouped([question(n) for n in range(4)])
    assert len(draw(groups, {"type multi-session": 4}, random.Random(1))) == 3


def test_abstention_is_a_stratum_of_its_own() -> None:
    questions = [question(n, TYPES[n % 3], abstention=n < 5) for n in range(60)]
    abstention = {q.id for q in questions if q.abstention}
    assert [len(abstention & set(kfold(questions, fold).test)) for fold in range(5)] == [1] * 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fold": "5"}, r"split\.fold must be a number from 0 to 4 or all, got 5"),
        ({"fold": "-1"}, r"split\.fold must be a number"),
        ({"fold": "first"}, r"split\.fold must be a number"),
        ({"fold": "3", "folds": 3}, r"split\.fold must be a number from 0 to 2 or all"),
        ({"validation": 0.8}, r"split\.validation must be, with split\.folds=5, below 0\.8"),
    ],
)
def test_options_of_kfold_that_cannot_work_are_refused_by_their_key(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        KFold.Config(**options)


def test_too_few_groups_are_refused() -> None:
    four = [question(n, group=f"g{n % 4}") for n in range(20)]
    with pytest.raises(ConfigError, match=r"split\.folds=5 needs at least as many groups .* this data set has 4"):
        kfold(four, 0)
    two = [question(n, group=f"g{n % 2}") for n in range(20)]
    with pytest.raises(ConfigError, match=r"split\.validation=0\.1 leaves nothing to train on"):
        kfold(two, 0, folds=2)
    assert len(kfold(two, 0, folds=2, validation=0).train) == 10
    with pytest.raises(ConfigError, match="has 0"):
        kfold([], 0)


def test_all_folds_are_several_splits_and_no_single_one() -> None:
    questions = [question(n) for n in range(20)]
    for loader in (KFold(KFold.Config(fold="all")), Reference(Reference.Config(fold="all"))):
        with pytest.raises(ConfigError, match=r"split\.fold=all stands for 5 splits"):
            loader.split(questions, 0)
    every = KFold(KFold.Config(folds=3, fold="all")).folds()
    assert {name: options.fold for name, options in every.items()} == {"0": "0", "1": "1", "2": "2"}
    assert KFold(KFold.Config(fold="2")).folds() == {}
    assert list(Reference(Reference.Config(fold="all")).folds()) == ["0", "1", "2", "3", "4"]


def test_streams_are_orders_of_all_questions_or_each_of_conversations_of_its_own() -> None:
    questions = [question(n, group=f"g{n % 5}") for n in range(20)]

    def orders(**options: Any) -> list[tuple[str, ...]]:
        every = Stream(Stream.Config(folds=2, fold="all", **options)).folds()
        return [Stream(c).split(questions, 7).order for c in every.values()]

    first, second = orders()
    assert first != second and sorted(first) == sorted(second) == [q.id for q in questions]
    assert first == Stream(Stream.Config()).split(questions, 7).order
    shared = orders(order=StreamOrder.conversation)
    groups = [list(dict.fromkeys(int(i[1:]) % 5 for i in order)) for order in shared]
    assert groups == [[0, 2, 4], [1, 3]] and [len(order) for order in shared] == [12, 8]
    with pytest.raises(ConfigError, match=r"split\.folds=6: this data set has 5 conversations"):
        Stream(Stream.Config(order=StreamOrder.conversation, folds=6)).split(questions, 7)
    with pytest.raises(ConfigError, match=r"split\.folds=2: by date there is one order"):
        Stream.Config(order=StreamOrder.date, folds=2)


def test_a_fold_may_be_given_as_a_number() -> None:
    config: Any = 3
    assert KFold.Config(fold=config).fold == "3"
    assert Reference.Config(fold=config).fold == "3"


def test_the_reference_protocol_has_its_sizes_and_says_that_it_leaks() -> None:
    questions = [question(n) for n in range(500)]
    splits = [Reference(Reference.Config(str(fold))).split(questions, seed=fold) for fold in range(5)]
    for split in splits:
        assert (len(split.train), len(split.validation), len(split.test)) == (350, 50, 100)
        assert len({*split.train, *split.validation, *split.test}) == 500
        assert split.leaky
    assert len({i for split in splits for i in split.test}) == 500
    # In the reference's code four folds select on questions that the first one tests, and all on the same.
    assert len({split.validation for split in splits}) == 5


def test_the_reference_protocol_is_proportional_elsewhere() -> None:
    split = Reference(Reference.Config("4")).split([question(n) for n in range(27)], 0)
    assert (len(split.train), len(split.validation), len(split.test)) == (18, 3, 6)
    with pytest.raises(ConfigError, match="at least 10 questions"):
        Reference(Reference.Config()).split([question(n) for n in range(9)], 0)
    with pytest.raises(ConfigError, match=r"split\.fold must be a number from 0 to 4"):
        Reference.Config("5")


def test_the_reference_protocol_has_its_own_seed() -> None:
    questions = [question(n) for n in range(50)]
    plain = Reference(Reference.Config()).split(questions, 1)
    assert Reference(Reference.Config()).split(questions, 2) == plain
    assert Reference(Reference.Config(seed=7)).split(questions, 1) != plain


# The places in the file of the hundred questions that the published fold 0 tests.
PUBLISHED_FOLD_0 = [
    4,
    6,
    7,
    11,
    21,
    26,
    37,
    41,
    45,
    50,
    53,
    59,
    68,
    72,
    74,
    77,
    88,
    89,
    92,
    93,
    94,
    95,
    96,
    100,
    120,
    127,
    129,
    131,
    139,
    141,
    151,
    154,
    155,
    156,
    160,
    162,
    163,
    164,
    170,
    175,
    177,
    180,
    182,
    184,
    187,
    188,
    199,
    207,
    209,
    210,
    211,
    213,
    215,
    217,
    223,
    227,
    228,
    245,
    246,
    249,
    251,
    262,
    278,
    289,
    292,
    297,
    303,
    304,
    315,
    320,
    326,
    333,
    334,
    340,
    345,
    358,
    368,
    369,
    370,
    374,
    383,
    389,
    394,
    396,
    397,
    403,
    407,
    408,
    415,
    419,
    425,
    426,
    434,
    439,
    442,
    443,
    453,
    462,
    468,
    479,
]


def test_the_published_folds_are_those_of_the_files_order_and_leak_as_published() -> None:
    questions = [question(n) for n in range(500)]
    random.Random(1).shuffle(questions)
    splits = [MetaMemPublished(MetaMemPublished.Config(str(fold))).split(questions, seed=fold) for fold in range(5)]
    assert set(splits[0].test) == {questions[place].id for place in PUBLISHED_FOLD_0}
    for split in splits:
        assert (len(split.train), len(split.validation), len(split.test)) == (350, 50, 100)
        assert len({*split.train, *split.validation, *split.test}) == 500
        assert split.leaky
    assert len({i for split in splits for i in split.test}) == 500
    # Folds 1 to 4 select on the same fifty questions, which fold 0 tests.
    assert len({split.validation for split in splits[1:]}) == 1
    assert set(splits[1].validation) < set(splits[0].test)
    assert splits[0].validation != splits[1].validation


def test_of_the_published_fold_0_the_sorted_protocol_shares_a_fifth() -> None:
    path = SHARED / "longmemeval_evidence_500.json"
    if not path.exists():
        pytest.skip("the public file longmemeval_evidence_500.json is not in ../shared/data")
    from metamem.datasets.longmemeval import LongMemEval

    questions = LongMemEval(LongMemEval.Config(str(path))).load().questions
    assert [q.id for q in questions] == [row["question_id"] for row in json.loads(path.read_text(encoding="utf-8"))]
    published = MetaMemPublished(MetaMemPublished.Config()).split(questions, 0)
    sorted_ids = Reference(Reference.Config()).split(questions, 0)
    assert len(set(published.test) & set(sorted_ids.test)) == 21


def test_all_trains_on_everything() -> None:
    questions = [question(n) for n in (2, 0, 1)]
    assert Everything(Everything.Config()).split(questions, 0) == Split(("q0000", "q0001", "q0002"), (), ())


@pytest.mark.slow
@given(question_sets(), st.integers(0, 4))
def test_a_saved_split_reads_back_with_its_hash(
    tmp_path_factory: pytest.TempPathFactory, questions: list[Question], fold: int
) -> None:
    path = tmp_path_factory.mktemp("split") / "split.json"
    split = kfold(questions, fold)
    save_split(split, path)
    again = FromFile(FromFile.Config(str(path))).split(questions, 0)
    assert again == split
    assert split_hash(again) == split_hash(split)
    assert split_hash(Split(split.train, split.test, split.validation)) != split_hash(split)
    assert list(path.parent.iterdir()) == [path]


def from_file(folder: Path, content: Any) -> Split:
    path = folder / "split.json"
    path.write_text(json.dumps(content))
    return FromFile(FromFile.Config(str(path))).split([question(n, group=f"g{n // 2}") for n in range(6)], 0)


def test_a_file_may_leave_parts_and_questions_out(tmp_path: Path) -> None:
    assert from_file(tmp_path, {"test": ["q0003", "q0002"]}) == Split((), (), ("q0002", "q0003"))


def test_a_file_that_tears_a_group_apart_is_leaky(tmp_path: Path) -> None:
    assert from_file(tmp_path, {"train": ["q0000"], "test": ["q0001"]}).leaky
    assert not from_file(tmp_path, {"train": ["q0000"], "test": ["q0002", "q0003"]}).leaky


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"train": ["q0000", "q0009"]}, r"train\[1\]: the data set has no question 'q0009'\. Did you mean"),
        ({"train": ["q0000"], "test": ["q0000"]}, r"test\[0\]: 'q0000' is in train already"),
        ({"train": ["q0000", "q0000"]}, r"train\[1\]: 'q0000' is in train already"),
        ({"train": [3]}, r"train\[0\]: expected a question id, found the number 3"),
        ({"train": "q0000"}, r"train: expected a list of question ids"),
        ({"train": ["q0000"], "valid": []}, r"unknown part 'valid'\. Did you mean 'validation'\?"),
        ({}, "names no question"),
        (["q0000"], "expected an object"),
    ],
)
def test_a_wrong_file_of_ids_is_named_with_the_place(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(DataError, match=rf"split\.path: .*split\.json.*{said}"):
        from_file(tmp_path, content)


def test_a_file_that_is_not_given_or_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"split\.path is not given"):
        FromFile(FromFile.Config())
    with pytest.raises(DataError, match=r"split\.path: there is no file"):
        FromFile(FromFile.Config(str(tmp_path / "none.json"))).split([question(1)], 0)


def test_the_500_questions_split_as_the_paper_does_with_every_type_in_its_share() -> None:
    path = SHARED / "longmemeval_evidence_500.json"
    if not path.exists():
        pytest.skip("the public file longmemeval_evidence_500.json is not in ../shared/data")
    from metamem.datasets.longmemeval import LongMemEval

    questions = list(LongMemEval(LongMemEval.Config(str(path))).load().questions)
    by_id = {q.id: q for q in questions}
    totals = Counter(stratum(q) for q in questions)
    for fold in range(5):
        split = kfold(questions, fold, seed=1)
        assert (len(split.train), len(split.validation), len(split.test)) == (350, 50, 100)
        tested = Counter(stratum(by_id[i]) for i in split.test)
        assert all(abs(tested[s] - totals[s] / 5) < 2 for s in totals)
