"""What a benchmark leaves behind: the table, and all that is needed to make it again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradood.bench.comparison import Comparison

__all__ = ["CAPTION", "Record", "left_out_lines"]

CAPTION = (
    "FPR95 (share of the outliers taken for known where 95 % of the known are kept, lower is "
    "better) / AUROC (higher is better), in percent."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """The result of one run.

    Attributes:
        command: how to do the same again, or empty.
        provenance: see `gradood.bench.provenance`.
        subject: see `Subject.to_dict`.
        samples: path and number of images of each data set.
        settings: batch size, workers, device.
        comparison: what came out.
    """

    command: str
    provenance: Mapping[str, Any]
    subject: Mapping[str, Any]
    samples: Mapping[str, Any]
    settings: Mapping[str, Any]
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        """Values for `gradood.bench.json_text`."""
        return {
            "command": self.command,
            **self.provenance,
            "subject": self.subject,
            "samples": self.samples,
            "settings": self.settings,
            **self.comparison.to_dict(),
        }

    def markdown(self) -> str:
        """A page: the table, then what it was made with."""
        return "\n".join(
            [
                f"# Out-of-distribution detection on `{self._title()}`",
                "",
                CAPTION,
                "",
                self.comparison.table.markdown(),
                "",
                *left_out_lines(self.comparison),
                "## Made with",
                "",
                "| | |",
                "| --- | --- |",
                *(f"| {name} | {value} |" for name, value in self._facts()),
                "",
                "## Methods",
                "",
                *self._methods(),
                "",
            ]
        )

    def _title(self) -> str:
        weights = self.subject["weights"]
        model = str(self.subject["model"])
        return model if weights is None else f"{model}, {weights}"

    def _facts(self) -> list[tuple[str, str]]:
        versions = self.provenance["versions"]
        accuracy = self.comparison.id_accuracy
        seconds = self.comparison.seconds
        rows = [("command", f"`{self.command}`" if self.command else "—")]
        rows += [
            ("date", str(self.provenance["date"])),
            ("commit", str(self.provenance["commit"] or "not a clone")),
            ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
            ("machine", ", ".join(f"{k} {v}" for k, v in self.provenance["machine"].items())),
            ("weights, SHA-256", str(self.subject["weights_sha256"] or "—")),
            ("preprocessing", _listed(self.subject["preprocess"])),
            ("settings", _listed(self.settings)),
            ("fit", _sample(self.samples["fit"])),
            ("ID", _sample(self.samples["id"])),
            ("accuracy on ID", "no labels" if accuracy is None else f"{accuracy:.2%}"),
        ]
        rows += [(f"OOD {name}", _sample(s)) for name, s in self.samples["ood"].items()]
        rows.append(("seconds", ", ".join(f"{name} {t:.1f}" for name, t in seconds.items())))
        return [(name, value.replace("|", "\\|")) for name, value in rows]

    def _methods(self) -> list[str]:
        lines = []
        for name, detector in self.comparison.detectors.items():
            remarks = [*self.comparison.notes[name]]
            remarks += [f"caution: {caveat}" for caveat in self.comparison.caveats[name]]
            options = ", ".join(f"{key}={value!r}" for key, value in detector.options().items())
            lines.append(f"- `{name}`: `{type(detector).__name__}({options})`")
            lines += [f"  - {remark}" for remark in remarks]
        return lines


def left_out_lines(comparison: Comparison) -> list[str]:
    """One line of Markdown per method that did not run, then an empty one; none if all ran."""
    lines = [f"- `{name}` was left out: {why}" for name, why in comparison.left_out.items()]
    return [*lines, ""] if lines else []


def _sample(sample: Mapping[str, Any] | None) -> str:
    return "none" if sample is None else f"`{sample['path']}`, {sample['n']:,} images"


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
