"""What experiments/memalpha_episodes.py does: from overrides to a stored data set of episodes and lines to show.

In: overrides as eval.py takes them, a file to write, the size of a group. Out: the file, and the lines.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from metamem.backbones.caller import JournaledCaller
from metamem.backbones.journal import Journal
from metamem.cli.python import composed
from metamem.config.options import EvalConfig
from metamem.core.errors import ConfigError, UserError
from metamem.core.files import write_atomically
from metamem.core.json_form import digest, to_json
from metamem.core.records import Conversation, Question
from metamem.core.registry import build
from metamem.evaluators.memalpha_reward import ContentJudge
from metamem.generation.writer import TokenIds, load_tokenizer
from metamem.memory.memalpha.constructor import MemAlpha
from metamem.pipeline.episodes import Makers, Tokens, sample_groups
from metamem.pipeline.prepare import PreparedRun, prepare
from metamem.programs.frame import run_async
from metamem.programs.memalpha_episodes import ablation, write_parquet
from metamem.tracking.trackers import Trackers


def main(arguments: Sequence[str]) -> int:
    """The program with its command line; returns the exit code: 2 for a mistake that the user can mend."""
    import argparse

    parser = argparse.ArgumentParser("memalpha_episodes", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="the parquet file to write")
    parser.add_argument("--group", type=int, default=8, help="episodes per instance")
    parser.add_argument("--tokenizer", help="for token ids: a Hugging Face tokenizer, a folder or NAME@COMMIT")
    given, overrides = parser.parse_known_args(arguments)
    try:
        for line in sample_and_store(overrides, given.out, given.group, given.tokenizer):
            print(line)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def sample_and_store(overrides: Sequence[str], out: Path, group: int, tokenizer: str | None) -> list[str]:
    """Sample, score and store; the lines say what was stored and the reward under the paper's weights.

    Raises `UserError` for what the user can mend.
    """
    if group < 1:
        raise ConfigError(f"--group must be at least 1, got {group}")
    config = composed("eval", [*overrides, "evaluator=memalpha_reward"])
    assert isinstance(config, EvalConfig)
    if config.memory.name != "memalpha":
        raise ConfigError(f"memory: episodes are written by memory=memalpha, got {config.memory.name}")
    tokens = token_ids(tokenizer) if tokenizer else None
    prepared = prepare(config)
    rows, left_out = run_async(_sample(prepared, group, tokens))
    write_parquet(out, rows)
    shown = ablation(rows)
    told = {"episodes": len(rows), "left_out": dict(left_out), "ablation": shown, "stamps": prepared.stamps()}
    write_atomically(out.with_suffix(".json"), json.dumps(told, indent=1) + "\n")
    return list(_lines(out, told))


async def _sample(
    prepared: PreparedRun, group: int, tokens: Tokens | None
) -> tuple[list[dict[str, Any]], Counter[str]]:
    config = prepared.config
    assert isinstance(config, EvalConfig)
    assert isinstance(prepared.memory, MemAlpha)
    evaluator = config.evaluator["memalpha_reward"]
    # A place of its own in the journal, so that the same command continues.
    run = f"episodes-{digest([to_json(prepared.memory_identity), prepared.contents['dataset'], group], 10)}"
    journal = Journal(Path(config.outputs), config.name, run, config.journal.reuse)
    roles = {role: prepared.backbones[role] for role in ("builder", "policy", "judge")}
    callers = {role: JournaledCaller(backbone, journal, role) for role, backbone in roles.items()}
    tools = prepared.tools(callers["builder"])
    makers = Makers(
        memory=prepared.memory,
        retriever=prepared.retriever,
        tools=tools,
        prompts=prepared.prompts,
        builder=callers["builder"],
        policy=callers["policy"],
        content=ContentJudge(callers["judge"], prepared.prompts),
        evaluator=build("evaluator", evaluator, judge=callers["judge"], rubric=prepared.rubric, seed=config.seed),
        tracker=Trackers([]),
        seed=config.seed,
        beta=evaluator.beta,
        gamma=evaluator.gamma,
        budget=config.evidence.budget,
        tokenizer=config.evidence.tokenizer,
        order=config.evidence.order,
        tokens=tokens,
        temperature=prepared.memory.config.temperature,
        searcher=prepared.searcher(tools),
    )
    distinct = list({id(b): b for b in roles.values()}.values())
    try:
        for backbone in distinct:
            await backbone.start()
        return await sample_groups(makers, instances(prepared), group)
    finally:
        for backbone in distinct:
            await backbone.close()
        journal.close()


def instances(prepared: PreparedRun) -> list[tuple[Conversation, list[Question]]]:
    """The conversations of the chosen part with their questions, those of each source by themselves."""
    assert isinstance(prepared.config, EvalConfig)
    asked: dict[tuple[str, str], list[Question]] = {}
    for question in sorted(prepared.questions(prepared.config.part.value), key=lambda q: q.id):
        if question.conversation_id is not None:
            asked.setdefault((question.type, question.conversation_id), []).append(question)
    return [(prepared.dataset.conversations[c], questions) for (_, c), questions in sorted(asked.items())]


def token_ids(name: str) -> TokenIds:
    """Return the ids by a tokenizer with a chat template: a folder, or a name at the hub (`NAME@COMMIT`).

    Raises `ConfigError` when it cannot be loaded or has no chat template.
    """
    place, _, commit = (name, "", "") if Path(name).exists() else name.partition("@")
    return TokenIds(load_tokenizer(place, commit or None))


def _lines(out: Path, told: dict[str, Any]) -> Iterator[str]:
    yield f"{told['episodes']} episodes in {out}" + (f" ({', '.join(told['stamps'])})" if told["stamps"] else "")
    for reason, count in told["left_out"].items():
        yield f"left out: {count}, {reason}"
    if told["ablation"]:
        means = told["ablation"][0]
        yield "task {task:.3f}  calls {calls:.3f}  compression {compression:.3f}  content {content:.3f}".format(**means)
    for row in told["ablation"]:
        yield f"beta {row['beta']:.2f}  gamma {row['gamma']:.1f}  reward {row['reward']:.3f}"
