"""Build the site into build/site, without a network: python docs/build.py [--quick]

Stages README.md and the pages of docs/ beside the API pages in build/source, with links changed to
where things are there, and the navigation of navigation.toml; runs Sphinx with warnings as
errors; then looks for every link of the pages that were made. `--quick` keeps pages that are as
they were, whose navigation may then be an earlier one.
"""

import re
import shutil
import sys
import tomllib
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

import links

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SOURCE, SITE = ROOT / "build" / "source", ROOT / "build" / "site"
_AT_THE_ROOT = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}
_AT_THE_ROOT |= {"CHANGELOG.md": "changelog.md", "docs/index.md": "contents.md"}
_SKIPPED = ("docs/setup", "docs/static")
_FENCE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.M | re.S)
_LINK = re.compile(r"(?<=\]\()(?P<path>[^)#:\s]+)(?P<rest>#[^)\s]*)?(?=\))")


def staged_name(path: str) -> str:
    """Where a file of the repository is in the staged tree."""
    if path in _AT_THE_ROOT:
        return _AT_THE_ROOT[path]
    if not path.startswith("docs/"):
        return f"files/{path}"
    inner = PurePosixPath(path.removeprefix("docs/"))
    return str(inner.with_name("index.md") if inner.name == "README.md" else inner)


def target(page: str, link: str) -> str:
    """The file of the repository that a link leads to; of a folder its first page."""
    path = normpath(f"{PurePosixPath(page).parent}/{link}")
    if (ROOT / path).is_dir():
        first = [f"{path}/{n}" for n in ("README.md", "index.md") if (ROOT / path / n).exists()]
        return first[0] if first else f"{path}/index.md"
    return path


class Staging:
    """The tree that Sphinx reads; a file that is as before is left alone, so that it is quick.

    Args:
        folder: to make it in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: set[str] = set()

    def write(self, name: str, content: str | bytes) -> None:
        """A file of the tree."""
        file, data = self.folder / name, content.encode() if isinstance(content, str) else content
        self.written.add(name)
        if not file.exists() or file.read_bytes() != data:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)

    def page(self, path: str) -> None:
        """A page of the repository, its links changed."""
        name = staged_name(path)
        parts = _FENCE.split((ROOT / path).read_text(encoding="utf-8"))
        parts[::2] = [_LINK.sub(lambda m: self._link(path, name, m), part) for part in parts[::2]]
        self.write(name, "".join(parts))

    def _link(self, path: str, name: str, found: re.Match[str]) -> str:
        aim = target(path, found["path"])
        to = staged_name(aim)
        if to.startswith("files/"):  # Not a page: a copy to look at.
            self._copy(aim, to)
        return relpath(to, PurePosixPath(name).parent) + (found["rest"] or "")

    def _copy(self, path: str, to: str) -> None:
        if (ROOT / path).is_file():
            self.write(to, (ROOT / path).read_bytes())
        elif (folder := (ROOT / path).parent).is_dir():
            names = sorted(file.name for file in folder.iterdir() if file.is_file())
            rows = [f"- [{name}]({name})" for name in names]
            text = "\n".join(["---", "orphan: true", "---", "", f"# {folder.name}/", "", *rows])
            self.write(to, text + "\n")
            for name in names:
                self.write(f"{PurePosixPath(to).parent}/{name}", (folder / name).read_bytes())

    def append(self, name: str, text: str) -> None:
        """More at the end of a page that is staged."""
        self.write(name, (self.folder / name).read_text(encoding="utf-8") + text)

    def finish(self) -> None:
        """Remove what an earlier run left and this one did not write."""
        for file in self.folder.rglob("*"):
            if file.is_file() and str(file.relative_to(self.folder)) not in self.written:
                file.unlink()

    def named(self, patterns: list[str], but: str = "") -> list[str]:
        """Names of staged pages, without their suffix, in the order of the patterns."""
        pages = sorted(n.rpartition(".")[0] for n in self.written if n.endswith((".md", ".rst")))
        found = [p for pattern in patterns for p in pages if p != but and _fits(p, pattern)]
        return list(dict.fromkeys(found))


def _fits(page: str, pattern: str) -> bool:
    return PurePosixPath(page).match(pattern) and page.count("/") == pattern.count("/")


def toctree(pages: list[str], caption: str = "") -> str:
    """A part of the navigation, which the page itself does not show."""
    options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["", "", "```{toctree}", *options, *(f"/{p}" for p in pages), "```", ""])


def stage(staging: Staging) -> None:
    """Every page of the site."""
    import api

    pages = [name for name in _AT_THE_ROOT if not name.startswith("docs/")]
    for file in sorted(DOCS.rglob("*")):
        path = file.relative_to(ROOT).as_posix()
        if not file.is_file() or path.startswith(_SKIPPED) or "__pycache__" in path:
            continue
        if file.suffix == ".md":
            pages.append(path)
        elif file.parent != DOCS:
            staging.write(staged_name(path), file.read_bytes())
    for path in pages:
        staging.page(path)
    for name, text in api.pages().items():
        staging.write(f"api/{name}", text)
    navigation = tomllib.loads((DOCS / "navigation.toml").read_text(encoding="utf-8"))
    for section in navigation["section"]:
        listed = staging.named(section["pages"])
        if listed:
            staging.append("index.md", toctree(listed, section["title"]))
    for page, below in navigation["below"].items():
        if f"{page}.md" in staging.written:
            staging.append(f"{page}.md", toctree(staging.named(below, but=page)))
    staging.finish()


def main() -> int:
    """Exit code: 1 where Sphinx warned, or a link leads nowhere."""
    from sphinx.cmd.build import main as sphinx

    if "--quick" not in sys.argv:
        shutil.rmtree(ROOT / "build", ignore_errors=True)
    stage(Staging(SOURCE))
    arguments = ["-W", "--keep-going", "-q", "-b", "html", "-c", str(DOCS)]
    code = sphinx([*arguments, "-d", str(ROOT / "build" / "doctrees"), str(SOURCE), str(SITE)])
    if code:
        return code
    found = links.check(SITE)
    for problem in found.broken:
        print(f"broken: {problem}", file=sys.stderr)
    counted = f"{found.pages} pages, {found.links} links within the site"
    print(f"{counted}, {len(found.broken)} broken: {SITE / 'index.html'}")
    return 1 if found.broken else 0


if __name__ == "__main__":
    sys.exit(main())
