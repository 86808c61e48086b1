"""What there is to read about each method, out of its record, its docstring and its paper."""

import inspect
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gradood._bibliography import CITATION, Reference, bibliography, reference
from gradood._io import markdown as markdown
from gradood._io.markdown import cell
from gradood.bench._measured import kinds
from gradood.detectors.base import Detector, Learner
from gradood.registry import Method, built_in, detector_class, methods

__all__ = ["Option", "Page", "method_page", "site"]

_SECTION = re.compile(r"^(Args|Attributes|Cost|Example|Raises|Returns):|^>>> ", re.M)
_ARGUMENT = re.compile(r"^    (?P<name>\w+): (?P<text>(?:.*\n?)(?:^        .*\n?)*)", re.M)
_CALL = re.compile(r"^>>> (?P<call>\w+\([^()]*\))", re.M)
_MARK = "<!-- Made by docs/generate.py out of the code; edit the docstring instead. -->"


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a detector's constructor.

    Attributes:
        name: of the argument.
        default: as Python writes it.
        meaning: what it does.
    """

    name: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Page:
    """A method, as its user needs to know it.

    Attributes:
        method: its record.
        text: paragraphs of Markdown: what it computes, reads and assumes.
        options: of its constructor.
        labels: whether its fit needs class labels.
        example: how to make one, in Python.
        references: the papers it cites, its own first.
        published: how to make one with the authors' options, in Python; empty where the defaults
            are theirs.
        measured: mean AUROC in percent by kind of network, of those in docs/results/kinds.md.
    """

    method: Method
    text: tuple[str, ...]
    options: tuple[Option, ...]
    labels: bool
    example: str
    references: tuple[Reference, ...]
    published: str
    measured: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Values for `gradood.bench.json_text`."""
        return {
            **asdict(self.method),
            "labels": self.labels,
            "text": self.text,
            "options": [asdict(option) for option in self.options],
            "references": [asdict(paper) for paper in self.references],
            "published": self.published,
            "measured": dict(self.measured),
        }

    @property
    def fit(self) -> str:
        """What a fit takes, in words."""
        if not self.method.learns:
            return "nothing"
        return "in-distribution data with labels" if self.labels else "in-distribution data"

    @property
    def _graph(self) -> str:
        kinds = self.method.exportable
        if "head" in kinds:
            return 'of the whole model, or from the features on (`part="head"`)'
        return "of the whole model" if kinds else "none, as it needs what a graph does not have"

    def markdown(self) -> str:
        """The page, ending in a newline."""
        name = self.method.name
        lines = [f"# `{name}`: {self.method.detector}", ""]
        for paragraph in self.text:
            lines += [paragraph, ""]
        lines += [
            f"- **Reads:** {', '.join(self.method.needs)}",
            f"- **Outputs (`link=`):** {', '.join(self.method.links)}",
            f"- **Graph (`gradood export`):** {self._graph}",
            f"- **Learns from:** {self.fit}",
            f"- **Costs:** {self.method.cost}",
            f"- **Fails when:** {self.method.fails_when}",
            *self._explained(),
            *self._measured(),
            "",
            "## Use",
            "",
            *self._given(),
            "",
            "```python",
            f"monitor = gradood.Monitor(model, {self.example})",
            *(["monitor.fit(train_loader)"] if self.method.learns else []),
            "scores = monitor.score(images)  # higher = more out-of-distribution",
            "```",
            "",
            *self._options(),
            "## References",
            "",
            *(f"- {_escaped(str(paper))}" for paper in self.references),
        ]
        return "\n".join(lines) + "\n"

    def _explained(self) -> list[str]:
        """How its scores are attributed (`gradood.Guard.explain`); nothing if it does not say."""
        rule, _, meaning = detector_class(self.method.name).attribution.partition(": ")
        return [f"- **Explained by:** {rule}: {_escaped(meaning)}."] if meaning else []

    def _measured(self) -> list[str]:
        """Mean AUROC by kind of network, where it was measured."""
        figures = [f"{kind} {value:.1f}" for kind, value in self.measured.items()]
        return [f"- **Measured:** AUROC in percent: {', '.join(figures)}"] if figures else []

    def _given(self) -> list[str]:
        """Where the names of the example come from, for readers and for what runs it."""
        if any("zero-shot" in need for need in self.method.needs):
            words = (
                "`model` is a classifier that `gradood.zero_shot` made, `images` are its inputs:"
            )
            return ["<!-- setup: texts -->", words]
        names = (
            "`model`, `train_loader` and `images`" if self.method.learns else "`model` and `images`"
        )
        words = f"{names} are yours, or those of [a first guard](../tutorials/first-guard.md):"
        return ["<!-- setup: digits -->", words]

    def _options(self) -> list[str]:
        if not self.options:
            return ["It has no options.", ""]
        rows = [(f"`{o.name}`", f"`{o.default}`", cell(o.meaning)) for o in self.options]
        first = self.options[0]
        default = first.default.strip("'").lower()  # None is spelled none there.
        shell = f"--option {self.method.name}.{first.name}={default}"
        return [
            "## Options",
            "",
            markdown.table(("option", "default", "meaning"), rows, text_columns=3),
            "",
            f"On the command line: `gradood bench … {shell}`.",
            "",
            *([f"As published: `{self.published}`.", ""] if self.published else []),
        ]


