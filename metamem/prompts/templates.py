"""The prompts of a run: Jinja templates in, chat messages out.

A template has a `user` block and, where it wants one, a `system` block. Every value that is put in is data: what looks
like one of the prompts' section tags is neutralised, so that no memory or reply can close the section that holds it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metamem.core.calls import Message
from metamem.core.errors import ConfigError, unknown
from metamem.core.registry import option, register
from metamem.prompts.neutral import environment

if TYPE_CHECKING:
    import jinja2

NAMES = (
    *("answer", "reflect", "propose", "consolidate", "repair"),
    *("extract", "update", "repair_memory"),
    *("memorise", "call_replies", "content_fits", "memagent", "mem1"),
    *("search", "search_results"),
)


@register("prompts", "default")
class Prompts:
    """The project's own prompts; any of them can be replaced by a file."""

    # Where the templates are; the later folders hold what the first ones lack.
    FOLDERS: tuple[Path, ...] = (Path(__file__).parent / "default",)

    @dataclass
    class Config:
        """Files that replace single templates; empty keeps the project's own."""

        answer: str = option("", "path of a Jinja file that replaces the answer prompt")
        reflect: str = option("", "path of a Jinja file that replaces the reflection prompt")
        propose: str = option("", "path of a Jinja file that replaces the proposal prompt")
        consolidate: str = option("", "path of a Jinja file that replaces the consolidation prompt")
        repair: str = option("", "path of a Jinja file that replaces the request to repair unreadable JSON")
        extract: str = option("", "path of a Jinja file that replaces the prompt for the facts of messages (lightmem)")
        update: str = option("", "path of a Jinja file that replaces the prompt to update a memory (lightmem)")
        repair_memory: str = option(
            "", "path of a Jinja file that replaces the request to repair a memory builder's unreadable JSON"
        )
        memorise: str = option("", "path of a Jinja file that replaces the prompt to write a chunk down (memalpha)")
        call_replies: str = option("", "path of a Jinja file that replaces the reply to calls that were not done")
        content_fits: str = option("", "path of a Jinja file that replaces the question whether a write suits its part")
        memagent: str = option("", "path of a Jinja file that replaces the prompt to rewrite the notes (memagent)")
        mem1: str = option("", "path of a Jinja file that replaces the prompt to rewrite the state (mem1)")
        search: str = option("", "path of a Jinja file that replaces the offer to search the memory while answering")
        search_results: str = option("", "path of a Jinja file that replaces what shows the results of searches")

    def __init__(self, config: Config) -> None:
        self._texts: dict[str, str] = {}
        self._given = frozenset(name for name in NAMES if getattr(config, name))
        for name in NAMES:
            given = getattr(config, name)
            path = Path(given) if given else self._own(name)
            try:
                self._texts[name] = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"prompts.{name}: cannot read the template '{path}': {error}") from None
        self._environment: jinja2.Environment | None = None
        self._templates: dict[str, jinja2.Template] = {}
        self._known: dict[str, frozenset[str]] = {}

    def _own(self, name: str) -> Path:
        return next(path for folder in self.FOLDERS if (path := folder / f"{name}.jinja").is_file())

    def texts(self) -> Mapping[str, str]:
        """Name → sha256 of each template's text; enters a run's identity."""
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in self._texts.items()}

    def check(self) -> None:
        """Compile every template, before anything is paid.

        Raises `ConfigError` naming the template and the line that cannot be compiled, or a variable that the project's
        own template does not have.
        """
        for name in NAMES:
            self._template(name)
            if name in self._given:
                known = self._variables((Prompts.FOLDERS[0] / f"{name}.jinja").read_text(encoding="utf-8"))
                for variable in sorted(self._variables(self._texts[name]) - known):
                    raise ConfigError(f"prompts.{name}: {unknown('variable', variable, known)}")

    def variables(self, name: str) -> frozenset[str]:
        """Return the variables of prompt `name`."""
        if name not in self._known:
            self._template(name)
            self._known[name] = frozenset(self._variables(self._texts[name]))
        return self._known[name]

    def _variables(self, text: str) -> set[str]:
        from jinja2 import meta

        assert self._environment is not None
        return meta.find_undeclared_variables(self._environment.parse(text))

    def render(self, name: str, **values: Any) -> tuple[Message, ...]:
        """The messages of prompt `name`. Raises `ConfigError` for a variable that it is not given."""
        import jinja2

        template = self._template(name)
        context = template.new_context(values)
        messages = []
        try:
            for role in ("system", "user"):
                block = template.blocks.get(role)
                text = "".join(block(context)).strip("\n") if block else ""
                if text:
                    messages.append(Message(role, text))
        except jinja2.TemplateError as error:
            raise ConfigError(f"prompts.{name}: {error}") from None
        return tuple(messages)

    def _template(self, name: str) -> jinja2.Template:
        import jinja2

        if self._environment is None:
            self._environment = environment(jinja2.DictLoader(self._texts), sandboxed=bool(self._given))
        if name not in self._templates:
            try:
                template = self._environment.get_template(name)
            except jinja2.TemplateSyntaxError as error:
                raise ConfigError(f"prompts.{name}, line {error.lineno}: {error.message}") from None
            if "user" not in template.blocks:
                raise ConfigError(f"prompts.{name}: the template has no block named 'user'")
            self._templates[name] = template
        return self._templates[name]


@register("prompts", "nano")
class NanoPrompts(Prompts):
    """Prompts of few words for `backbone=nano`; what it has no role for is the default's."""

    FOLDERS = (Path(__file__).parent / "nano", *Prompts.FOLDERS)

    @dataclass
    class Config(Prompts.Config):
        """Files that replace single templates."""
