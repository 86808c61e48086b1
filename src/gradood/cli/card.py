"""``gradood card``."""

from pathlib import Path
from typing import Annotated

import typer

from gradood.cli.options import Json
from gradood.cli.output import data, document_text

__all__ = ["card"]


def card(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A saved detector.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it there instead of stdout.")
    ] = None,
    json: Json = False,
) -> None:
    """Write the model card of a saved detector, in Markdown; needs neither model nor torch.

    The file is verified first. With --json, its manifest and hashes instead.
    """
    from gradood.artifact import card as make
    from gradood.artifact import check

    verified = check(file)
    if json:
        hashes = {
            "sha256": verified.sha256,
            "manifest_sha256": verified.manifest_sha256,
            "payload_sha256": verified.payload_sha256,
        }
        manifest = verified.manifest.to_dict()
        text = document_text({**hashes, "bytes": verified.size, "manifest": manifest})
    else:
        text = make(verified, file.name)
    if out is None:
        data(text)
    else:
        out.write_text(text, encoding="utf-8")
