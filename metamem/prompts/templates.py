"""The prompts of a run: Jinja templates in, chat messages out.

A template has a `user` block and, where it wants one, a `system` block; its first comment says what it is for. Every
value that is put in is data: what looks like one of the prompts' section tags is neutralised, so that no memory or
reply can close the section that holds it. Which templates there are is known from folders (`metamem.prompts.catalog`):
the project's own, and those that plugins add.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metamem.core.calls import Message
from metamem.core.errors import ConfigError, unknown
from metamem.core.registry import option, register
from metamem.prompts.catalog import PROMPTS, Template, register_templates, registered, split_example
from metamem.prompts.neutral import environment

if TYPE_CHECKING:
    import jinja2

NANO = "prompts/nano"
UNFENCED = "prompts/unfenced"
_OWN = Path(__file__).parent / "default"


def add_templates(folder: Path | str) -> None:
    """Register the templates of a folder: each `NAME.jinja` is rendered by its name and has an option `prompts.NAME`.

    A plugin's module calls this where it registers its components. Raises `ConfigError` for a folder without templates,
    a name that is taken or no identifier, and a template whose first comment does not say what it is for.
    """
    register_templates(Path(folder), PROMPTS)
    for name, template in registered(PROMPTS).items():
        if not name.isidentifier():
            raise ConfigError(f"the template {template.path}: a name has letters, digits and '_' only, got '{name}'")
        if not template.help:
            raise ConfigError(f"the template {template.path} needs a first comment that says what it is for")
    _offer_options()


class Prompts:
    """The project's own prompts; any of them can be replaced by a file."""

    # Groups of templates; the later ones hold what the first ones lack.
    GROUPS: tuple[str, ...] = (PROMPTS,)
    # Templates whose values are inserted as they are.
    UNFENCED: frozenset[str] = frozenset()
    Config: Any  # an option for each template; made by `_offer_options`

    def __init__(self, config: Any) -> None:
        self._own: dict[str, Template] = {}
        for group in reversed(self.GROUPS):
            self._own |= registered(group)
        files = {name: str(getattr(config, name, "")) for name in self._own}
        self._given = frozenset(name for name, path in files.items() if path)
        self._texts = {name: template.text for name, template in self._own.items()}
        for name in self._given:
            try:
                self._texts[name] = split_example(Path(files[name]).read_text(encoding="utf-8"))[0]
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"prompts.{name}: cannot read the template '{files[name]}': {error}") from None
        self._environments: dict[bool, jinja2.Environment] = {}
        self._templates: dict[str, jinja2.Template] = {}
        self._known: dict[str, frozenset[str]] = {}

    def texts(self) -> Mapping[str, str]:
        """Name → sha256 of each template's text."""
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in self._texts.items()}

    def identity(self, declared: Iterable[str] = ()) -> Mapping[str, str]:
        """Name → sha256 of the texts that can decide a run's results: the project's own templates, and those of plugins
        that a component of the run has `declared`.
        """
        own = {name for name, template in registered(PROMPTS).items() if template.path.parent == _OWN}
        found = {name: text for name, text in self.texts().items() if name in own.union(declared)}
        return {name: f"unfenced {text}" if name in self.UNFENCED else text for name, text in found.items()}

    def require(self, component: str, declared: Iterable[str]) -> None:
        """Raise `ConfigError` where a component (`memory=lightmem`) declares a template that nobody has registered."""
        for name in declared:
            if name not in self._texts:
                raise ConfigError(f"{component} needs the template '{name}': {unknown('template', name, self._texts)}")

    def check(self) -> None:
        """Compile every template that is not the project's own, before anything is paid.

        Those of the project are compiled where they are needed: together they take longer than a small run.

        Raises `ConfigError` naming the template and the line that cannot be compiled, or a variable that the registered
        template does not have.
        """
        foreign = {name for name, template in self._own.items() if not template.path.is_relative_to(_OWN.parent)}
        for name in sorted(foreign | self._given):
            self._template(name)
            if name in self._given:
                known = self._variables(registered(PROMPTS)[name].text)
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

        return meta.find_undeclared_variables(self._compiled(True).parse(text))

    def render(self, name: str, **values: Any) -> tuple[Message, ...]:
        """The messages of prompt `name`. Raises `ConfigError` for an unknown name and a variable that is missing."""
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

    def _compiled(self, fenced: bool) -> jinja2.Environment:
        if fenced not in self._environments:
            texts = tuple(sorted(self._texts.items()))
            self._environments[fenced] = _environment(texts, bool(self._given), fenced)
        return self._environments[fenced]

    def _template(self, name: str) -> jinja2.Template:
        import jinja2

        if name not in self._texts:
            raise ConfigError(unknown("template", name, self._texts))
        if name not in self._templates:
            try:
                template = self._compiled(name not in self.UNFENCED).get_template(name)
            except jinja2.TemplateSyntaxError as error:
                raise ConfigError(f"prompts.{name}, line {error.lineno}: {error.message}") from None
            if "user" not in template.blocks:
                raise ConfigError(f"prompts.{name}: the template has no block named 'user'")
            self._templates[name] = template
        return self._templates[name]


@lru_cache(maxsize=8)
def _environment(texts: tuple[tuple[str, str], ...], sandboxed: bool, fenced: bool) -> jinja2.Environment:
    """Templates by name, compiled once for all jobs of a sweep: compiling them takes a fifth of a second."""
    import jinja2

    return environment(jinja2.DictLoader(dict(texts)), sandboxed=sandboxed, fenced=fenced)


class NanoPrompts(Prompts):
    """Prompts of few words for `backbone=nano`; what it has no role for is the default's."""

    GROUPS = (NANO, PROMPTS)


class UnfencedPrompts(Prompts):
    """The default's prompts without the fences around what answers read: to measure what the fences do."""

    GROUPS = (UNFENCED, PROMPTS)
    UNFENCED = frozenset(("answer",))


def _offer_options() -> None:
    """Give all components an option for each template that there is now."""
    for name, component in (("default", Prompts), ("nano", NanoPrompts), ("unfenced", UnfencedPrompts)):
        fields = [(t.name, str, option("", t.help)) for t in registered(PROMPTS).values()]
        about = {"__doc__": "Files that replace single templates; empty keeps the registered one."}
        namespace = {**about, "__module__": __name__, "__qualname__": f"{component.__name__}.Config"}
        component.Config = dataclasses.make_dataclass("Config", fields, namespace=namespace)
        register("prompts", name)(component)


register_templates(Path(__file__).parent / "nano", NANO)
register_templates(Path(__file__).parent / "unfenced", UNFENCED)
add_templates(_OWN)
