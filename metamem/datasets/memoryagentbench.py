"""MemoryAgentBench (arXiv 2507.05257): long contexts that arrive in chunks, and questions of four competencies.

In: the benchmark's JSON or parquet (whole contexts, cut here), or Mem-α's copy of it in parquet (chunks). Out: one
conversation per context and its questions; see `metamem.datasets.streaming`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metamem.core.contracts import Dataset
from metamem.core.errors import ConfigError, unknown
from metamem.core.registry import option, register
from metamem.datasets.streaming import dataset_of, instance_files, read_instances, splitter


@dataclass
class ReadingOptions:
    """What all data sets of chunks have in common."""

    sources: list[str] = option([], "keep instances of these sources only, told by their beginnings (empty: all)")
    chunk_tokens: int = option(
        4096, "most tokens of a chunk, for contexts that the file does not hold in chunks", least=1
    )
    tokenizer: str = option(
        "words", "the tokenizer that counts them: words, or a Hugging Face tokenizer's path or name"
    )
    known_question: bool = option(
        False, "a stream for each question that opens with it, for memories written for one question (memagent, mem1)"
    )
    instructions: bool = option(
        True, "give questions, and memories while they are written, the instruction of their source"
    )
    limit: int | None = option(None, "keep the first so many questions only, for smoke runs", least=1)


@dataclass
class StreamingOptions(ReadingOptions):
    """Where the instances are, and how they are read."""

    path: str = option("", "the file of instances (parquet, JSON or JSONL), or a folder of such")


class Chunked(ABC):
    """What all data sets of chunks do."""

    own = False
    _name: str

    def __init__(self, config: Any) -> None:
        self._config = config

    @abstractmethod
    def files(self) -> Sequence[Path]:
        """The files of instances."""

    def load(self) -> Dataset:
        """Read and validate everything. Raises `DataError` naming file and record, `ConfigError` for a source that
        no instance has.
        """
        config = self._config
        notices: Counter[str] = Counter()
        cut = splitter(config.chunk_tokens, config.tokenizer)
        instances = [one for file in self.files() for one in read_instances(file, cut, notices)]
        wanted = tuple(source.lower() for source in config.sources)
        kept = [i for i in instances if not wanted or i.source.lower().startswith(wanted)]
        for source in wanted:
            if not any(i.source.lower().startswith(source) for i in instances):
                raise ConfigError(f"dataset.sources: {unknown('source', source, {i.source for i in instances})}")
        notices["instances of sources not chosen"] += len(instances) - len(kept)
        found = dataset_of(self._name, kept, config.limit, config.known_question, notices, config.instructions)
        return replace(found, own=self.own)


class Streaming(Chunked):
    """A data set of chunks in the user's files."""

    def __init__(self, config: StreamingOptions) -> None:
        super().__init__(config)
        self._paths: tuple[Path, ...] = ()

    def files(self) -> Sequence[Path]:
        """The files of instances."""
        if not self._paths:
            self._paths = instance_files(self._config.path)
        return self._paths


@register("dataset", "memoryagentbench")
class MemoryAgentBench(Streaming):
    """MemoryAgentBench: long contexts in chunks, asked about for four competencies."""

    Config = StreamingOptions
    _name = "memoryagentbench"


@register("dataset", "stream_sample")
class StreamSample(Chunked):
    """The project's own small instances of MemoryAgentBench's four competencies, shipped with the package."""

    Config = ReadingOptions
    own = True
    _name = "stream_sample"

    def files(self) -> Sequence[Path]:
        """The packaged file."""
        return (Path(__file__).parent / "data" / "streams.json",)
