"""``gradood methods``."""

from typing import Annotated

import typer

from gradood.cli.options import Json
from gradood.cli.output import data, document

__all__ = ["methods"]


def methods(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A method, for its page.")
    ] = None,
    json: Json = False,
) -> None:
    """List the methods; or with a name: what it computes, needs and costs, and when it fails."""
    from gradood.bench.page import method_page
    from gradood.registry import methods as known

    if name is not None:
        page = method_page(name)
        if json:
            document(page.to_dict())
        else:
            data(page.markdown())
        return
    pages = [method_page(method.name) for method in known()]
    if json:
        document({"methods": [page.to_dict() for page in pages]})
        return
    rows = [("METHOD", "LEARNS FROM", "MEASURES")]
    rows += [(page.method.name, page.fit, page.method.title) for page in pages]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    data("\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c}" for a, b, c in rows))
