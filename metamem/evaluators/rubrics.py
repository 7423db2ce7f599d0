"""What a judge is asked: one template per question type, rendered with the question, its truth and the response.

In: a `Question`, a response, and the sentence that says which form the reply must have. Out: the judge's prompt.
`metamem` holds the project's own templates (for LongMemEval and its abstention, LoCoMo and LoCoMo-Plus),
`locomo_generous` one for all of LoCoMo, `file` a folder of the user's, pinned by content. All neutralise data, so that
a response cannot close its section. Types without a template are refused by `check`, before anything is paid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metamem.core.errors import ConfigError, DataError, unknown
from metamem.core.json_form import digest
from metamem.core.records import Question
from metamem.core.registry import option, register
from metamem.core.text import format_date
from metamem.prompts.catalog import read_templates, register_templates
from metamem.prompts.neutral import environment

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "rubric_templates"
NANO_TEMPLATES = Path(__file__).parent / "rubric_nano"
VARIABLES = ("question", "date", "answer", "answers", "response", "type", "abstention", "forbidden", "demand")
_FALLBACK_HELP = "question type whose template serves types that have none (default: such types are an error)"


class _Templates:
    """The templates of one folder, read once. Names are file names without `.jinja`; `_partials` are for `include`.

    A `variant` is a folder within it whose templates serve the types in their stead, and may extend them.
    """

    def __init__(self, name: str, folder: Path, fallback: str | None, sandboxed: bool, variant: str = "") -> None:
        self._name, self._folder, self._fallback, self._sandboxed = name, folder, fallback, sandboxed
        self._below = f"{variant}/" if variant else ""
        # Templates in folders below count, too: nothing unhashed can be included.
        self._texts = {f"{path}.jinja": t.text for path, t in read_templates(folder, f"rubric/{name}").items()}
        self.sha256 = digest([variant, self._texts] if variant else self._texts, 64)
        self._environment: Environment | None = None
        if fallback is not None and fallback not in self.types:
            raise ConfigError(f"rubric.fallback: {unknown('question type', fallback, self.types)}")

    @cached_property
    def types(self) -> list[str]:
        """The question types that have a template of their own."""
        below = self._below
        names = (p.removeprefix(below).removesuffix(".jinja") for p in self._texts if p.startswith(below))
        return sorted(name for name in names if not name.startswith("_") and "/" not in name)

    def identity(self) -> Mapping[str, Any]:
        """Name and content hash of the templates, and the fallback where one is set."""
        fallback = {} if self._fallback is None else {"fallback": self._fallback}
        return {"name": self._name, "hash": self.sha256[:16], **fallback}

    def check(self, questions: Sequence[Question]) -> None:
        """Renders every question once with an empty response.

        Raises `DataError` naming the question whose type has no template, `ConfigError` naming a template that cannot
        be read or rendered.
        """
        for question in questions:
            self.render(question, "", "")

    def render(self, question: Question, response: str, demand: str) -> str:
        """The judge's prompt for one response; see `contracts.Rubric`. Raises what `check` raises."""
        import jinja2

        if self._environment is None:
            loader = jinja2.DictLoader(self._texts)
            self._environment = environment(loader, sandboxed=self._sandboxed)
        file = f"{self._below}{self._template(question)}.jinja"
        try:
            return self._environment.get_template(file).render(_variables(question, response, demand))
        except jinja2.TemplateSyntaxError as error:
            where = self._folder / (error.name or file)
            raise ConfigError(f"rubric {where}, line {error.lineno}: {error.message}") from error
        except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise ConfigError(
                f"rubric {self._folder / file} cannot be rendered for question '{question.id}': "
                f"{type(error).__name__}: {error}. Variables: {', '.join(VARIABLES)}."
            ) from error

    def _template(self, question: Question) -> str:
        """Adversarial questions have rules of their own; every other abstention question has those of abstention."""
        wanted = "abstention" if question.abstention and question.type != "adversarial" else question.type
        if wanted in self.types:
            return wanted
        if question.abstention and "abstention" in self.types:
            return "abstention"
        if self._fallback is not None:
            return self._fallback
        if "default" in self.types:
            return "default"
        raise DataError(
            f"question '{question.id}': rubric={self._name} has no template for its type: "
            f"{unknown('question type', wanted, self.types)} "
            "Or name one of these as rubric.fallback, to use it for types without a template."
        )


