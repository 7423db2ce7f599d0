"""metamem: learn and study meta-memory, the guidelines that teach a frozen LLM to use what its memory retrieves.

What a script or a plugin imports stands here: `from metamem import register, option, run`. A name is loaded when it is
first asked for, so that `import metamem` stays light.
"""

__version__ = "0.1.0"

import importlib as _importlib
import os as _os
from typing import Any as _Any

# Public name → the module that it is loaded from.
_PUBLIC = {
    "Action": "metamem.core.meta_memory",
    "Attempt": "metamem.core.records",
    "Bounds": "metamem.core.learned",
    "Change": "metamem.core.meta_memory",
    "ConfigError": "metamem.core.errors",
    "Conversation": "metamem.core.records",
    "DataError": "metamem.core.errors",
    "Evidence": "metamem.core.records",
    "ExpectedCalls": "metamem.core.learned",
    "Failure": "metamem.core.calls",
    "Form": "metamem.replies.json_in_text",
    "Generation": "metamem.core.calls",
    "Guideline": "metamem.core.meta_memory",
    "Judged": "metamem.core.learned",
    "Laboratory": "metamem.core.learned",
    "Link": "metamem.core.records",
    "MemoryBank": "metamem.core.banks",
    "MemoryConstructor": "metamem.core.contracts",
    "MemoryUnit": "metamem.core.records",
    "MetaMemory": "metamem.core.meta_memory",
    "Operation": "metamem.core.meta_memory",
    "Position": "metamem.core.learned",
    "Question": "metamem.core.records",
    "RankingRetriever": "metamem.retrieval.base",
    "Read": "metamem.core.learned",
    "RetrievalTools": "metamem.core.contracts",
    "Retrieved": "metamem.core.retrieved",
    "Retriever": "metamem.core.contracts",
    "Scribe": "metamem.memory.scribe",
    "Session": "metamem.core.records",
    "Similarity": "metamem.embedding.similarity",
    "Status": "metamem.core.records",
    "Turn": "metamem.core.records",
    "UnreadableError": "metamem.replies.json_in_text",
    "Update": "metamem.core.learned",
    "UserError": "metamem.core.errors",
    "Verdict": "metamem.core.records",
    "add_templates": "metamem.prompts.templates",
    "apply": "metamem.core.meta_memory",
    "best": "metamem.retrieval.base",
    "dense_scores": "metamem.retrieval.dense",
    "diff": "metamem.core.meta_memory",
    "format_date": "metamem.core.text",
    "load": "metamem.statistics.tables",
    "main": "metamem.cli.python",
    "option": "metamem.core.registry",
    "parse_json": "metamem.replies.json_in_text",
    "register": "metamem.core.registry",
    "render_unit": "metamem.core.text",
    "run": "metamem.cli.python",
    "shuffled": "metamem.optimizers.batched",
    "told": "metamem.core.text",
    "with_linked": "metamem.retrieval.base",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> _Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'metamem' has no attribute '{name}'")
    return getattr(_importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})


if "METAMEM_ENGINE_OWNER" in _os.environ:
    # A process of an engine, which imports the program that started it before anything heavy: watched from here on.
    from metamem.backbones.engine.watchdog import watch as _watch

    _watch()