def method_page(name: str) -> Page:
    """The page of a method.

    Raises:
        UnknownNameError: no such method; suggests the closest.
    """
    chosen = detector_class(name)
    method = next(method for method in methods() if method.name == name)
    doc = inspect.cleandoc(chosen.__doc__ or method.title)
    keys = dict.fromkeys([method.paper, *CITATION.findall(doc)])
    call = _CALL.search(doc)
    return Page(
        method=method,
        text=tuple(_markdown(part) for part in _description(doc).split("\n\n")),
        options=_options(chosen, doc),
        labels=issubclass(chosen, Learner) and chosen.labels,
        example=f"gradood.{call['call'] if call else f'{chosen.__name__}()'}",
        published=f"gradood.{chosen(**chosen.published)!r}" if chosen.published else "",
        # A detector of another package may cite papers that are not ours.
        references=tuple(reference(key) for key in keys if key in bibliography()),
        measured={k: one.auroc[name] for k, one in kinds().items() if name in one.auroc},
    )


def site(only: Collection[str] | None = None) -> dict[str, str]:
    """Name of a file of Markdown → its content: a page per built-in method, and their index.

    Args:
        only: names of the methods; None takes all.
    """
    own = set(built_in())
    names = [m.name for m in methods() if m.detector in own and (only is None or m.name in only)]
    pages = [method_page(name) for name in names]
    rows = [
        (
            f"[`{p.method.name}`]({p.method.name}.md)",
            cell(p.method.title),
            p.fit,
            cell(p.method.cost),
            _cited(p.method.paper),
        )
        for p in pages
    ]
    index = [
        _MARK,
        "",
        "# Methods",
        "",
        "Every score is higher for inputs that are more out-of-distribution. All methods asked for",
        "at once share one forward pass, and one backward pass per distinct objective; where the",
        "costs say “a pass of its own”, the method looks at every input again.",
        "",
        markdown.table(
            ("method", "measures", "learns from", "costs", "paper"), rows, text_columns=5
        ),
    ]
    made = {f"{p.method.name}.md": f"{_MARK}\n\n{p.markdown()}" for p in pages}
    return {"index.md": "\n".join(index) + "\n", **made}


def _description(doc: str) -> str:
    """The docstring up to its first section."""
    start = _SECTION.search(doc)
    return (doc[: start.start()] if start else doc).strip()


def _options(chosen: type[Detector], doc: str) -> tuple[Option, ...]:
    section = re.search(r"^Args:\n((?:(?:    .*)?\n)*)", doc, re.M)
    meanings = {
        found["name"]: " ".join(found["text"].split())
        for found in _ARGUMENT.finditer(section[1] if section else "")
    }
    return tuple(
        Option(name, repr(parameter.default), _markdown(meanings.get(name, "")))
        for name, parameter in inspect.signature(chosen).parameters.items()
    )


def _markdown(text: str) -> str:
    """Docstring text with Markdown's code marks, and citations in words."""
    joined = " ".join(text.split())
    return CITATION.sub(lambda cited: f"({_cited(cited[1])})", joined.replace("``", "`"))


def _cited(key: str) -> str:
    known = bibliography().get(key)
    return f"[{known.short}]({known.url})" if known else key


def _escaped(text: str) -> str:
    """A reference whose address is a link."""
    return re.sub(r"(https://\S+)$", r"<\1>", text)
