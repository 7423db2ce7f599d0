"""docs/components: a page for each kind of component, and an index of them, from the registry.

In: the registry and the presets of `conf/`. Out: file name → text. What a component costs is read off what it works
with, so that a new one stands in its page without a word written about it anywhere else.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from metamem.cli.help import groups
from metamem.cli.hydra_bridge import presets
from metamem.core.contracts import Placeholder, Weighted
from metamem.core.errors import MissingExtraError
from metamem.core.registry import REGISTRY, Entry, load_studies

# What the components of each kind are for.
_PURPOSES = {
    "dataset": "reads files into conversations and questions",
    "attack": "plants something in what memories are made of, to see who believes it",
    "split": "says which questions train, validate and test",
    "memory": "writes a memory of each conversation",
    "retriever": "finds the evidence for a question in a memory",
    "guard": "stands between what was retrieved or learned and the prompt",
    "embedder": "turns texts into vectors",
    "backbone": "turns prompts into replies: the model of the policy, the judge, the reflector and the builder",
    "evaluator": "scores an attempt: right, wrong or invalid",
    "rubric": "holds what a judge is asked",
    "optimizer": "is a policy: it turns a batch of judged attempts into the next meta-memory",
    "recall": "chooses what of the meta-memory one question is shown",
    "prompts": "is a folder of templates",
    "tracker": "watches a run",
    "study": "makes a table, figures and words of a sweep's runs",
}
# What a component works with → what that costs. A retriever and a memory say it themselves (`needs`), others by what
# their constructors take.
_COSTS = {
    "builder": "builder calls",
    "embedder": "embeddings",
    "judge": "judge calls",
    "policy": "policy calls",
    "reflector": "reflector calls",
    "caller": "policy calls",
    "server": "server",
    "weights": "weights",
}
_CHEAP = "computes"
_PAPER = re.compile(r"arXiv[: ]\s*(\d{4}\.\d{4,5})")


def component_pages() -> dict[str, str]:
    """Return the pages, by the names of their files."""
    load_studies()
    kinds = [*dict.fromkeys([*groups("train"), *REGISTRY.kinds()])]
    pages = {f"{kind}.md": _page(kind) for kind in kinds}
    return {**pages, "README.md": _index(kinds)}


def costs_of(entry: Entry) -> list[str]:
    """Return what a component costs with its default options, beyond the attempts that every run makes."""
    component: Any = entry.component
    needs = set(inspect.signature(component).parameters) & {"embedder", "judge", "caller"}
    if hasattr(component, "needs"):
        needs |= set(component.needs)
        with suppress(MissingExtraError):  # one whose package is absent says it by its class alone
            needs |= set(REGISTRY.build(entry.kind, entry.config()).needs)
    if entry.kind == "optimizer" and component.prompts:
        needs.add("reflector")
    if any(field.name == "base_url" for field in entry.options):
        needs.add("server")
    if isinstance(component, Weighted):
        needs.add("weights")
    return [words for need, words in _COSTS.items() if need in needs]


def source_of(entry: Entry) -> str:
    """Return a link to the paper that a component is from, as its documentation names it; empty where it names none.

    That of the class goes first, then what its module says behind the component's name, then the only paper that the
    module or, where the component has one to itself, the package names.
    """
    module = sys.modules[entry.component.__module__]
    about = module.__doc__ or ""
    package = sys.modules[module.__name__.rpartition(".")[0]] if module.__name__.count(".") > 2 else None
    named = re.findall(rf"`{re.escape(entry.name)}`[^`]*", about)
    for text in (inspect.getdoc(entry.component) or "", *named):
        if found := _PAPER.search(text):
            return _link(found[1])
    for text in (about, (package.__doc__ or "") if package is not None else ""):
        if len(papers := set(_PAPER.findall(text))) == 1:
            return _link(*papers)
    return ""


def on_nano(entry: Entry) -> str:
    """Return what the documentation of a policy's module says of a model as small as `nano`; empty where nothing."""
    about = " ".join((sys.modules[entry.component.__module__].__doc__ or "").split())
    return " ".join(sentence for sentence in re.split(r"(?<=\.)\s", about) if "nano`" in sentence)


def _link(paper: str) -> str:
    return f"[arXiv {paper}](https://arxiv.org/abs/{paper})"


def _index(kinds: list[str]) -> str:
    lines = [
        "# Components",
        "",
        "Generated from the registered components by `make docs`; do not edit.",
        "`KIND=NAME` on a command line chooses one.",
        "",
        "| kind | a component of it | how many |",
        "|---|---|---|",
    ]
    lines += [f"| [{k}]({k}.md) | {_PURPOSES.get(k, '')} | {len(REGISTRY.names(k))} |" for k in kinds]
    return "\n".join(lines) + "\n"


def _page(kind: str) -> str:
    chosen = [REGISTRY.entry(kind, name) for name in REGISTRY.names(kind)]
    lines = [
        f"# {kind}",
        "",
        f"A component of this kind {_PURPOSES[kind]}. What each option means stands in [config.md](../config.md).",
        "Generated from the registered components by `make docs`; do not edit.",
        "",
        "| name | what it is | source | costs | options |",
        "|---|---|---|---|---|",
        *(_row(entry) for entry in chosen),
    ]
    if kind == "optimizer":
        lines += ["", "Under a language model as small as `nano`, which has half a million parameters:", ""]
        lines += [f"- `{entry.name}`: {text}" for entry in chosen if (text := on_nano(entry))]
    found = presets(kind)
    if found:
        lines += ["", "Presets, which set a component's options:", ""]
        lines += [f"- `{kind}={name}`: {text}" for name, text in found.items()]
    if kind != "study" and any(costs_of(entry) for entry in chosen):
        lines += ["", *_legend()]
    return "\n".join(lines) + "\n"


def _row(entry: Entry) -> str:
    component: Any = entry.component
    if entry.kind == "study":
        costs = f"jobs of {component.program}.py"
    else:
        costs = "as what it stands for" if issubclass(component, Placeholder) else ", ".join(costs_of(entry))
    cells = (f"`{entry.name}`", entry.summary, source_of(entry) or "–", costs or _CHEAP, ", ".join(_options(entry)))
    return "| " + " | ".join(cell.replace("|", "\\|") or "–" for cell in cells) + " |"


def _options(entry: Entry) -> Iterator[str]:
    section = f"../config.md#{entry.kind}{entry.name}"
    names = [f"`{field.name}`" for field in entry.options]
    yield from ([f"[{names[0]}]({section})", *names[1:]] if names else [])


def _legend() -> list[str]:
    return [
        f"Costs, with the default options: `{_CHEAP}` asks nobody. *Embeddings* are made by the embedder on this",
        "machine, once for each text, and kept. *Calls* are requests to a role's model: paid once, and kept in the",
        "journal. A *server* serves its model's replies. *Weights* are a model's, loaded into this machine's memory.",
    ]