@register("rubric", "metamem")
class MetaMemRubric(_Templates):
    """The project's own rules for LongMemEval's types, abstention and LoCoMo's categories.

    LoCoMo-Plus's too. Written from the benchmarks' published judging rules (arXiv 2410.10813, 2402.17753 and
    2602.10715), not from their prompts.
    """

    @dataclass
    class Config:
        """What to do with other types."""

        fallback: str | None = option(None, _FALLBACK_HELP)

    def __init__(self, config: Config) -> None:
        super().__init__("metamem", TEMPLATES, config.fallback, sandboxed=False)


@register("rubric", "locomo_generous")
class LocomoGenerousRubric(_Templates):
    """The generous rules that LoCoMo is widely judged by: to touch on the same thing as the truth is right.

    Figures under it are far above those under `metamem`, and compare with published ones that were judged so.
    """

    @dataclass
    class Config:
        """No options."""

    def __init__(self, config: Config) -> None:
        super().__init__("locomo_generous", TEMPLATES, None, sandboxed=False, variant="locomo_generous")


@register("rubric", "nano")
class NanoRubric(_Templates):
    """The truth and the response and nothing else, for `backbone=nano` as judge."""

    @dataclass
    class Config:
        """No options."""

    def __init__(self, config: Config) -> None:
        super().__init__("nano", NANO_TEMPLATES, None, sandboxed=False)


@register("rubric", "file")
class FileRubric(_Templates):
    """A folder of your own Jinja templates, such as a benchmark's official ones, pinned by content.

    One `<question type>.jinja` per type, `abstention.jinja`, and `default.jinja` for all other types. The variables are
    those of `VARIABLES`; `date` and `forbidden` may be None and must be tested before they are used. A template that
    ends in `{{ demand }}` has the verdict asked for, and enforced, as JSON; any other asks for yes or no by itself.
    """

    @dataclass
    class Config:
        """Where the templates are, and which content they must have."""

        path: str = option("", "folder of <question type>.jinja, abstention.jinja and default.jinja", result=False)
        sha256: str | None = option(None, "content hash (16 digits or more) that the folder must have", result=False)
        fallback: str | None = option(None, _FALLBACK_HELP)

        def __post_init__(self) -> None:
            if not self.path:
                raise ConfigError("rubric.path: rubric=file needs a folder of templates, rubric.path=FOLDER")
            if self.sha256 is not None and len(self.sha256) < 16:
                raise ConfigError(f"rubric.sha256 must have at least 16 digits, got '{self.sha256}'")

    def __init__(self, config: Config) -> None:
        folder = Path(config.path).expanduser()
        if not folder.is_dir():
            raise ConfigError(f"rubric.path: no folder '{folder}'")
        super().__init__("file", folder, config.fallback, sandboxed=True)
        if not self.types:
            raise ConfigError(f"rubric.path: the folder '{folder}' holds no <question type>.jinja")
        if config.sha256 is not None and not self.sha256.startswith(config.sha256.lower()):
            raise ConfigError(
                f"rubric.sha256: the templates in '{folder}' are others: expected {config.sha256}, found {self.sha256}"
            )


def _variables(question: Question, response: str, demand: str) -> dict[str, Any]:
    answers = question.answers
    if len(answers) > 1:
        answers = tuple(" ".join(answer.split()) for answer in answers)  # each keeps to its line
    return {
        "question": question.text,
        "date": format_date(question.date) if question.date else None,
        "answer": answers[0] if answers else "",
        "answers": answers,
        "response": response,
        "type": question.type,
        "abstention": question.abstention,
        "forbidden": question.forbidden_answer,
        "demand": demand,
    }


register_templates(TEMPLATES, "rubric/metamem")
register_templates(NANO_TEMPLATES, "rubric/nano")
