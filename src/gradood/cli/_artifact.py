"""Commands on a saved detector's file: ``gradood verify`` and ``gradood card``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from gradood.cli._graph import GraphOptions, verify_graph
from gradood.cli._groups import argument, option
from gradood.cli._options import Json
from gradood.cli._output import data, document_text, write_file

if TYPE_CHECKING:
    from gradood.artifact import Verified

__all__ = ["card", "verify"]

File = Annotated[Path, argument("FILE", "A saved detector.")]


def verify(
    file: Annotated[Path, argument("FILE", "A saved detector, or an exported graph (.onnx).")],
    graph: GraphOptions,
    json: Json = False,
) -> None:
    """Check a saved detector against its hashes, and say what it is; needs neither model nor torch.

    That tells damage; it is no signature, as whoever can write the file can hash it anew. A graph
    is compared with the detector that it was made of, on images: --detector, --model, --check.

    Exit code 3 if it is damaged, changed, too new for this gradood, or no saved detector; 1 if a
    graph does not decide as its detector.
    """
    if file.suffix == ".onnx":
        verify_graph(file, graph, json=json)
        return
    from gradood.artifact import check

    verified = check(file)
    data(document_text(_facts(file, verified)) if json else _lines(file, verified))


def card(
    file: File,
    out: Annotated[Path | None, option("FILE", "Write it there instead of stdout.")] = None,
    json: Json = False,
) -> None:
    """Write the model card of a saved detector, in Markdown; needs neither model nor torch.

    The file is verified first. With --json, its manifest and hashes instead.
    """
    from gradood.artifact import card as card_of
    from gradood.artifact import check

    verified = check(file)
    if json:
        manifest = verified.manifest.to_dict()
        text = document_text(
            {**_file_hashes(verified), "bytes": verified.size, "manifest": manifest}
        )
    else:
        text = card_of(verified, file.name)
    if out is None:
        data(text)
    else:
        write_file(out, text)


def _file_hashes(verified: "Verified") -> dict[str, str]:
    return {
        "sha256": verified.sha256,
        "manifest_sha256": verified.manifest_sha256,
        "payload_sha256": verified.payload_sha256,
    }


def _facts(file: Path, verified: "Verified") -> dict[str, Any]:
    """What the file is, for JSON."""
    manifest = verified.manifest
    return {
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
        **_file_hashes(verified),
        "model_sha256": manifest.model.fingerprint.digest,
    }


def _lines(file: Path, verified: "Verified") -> str:
    """What the file is, for readers."""
    manifest = verified.manifest
    rows = {
        "format": f"{manifest.format}, written by gradood {manifest.library}",
        "created": f"{manifest.created} with torch {manifest.torch}",
        "size": f"{verified.size:,} bytes, {len(verified.specs)} tensors",
        "model": f"{manifest.model.kind}, {manifest.model.classes} classes",
        "detectors": ", ".join(detector.name for detector in manifest.detectors),
        "calibrated": "no" if manifest.calibration is None else "yes",
        "overridden": "; ".join(o.reason for o in manifest.overrides) or "nothing",
        **{name.replace("_", " "): digest for name, digest in _file_hashes(verified).items()},
        "model sha256": manifest.model.fingerprint.digest,
    }
    lines = [f"{file}: intact", *(f"  {name:16}{_printable(row)}" for name, row in rows.items())]
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Text of a file as one line without control characters, which could steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
