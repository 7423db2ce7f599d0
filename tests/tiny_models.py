"""Tiny models with random weights, of the architectures that the real ones have: made in moments, for tests."""

from __future__ import annotations

from pathlib import Path

WORDS = (
    "the a user I you we live lived in Oslo Bergen cat dog Rex Mia is are was has had three old and or but not my "
    "your moved flat rent euros month like likes coffee tea every morning work works as nurse hospital new . , ! ?"
).split()


def _vocabulary(special: list[str], begin: str, inside: str) -> list[str]:
    letters = [chr(c) for c in range(33, 127)]
    pieces = special + [begin + w for w in WORDS] + [begin + c for c in letters] + [inside + c for c in letters]
    return list(dict.fromkeys(pieces))


def bert_compressor(folder: Path, layers: int = 4, labels: int = 2, hidden: int = 32, inner: int = 48) -> Path:
    """A BERT token classifier (as `llmlingua-2-bert-base-multilingual-cased-meetingbank` is one) in a folder.

    With 12 layers, `hidden` of 768 and `inner` of 3,072 it is as large as that one, its vocabulary aside.
    """
    import torch
    from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], "", "##")
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=False)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=max(2, hidden // 64),
        intermediate_size=inner,
        num_labels=labels,
        initializer_range=0.5,  # so that random tokens differ clearly
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = BertForTokenClassification(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def xlm_roberta_compressor(folder: Path, layers: int = 4) -> Path:
    """An XLM-RoBERTa token classifier (as `llmlingua-2-xlm-roberta-large-meetingbank` is one) in a folder."""
    import torch
    from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
    from tokenizers.models import Unigram
    from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaForTokenClassification

    folder.mkdir(parents=True, exist_ok=True)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces = _vocabulary(special, "▁", "")
    scores = [(piece, 0.0 if piece in special else -2.0 - 8.0 * (len(piece) < 3)) for piece in [*pieces, "▁"]]
    tokenizer = Tokenizer(Unigram(scores, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    config = XLMRobertaConfig(
        vocab_size=len(scores),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=514,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        type_vocab_size=1,
        num_labels=2,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = XLMRobertaForTokenClassification(config)
    model.save_pretrained(folder)
    return folder
