"""The model that `optimizer=grpo` trains, and TRL's trainer around it.

In: the base weights, an adapter to go on from, samples (token ids with their advantages). Out: the model after each
update, what the trainer was given and measured, files of the trained weights. Everything of torch, transformers, peft
and trl that the policy needs is in here.

TRL samples by itself unless it is given a `rollout_func`; ours returns what was sampled and scored before. Advantages
are made before, within a conversation's writings, and are what TRL calls rewards: it is told to leave their scale
alone, and subtracts their mean over the rows. Those of chunks sum to zero, but a chunk may have several replies, or
none; so rows are filled up to equal passes with masked ones, of which the first has what makes the sum zero.
"""

from __future__ import annotations

import gc
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from metamem.core.adapters import Adapter, base_of
from metamem.core.calls import Sampling
from metamem.core.files import file_digest, read_object, temporary_name, write_json
from metamem.generation.writer import PlainWriter, TokenIds, load
from metamem.optimizers.grpo import RATES

# What is reported of an update, by TRL's names.
_MEASURED = {
    "loss": "loss",
    "grad_norm": "gradient",
    "kl": "kl",
    "entropy": "entropy",
    "completions/mean_length": "length",
}


# What the libraries write down of where weights were made, and with what.
_OF_PLACE = {"base_model_name_or_path", "_name_or_path", "revision", "is_local", "local_files_only"}
_ELSEWHERE = _OF_PLACE | {"peft_version", "transformers_version"}
_NO_SUM = 1e-6  # of advantages, which is nothing


@dataclass(frozen=True)
class UpdateReport:
    """What an update was given, by episode (the advantages of its replies as the trainer had them), and its figures."""

    given: list[list[float]]
    figures: dict[str, float]


class Learner:
    """A model in training. Not to be used by two threads at once."""

    def __init__(self, config: Any, base: Any, adapter: Adapter | None, moments: Path | None = None) -> None:
        """Load the weights; the adapter is one that this training made, `moments` the optimiser's state beside it."""
        identity = dict(base.identity())
        self.config, self.lora, self.base_hash = config, config.weights == "lora", base_of(identity)
        self._base, self._identity, self._sampling = base.base(), identity, base.sampling()
        self._commit: str | None = base.weights().commit
        # A step of 1e-6 of a weight is less than what half precision tells apart; low-rank changes are always whole.
        dtype = getattr(base.config, "dtype", "float32") if self.lora else "float32"
        whole = adapter.folder if adapter and not self.lora else None
        self.model, self.tokenizer = load(whole or self._base, dtype, None if whole else self._commit)
        if self.lora:
            self.model = _low_rank(self.model, config, adapter)
        # The reference of the KL divergence is loaded by this name, at the same commit: the untrained model.
        self.model.config._name_or_path = str(self._base)
        self.tokens = TokenIds(self.tokenizer)
        self._state = _read_moments(moments) if moments else {}
        self._updates = 0
        self._at = adapter.hash if adapter else ""

    def writer(self) -> PlainWriter:
        """Return the model as it is now, as a backbone."""
        identity = {**self._identity, "trained": [self._at, self._updates]}
        sampling = Sampling(temperature=self.config.temperature, max_tokens=self._sampling.max_tokens)
        return PlainWriter(self.model, self.tokenizer, identity, sampling)

    def update(self, samples: Sequence[Mapping[str, Any]], episodes: int) -> UpdateReport:
        """Make one update of the weights, by the replies of so many episodes."""
        import torch

        with _quiet():
            from datasets import Dataset
            from transformers import PrinterCallback
            from trl import GRPOConfig, GRPOTrainer

        c = self.config
        rows = [s for s in samples if s["reply"]]
        filled, size = filled_up(rows, c.micro_batch, self._pad) if rows else ([], 0)
        received: list[float] = []

        def rollout(prompts: Sequence[Any], trainer: Any) -> dict[str, Any]:
            return {
                "prompt_ids": [s["prompt"] for s in filled],
                "completion_ids": [s["reply"] for s in filled],
                "logprobs": None,
                "env_mask": [[int(s["row"] >= 0)] * len(s["reply"]) for s in filled],
                "advantage": [s["advantage"] for s in filled],
            }

        def reward(completions: Sequence[Any], advantage: Sequence[float], **_: Any) -> list[float]:
            received.extend(advantage)
            return list(advantage)

        if len(filled) < 2 or not any(s["advantage"] for s in rows):
            # Writings that are all alike teach nothing.
            return UpdateReport(_by_episode(rows, [s["advantage"] for s in rows], episodes), {})
        with TemporaryDirectory() as folder, _quiet(), _frozen():
            trainer = GRPOTrainer(
                model=self.model,
                reward_funcs=reward,
                processing_class=self.tokenizer,
                rollout_func=rollout,
                train_dataset=Dataset.from_list([{"prompt": "-"}] * len(filled)),
                args=GRPOConfig(
                    output_dir=folder,
                    model_init_kwargs={"revision": self._commit} if self._commit else None,
                    max_steps=1,
                    per_device_train_batch_size=size,
                    gradient_accumulation_steps=len(filled) // size,
                    steps_per_generation=len(filled) // size,
                    num_generations=len(filled),
                    learning_rate=self._rate,
                    lr_scheduler_type="constant",
                    beta=c.kl,
                    epsilon=c.clip,
                    temperature=c.temperature,
                    loss_type="dapo",
                    scale_rewards="none",
                    max_completion_length=max(len(s["reply"]) for s in filled),
                    bf16=False,
                    fp16=False,
                    gradient_checkpointing=False,
                    use_cpu=not torch.cuda.is_available(),
                    report_to=[],
                    logging_steps=1,
                    save_strategy="no",
                    disable_tqdm=True,
                    shuffle_dataset=False,
                    seed=0,
                ),
                optimizers=(self._optimizer(), None),
            )
            if self.lora and "ref" in self.model.peft_config:
                # Its copy of the changes as they are; the reference is the model without any.
                self.model.delete_adapter("ref")
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            logged = {k: v for row in trainer.state.log_history for k, v in row.items()}
            self._keep_state(trainer.optimizer)
            # What the trainer wrapped is the model's own again.
            self.model = trainer.accelerator.unwrap_model(trainer.model).eval()
        self._updates += 1
        figures = {ours: round(float(logged[theirs]), 8) for theirs, ours in _MEASURED.items() if theirs in logged}
        return UpdateReport(_by_episode(rows, received[: len(rows)], episodes), figures)

    def save(self, folder: Path) -> None:
        """Write the trained weights: low-rank changes, or a whole checkpoint with its tokenizer."""
        with _quiet():
            self.model.save_pretrained(str(folder))
            if not self.lora:
                self.tokenizer.save_pretrained(str(folder))
        for file in folder.iterdir():
            if file.suffix not in (".json", ".safetensors", ".jinja", ".txt", ".model"):
                file.unlink()
        settle_configs(folder)

    def save_moments(self, root: Path) -> str | None:
        """Write the optimiser's state into a folder, for the next step to go on with.

        Return its name there, its sha256; None where no update has trained anything.
        """
        if not self._state:
            return None
        from safetensors.torch import save_file

        flat = {f"{name}/{key}": value for name, of in self._state.items() for key, value in of.items()}
        root.mkdir(parents=True, exist_ok=True)
        new = root / temporary_name("moments")
        save_file({name: value.contiguous() for name, value in flat.items()}, str(new))
        name = file_digest(new)
        new.replace(root / name)
        return name

    @property
    def _pad(self) -> int:
        return int(self.tokenizer.pad_token_id or 0)

    @property
    def _rate(self) -> float:
        return float(self.config.rate or RATES["lora" if self.lora else "full"])

    def _trained(self) -> list[tuple[str, Any]]:
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]

    def _optimizer(self) -> Any:
        import torch

        named = self._trained()
        optimizer = torch.optim.AdamW([p for _, p in named], lr=self._rate, weight_decay=0.0)
        for name, p in named:
            if held := self._state.get(name):
                optimizer.state[p] = {k: v.to(p.device) if k != "step" else v.clone() for k, v in held.items()}
        return optimizer

    def _keep_state(self, optimizer: Any) -> None:
        state = getattr(optimizer, "optimizer", optimizer).state
        held = [(name, state[p]) for name, p in self._trained() if p in state]
        self._state = {name: {k: v.detach().cpu().clone() for k, v in of.items()} for name, of in held}


