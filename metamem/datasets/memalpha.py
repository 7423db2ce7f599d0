"""Mem-α's training and test instances (arXiv 2509.25911, section 4): chunks of eight sources, and questions.

In: its `train.parquet` or `test.parquet`, with the columns `chunks` and `questions_and_answers` (JSON texts) and
`data_source`. Out: one conversation per context and its questions; see `metamem.datasets.streaming`.
"""

from __future__ import annotations

from metamem.core.registry import register
from metamem.datasets.memoryagentbench import Streaming, StreamingOptions


@register("dataset", "memalpha")
class MemAlpha(Streaming):
    """Mem-α's instances: documents and dialogues in chunks, with questions scored by their source."""

    Config = StreamingOptions
    _name = "memalpha"
