"""The file of a detector as commands make it: may it be written, and what it says once written."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradood.cli._output import passed_over, say
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from gradood.data import RowDataset

__all__ = ["check_target", "combined", "noun_of", "saved", "say_passed_over"]


def say_passed_over(images: "RowDataset") -> None:
    """Tell which files are no images."""
    if images.passed_over:
        say(f"passed over: {passed_over(images.passed_over)}")


def noun_of(preprocess: Mapping[str, Any] | None) -> str:
    """What the inputs are called, by how they were made."""
    return "rows" if "kind" in (preprocess or {}) else "images"


def combined(result: Mapping[str, Any], noun: str) -> str:
    """How the detectors of a file make one decision, and by how many inputs each.

    Args:
        result: of `saved`.
        noun: what the inputs are called.
    """
    record = result["calibration"] or {}
    if not record.get("fusion") or not record.get("combined"):
        return result["combine"] or "no"
    return (
        f"{result['combine']}: {record['fusion']['samples']:,} of the calibration {noun} bring the "
        f"scores to one scale, {record['combined']['samples']:,} set the threshold"
    )


def check_target(out: Path, *, force: bool, source: Path | None = None) -> None:
    """Refuse a file that would be lost, before hours of work rather than after.

    Args:
        out: where the detector is to go.
        force: whether another file may be replaced.
        source: the file that the detector came from, which may always be replaced.

    Raises:
        ConfigError: there is another file already, or no such folder.
    """
    if not out.parent.is_dir():
        raise ConfigError(f"--out {str(out)!r}: its folder does not exist; make it first.")
    if out.is_dir():
        raise ConfigError(f"--out {str(out)!r} is a folder; name a file.")
    own = source is not None and out.exists() and out.samefile(source)
    if out.exists() and not own and not force:
        raise ConfigError(f"--out {str(out)!r} is there already; name another, or give --force.")


def saved(file: Path) -> dict[str, Any]:
    """What the file on disk says of itself, verified once more: plain values."""
    from gradood.artifact import check

    verified = check(file)
    manifest = verified.manifest
    return {
        "file": str(file),
        "bytes": verified.size,
        "sha256": verified.sha256,
        "detectors": {
            record.name: {"method": record.method, "options": record.options}
            for record in manifest.detectors
        },
        "combine": manifest.combine,
        "calibration": manifest.calibration,
        "overrides": [override.reason for override in manifest.overrides],
    }