def settle_configs(folder: Path) -> None:
    """Rewrite what the libraries say beside weights without places and versions, and what was a set in an order: the
    same weights are then the same files, wherever they were made.
    """
    for file in folder.glob("*config.json"):
        held = {name: value for name, value in read_object(file).items() if name not in _ELSEWHERE}
        if file.name == "adapter_config.json":
            sets = [n for n, v in held.items() if isinstance(v, list) and all(isinstance(item, str) for item in v)]
            held |= {name: sorted(held[name]) for name in sets}
        write_json(file, dict(sorted(held.items())))


def filled_up(rows: Sequence[Mapping[str, Any]], most: int, pad: int) -> tuple[list[Mapping[str, Any]], int]:
    """Return rows with masked ones behind them, so that their advantages sum to zero, and how many of them a pass has:
    the passes are alike, and as few as there can be of at most `most` rows.
    """
    over = math.fsum(row["advantage"] for row in rows)
    least = len(rows) + (abs(over) >= _NO_SUM)
    passes = -(-least // most)
    size = -(-least // passes)
    more = [{"row": -1, "prompt": [pad], "reply": [pad], "advantage": 0.0} for _ in range(passes * size - len(rows))]
    for row in more[:1]:
        row["advantage"] = -over
    return [*rows, *more], size


def _by_episode(rows: Sequence[Mapping[str, Any]], given: Sequence[float], episodes: int) -> list[list[float]]:
    """Return what was given for each episode's replies, in their order; replies of no token were not."""
    found: list[list[float]] = [[] for _ in range(episodes)]
    for sample, value in zip(rows, given, strict=True):
        found[sample["row"]].append(value)
    return found


def _low_rank(model: Any, config: Any, adapter: Adapter | None) -> Any:
    from peft import LoraConfig, PeftModel, get_peft_model

    if adapter is not None:
        return PeftModel.from_pretrained(model, str(adapter.folder), is_trainable=True)
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        options = LoraConfig(
            r=config.rank, lora_alpha=config.alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        return get_peft_model(model, options)


def _read_moments(file: Path) -> dict[str, dict[str, Any]]:
    from safetensors.torch import load_file

    found: dict[str, dict[str, Any]] = {}
    for name, value in load_file(str(file)).items():
        parameter, _, key = name.rpartition("/")
        found.setdefault(parameter, {})[key] = value
    return found


@contextmanager
def _frozen() -> Iterator[None]:
    """Keep what there is from being looked through for garbage: the trainer has that done in every update, and the
    libraries' own objects take longer than the update of a small model.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries from writing into a run's own display."""
    from transformers.utils import logging as theirs

    held, shown = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    named = [logging.getLogger(name) for name in ("trl", "accelerate", "peft")]
    levels = [logger.level for logger in named]
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    for logger in named:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        theirs.set_verbosity(held)
        for logger, level in zip(named, levels, strict=True):
            logger.setLevel(level)
        if shown:
            theirs.enable_progress_bar()
