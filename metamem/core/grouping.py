"""Which questions belong together: the groups that no split may tear apart, and the ids that name abstention questions.

In: questions and their conversations. Out: the same questions with `group` set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from metamem.core.records import Conversation, Question

ABSTENTION_SUFFIX = "_abs"


def base_id(question_id: str) -> str:
    """The id of the question that an abstention question is a variant of; other ids are their own base."""
    return question_id.removesuffix(ABSTENTION_SUFFIX)


def with_groups(questions: Sequence[Question], conversations: Mapping[str, Conversation]) -> tuple[Question, ...]:
    """The questions with their groups: all that share a base question or a conversation, directly or through others.

    A group is named by the smallest base id in it. An empty conversation is shared without meaning and joins nothing.
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for question in questions:
        base = root(("base", base_id(question.id)))
        held = question.conversation_id or ""
        if held in conversations and conversations[held].sessions:
            parent[root(("conversation", held))] = base
    names: dict[tuple[str, str], str] = {}
    for name in sorted({base_id(q.id) for q in questions}):
        names.setdefault(root(("base", name)), name)
    return tuple(dataclasses.replace(q, group=names[root(("base", base_id(q.id)))]) for q in questions)
