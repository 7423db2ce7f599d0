"""From a `Request` to what an engine takes, and from its output to `Generation`s.

In: chat messages and resolved sampling. Out: token ids by the model's own chat template, vLLM's `SamplingParams`, and
the samples read from its output: reasoning cut off, tokens counted, the reason why each ended.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metamem.core.calls import Generation, Message, Request, Usage
from metamem.core.errors import BackboneError, ConfigError
from metamem.replies.reasoning import split_reasoning

OPENED, CLOSED = "<think>", "</think>"
_KEPT = 512  # rendered prompts that are kept: one that was measured is sent soon after


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt. `opened`: the template has begun the reasoning, so that a reply starts inside of it."""

    tokens: list[int]
    opened: bool


class Renderer:
    """Renders chat messages by a tokenizer's chat template. `thinks`: the model has tokens around its reasoning."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        vocabulary = tokenizer.get_vocab()
        self.thinks = OPENED in vocabulary and CLOSED in vocabulary
        self._opener, self._closer = vocabulary.get(OPENED), vocabulary.get(CLOSED)
        self._kept: OrderedDict[tuple[tuple[Message, ...], bool], Prompt] = OrderedDict()
        self._shows_tools: bool | None = None

    def prompt(self, messages: Sequence[Message], thinking: bool, tools: Sequence[dict[str, Any]] = ()) -> Prompt:
        """The prompt that asks for the next message. Raises `BackboneError` when it is empty or refused, `ConfigError`
        for tools that the chat template does not show.
        """
        if tools:
            prompt = self._render(messages, thinking, tools)
            if self._shows_tools is None:
                self._shows_tools = prompt.tokens != self._render(messages, thinking, ()).tokens
            if not self._shows_tools:
                # A model that never sees its tools calls none, and nobody would know why.
                raise ConfigError(
                    "the model's chat template shows no tools: have them written into the prompt with "
                    "memory.tools=prompt (a memory's) or search.tools=prompt (the search's)"
                )
            return prompt
        key = (tuple(messages), thinking)
        if key not in self._kept:
            self._kept[key] = self._render(messages, thinking, ())
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return self._kept[key]

    def continuation(self, text: str) -> list[int]:
        """The tokens of a text that follows a prompt."""
        return list(self._tokenizer.encode(_readable(text), add_special_tokens=False))

    def _render(self, messages: Sequence[Message], thinking: bool, tools: Sequence[dict[str, Any]]) -> Prompt:
        if not any(m.content.strip() for m in messages):
            raise BackboneError("the prompt is empty: no message holds any text")
        chat = [{"role": m.role, "content": _readable(m.content)} for m in messages]
        how: dict[str, Any] = {"add_generation_prompt": True, "enable_thinking": thinking}
        if tools:
            how["tools"] = list(tools)
        try:
            tokens = list(self._tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False, **how))
        except Exception as error:  # templates raise what they like: roles in an order they do not know, no template
            raise BackboneError(f"the model's chat template refuses the messages: {error}") from error
        # Only the end can hold an opener that is still open: what a memory quotes stands further up, closed by a turn.
        tail = tokens[-4:]
        return Prompt(tokens, self._opener in tail and self._closer not in tail)


def parameters(request: Request) -> Any:
    """vLLM's `SamplingParams` for the draws of a request, every field given. Raises `BackboneError` for values that
    vLLM does not take.
    """
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    sampling = request.sampling
    sampled = sampling.temperature > 0
    more: dict[str, Any] = {}
    if sampling.thinking_budget is not None:
        more["thinking_token_budget"] = sampling.thinking_budget
    try:
        if request.schema is not None:
            more["structured_outputs"] = StructuredOutputsParams(json=request.schema)
        return SamplingParams(
            # vLLM gives sample i of a request the seed + i, which is the seed of that draw. Greedy draws are one.
            n=len(request.draws) if sampled else 1,
            seed=request.draws[0].seed if sampled else None,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            repetition_penalty=sampling.repetition_penalty,
            max_tokens=sampling.max_tokens,
            stop=list(sampling.stop),
            output_kind=RequestOutputKind.FINAL_ONLY,
            **more,
        )
    except refusals() as error:
        raise BackboneError(f"the engine refuses the request: {first_line(error)}") from error


def read(output: Any, opened: bool) -> list[Generation]:
    """The samples of an engine's output, in order. Raises `BackboneError` when one was given up by the engine."""
    prompt_tokens = len(output.prompt_token_ids)
    generations = []
    for sample in sorted(output.outputs, key=lambda o: o.index):
        if sample.finish_reason not in ("stop", "length"):
            raise BackboneError(f"the engine gave the request up ({sample.finish_reason})")
        text, reasoning, _ = split_reasoning((OPENED if opened else "") + sample.text)
        usage = Usage(prompt_tokens, len(sample.token_ids))
        generations.append(Generation(text, sample.finish_reason, usage, reasoning))
    return generations


def scoring() -> Any:
    """vLLM's `SamplingParams` that have the prompt itself scored."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0, output_kind=RequestOutputKind.FINAL_ONLY)


def log_probabilities(output: Any, first: int) -> list[float]:
    """The natural log-probability of each prompt token from the place `first` on, given all before it."""
    tokens, scores = output.prompt_token_ids, output.prompt_logprobs
    return [float(scores[i][tokens[i]].logprob) for i in range(first, len(tokens))]


def refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises for a request that it cannot serve: a ValueError once, an error of its own since."""
    from vllm import exceptions

    return ValueError, TypeError, getattr(exceptions, "VLLMClientError", ValueError)


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _readable(text: str) -> str:
    # A lone surrogate is legal in JSON and in str, but not in the UTF-8 that tokenizers read.
    return text.encode("utf-8", "replace").decode("utf-8")
