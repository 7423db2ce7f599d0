"""The catalogue of templates: a file below a folder of templates is its own registration.

In: folders of Jinja files. Out: a `Template` for each: its name is its path below the folder, its help the first
comment, its sections the tags around data, and its block `example` a reply that it hopes for. The example is no part of
what is rendered or hashed: only the stand-in for a model, and tests, read it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from metamem.core.errors import ConfigError
from metamem.prompts.neutral import protect

PROMPTS = "prompts"  # the group that components render by name, and plugins add to

_EXAMPLE = re.compile(r"\{%-?\s*block example\s*-?%\}\n?(.*?)\{%-?\s*endblock(?:\s+example)?\s*-?%\}\n?", re.DOTALL)
_COMMENT = re.compile(r"\{#-?(.*?)-?#\}", re.DOTALL)
_EXTENDS = re.compile(r"\{%-?\s*extends\s+[\"'](.+?)\.jinja[\"']")
_TAG_OR_BRANCH = re.compile(r"\{%-?\s*(if|endif|for|endfor)\b|<([a-z_]+)>")
_groups: dict[str, dict[str, Template]] = {}


@dataclass(frozen=True, eq=False)
class Template:
    """One file. `text` is what is rendered, without the block `example`; `base` is the template that it extends."""

    group: str
    name: str
    path: Path
    text: str
    example: str
    help: str
    base: Template | None = None

    @cached_property
    def hash(self) -> str:
        """sha256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @cached_property
    def sections(self) -> frozenset[str]:
        """The tags that open and close a section in it."""
        return frozenset(tag for tag, _ in self._tags())

    @cached_property
    def needed(self) -> frozenset[str]:
        """The sections that every prompt made of it has: those outside of conditions and loops."""
        return frozenset(tag for tag, always in self._tags() if always)

    @cached_property
    def lines(self) -> tuple[str, ...]:
        """The lines that stand in every prompt made of it as they are."""
        found, depth = [], 0
        for line in self._whole().split("\n"):
            depth += len(re.findall(r"\{%-?\s*(?:if|for)\b", line)) - len(re.findall(r"\{%-?\s*end(?:if|for)\b", line))
            if depth == 0 and "{" not in line and line.strip():
                found.append(line)
        return tuple(found)

    def _whole(self) -> str:
        return _COMMENT.sub("", self.text) + (self.base._whole() if self.base else "")

    def _tags(self) -> Iterator[tuple[str, bool]]:
        text, depth = self._whole(), 0
        for match in _TAG_OR_BRANCH.finditer(text):
            branch, tag = match.groups()
            if branch:
                depth += -1 if branch.startswith("end") else 1
            elif f"</{tag}>" in text:
                yield tag, depth == 0


def read_templates(folder: Path, group: str) -> dict[str, Template]:
    """Name → template of every file `*.jinja` below a folder; names that begin with `_` are only extended or included.

    A template without an example has that of the one that it extends. Raises `ConfigError` naming the file that cannot
    be read, or that extends a file which is not there.
    """
    texts = {}
    for path in sorted(folder.rglob("*.jinja")):
        try:
            texts[path.relative_to(folder).as_posix().removesuffix(".jinja")] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the template {path} cannot be read: {error}") from error
    made: dict[str, Template] = {}

    def make(name: str, behind: tuple[str, ...] = ()) -> Template:
        if name in made:
            return made[name]
        path, base = folder / f"{name}.jinja", None
        if extended := _EXTENDS.search(texts[name]):
            if extended[1] not in texts or extended[1] in (name, *behind):
                raise ConfigError(f"the template {path} extends '{extended[1]}.jinja', which {folder} does not offer")
            base = make(extended[1], (*behind, name))
        text, example, help = split_example(texts[name])
        made[name] = Template(group, name, path, text, example or (base.example if base else ""), help, base)
        return made[name]

    for name in texts:
        make(name)
    return {name: made[name] for name in texts}


def split_example(source: str) -> tuple[str, str, str]:
    """A template's text without its example, the example, and the first sentence of the first comment."""
    example = _EXAMPLE.search(source)
    comment = _COMMENT.search(source)
    help = " ".join(comment[1].split()).split(". ")[0].rstrip(".") if comment else ""
    return _EXAMPLE.sub("", source, count=1), example[1] if example else "", help


def register_templates(folder: Path, group: str) -> None:
    """Add a folder's templates to a group. Raises `ConfigError` for a name that another folder has registered there."""
    found = read_templates(folder, group)
    if not found:
        raise ConfigError(f"the folder {folder} holds no template (*.jinja)")
    known = _groups.setdefault(group, {})
    for name, template in found.items():
        if name in known and known[name].path != template.path:
            raise ConfigError(f"the template '{name}' of {folder} is already registered by {known[name].path}")
    known |= found
    every_template.cache_clear()
    protect(tag for template in found.values() for tag in template.sections)


def registered(group: str) -> Mapping[str, Template]:
    """Name → template of a group, sorted by name; without those that are only extended or included."""
    found = _groups.get(group, {})
    return {name: found[name] for name in sorted(found) if not name.rpartition("/")[2].startswith("_")}


@cache
def every_template() -> tuple[Template, ...]:
    """The templates of all groups, by group and name."""
    return tuple(template for group in sorted(_groups) for template in registered(group).values())
