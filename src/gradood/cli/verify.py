"""``gradood verify``."""

from pathlib import Path
from typing import Annotated

import typer

from gradood.cli.options import Json
from gradood.cli.output import data, document_text

__all__ = ["verify"]


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A saved detector.")],
    json: Json = False,
) -> None:
    """Check every bit of a saved detector, and say what it is; needs neither model nor torch.

    Exit code 3 if it is damaged, changed, too new for this gradood, or no saved detector.
    """
    from gradood.artifact import check

    verified = check(file)
    manifest = verified.manifest
    hashes = {
        "sha256": verified.sha256,
        "manifest_sha256": verified.manifest_sha256,
        "payload_sha256": verified.payload_sha256,
        "model_sha256": manifest.model.fingerprint.digest,
    }
    if json:
        found = {
            "file": str(file),
            "intact": True,
            "format": str(manifest.format),
            "gradood": manifest.library,
            "torch": manifest.torch,
            "created": manifest.created,
            "bytes": verified.size,
            "tensors": len(verified.specs),
            "model": manifest.model.kind,
            "detectors": [detector.name for detector in manifest.detectors],
            "calibrated": manifest.calibration is not None,
            "overrides": [override.reason for override in manifest.overrides],
            **hashes,
        }
        data(document_text(found))
        return
    rows = {
        "format": f"{manifest.format}, written by gradood {manifest.library}",
        "created": f"{manifest.created} with torch {manifest.torch}",
        "size": f"{verified.size:,} bytes, {len(verified.specs)} tensors",
        "model": f"{manifest.model.kind}, {manifest.model.classes} classes",
        "detectors": ", ".join(detector.name for detector in manifest.detectors),
        "calibrated": "no" if manifest.calibration is None else "yes",
        "overridden": "; ".join(o.reason for o in manifest.overrides) or "nothing",
        **{name.replace("_", " "): value for name, value in hashes.items()},
    }
    lines = [f"{file}: intact", *(f"  {name:16}{_line(value)}" for name, value in rows.items())]
    data("\n".join(lines))


def _line(text: str) -> str:
    """Text of a file as one line without control characters, which could steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
