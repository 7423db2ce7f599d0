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
    "Attempt": "metamem.core.records",
    "ConfigError": "metamem.core.errors",
    "Conversation": "metamem.core.records",
    "DataError": "metamem.core.errors",
    "Evidence": "metamem.core.records",
    "Form": "metamem.replies.json_in_text",
    "Link": "metamem.core.records",
    "MemoryBank": "metamem.core.banks",
    "MemoryConstructor": "metamem.core.contracts",
    "MemoryUnit": "metamem.core.records",
    "Question": "metamem.core.records",
    "RankingRetriever": "metamem.retrieval.base",
    "RetrievalTools": "metamem.core.contracts",
    "Retrieved": "metamem.core.retrieved",
    "Retriever": "metamem.core.contracts",
    "Scribe": "metamem.memory.scribe",
    "Session": "metamem.core.records",
    "Status": "metamem.core.records",
    "Turn": "metamem.core.records",
    "UnreadableError": "metamem.replies.json_in_text",
    "UserError": "metamem.core.errors",
    "Verdict": "metamem.core.records",
    "add_templates": "metamem.prompts.templates",
    "best": "metamem.retrieval.base",
    "dense_scores": "metamem.retrieval.dense",
    "format_date": "metamem.core.text",
    "option": "metamem.core.registry",
    "register": "metamem.core.registry",
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
