"""The structure of the package in figures: files, functions, imports, cycles, public names.

    python scripts/structure.py [SOURCE]

SOURCE is a folder that holds the package `gradood` (default: `src`). The code is read as text and
not imported. `tests/unit/test_structure.py` holds these figures to their limits.
"""

import ast
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

DEFAULT = Path(__file__).resolve().parent.parent / "src"
PUBLIC = (
    *("gradood.errors", "gradood.registry", "gradood.detectors", "gradood.plots"),
    *("gradood.hugging_face", "gradood.sklearn"),
)
"""Modules, and packages with all their modules, that a face names only when it is run."""
FORMULAS = ("detectors", "functional", "losses")
"""Packages whose modules hold one formula or method each, however short."""


@dataclass(frozen=True)
class Module:
    """One file: its dotted name, length, functions, imports and public names."""

    name: str
    face: bool
    lines: int
    functions: Mapping[str, int]
    imports: frozenset[str]
    lazy_imports: frozenset[str]
    exports: tuple[str, ...]


def read_package(source: Path) -> dict[str, Module]:
    """Every module of the package below `source`, by dotted name."""
    names = {_dotted(source, path): path for path in sorted((source / "gradood").rglob("*.py"))}
    return {name: _module(name, path, names) for name, path in names.items()}


def cycles(modules: Mapping[str, Module], *, lazy: bool) -> list[list[str]]:
    """Groups of modules that import one another; with `lazy`, inside functions too."""
    edges = {
        name: module.imports | (module.lazy_imports if lazy else frozenset()) - {name}
        for name, module in modules.items()
    }
    return [sorted(group) for group in _components(edges) if len(group) > 1]


def importers(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """Module → the modules that import it, its package's face not counted."""
    users: dict[str, set[str]] = {name: set() for name in modules}
    for name, module in modules.items():
        for target in module.imports | module.lazy_imports:
            if target != name and not (module.face and target.startswith(name + ".")):
                users[target].add(name)
    return users


def fragments(modules: Mapping[str, Module], limit: int = 40) -> list[str]:
    """Files shorter than `limit` lines with one importer; no method, no formula, no face."""
    users = importers(modules)
    return [
        name
        for name, module in modules.items()
        if module.lines < limit
        and len(users[name]) == 1
        and not module.face
        and not set(FORMULAS) & set(name.split("."))
        and not _named_by_face(modules, name)
    ]


def long_functions(modules: Mapping[str, Module], limit: int) -> dict[str, int]:
    """Functions of more than `limit` lines, docstring included."""
    return {
        f"{name}.{function}": lines
        for name, module in modules.items()
        for function, lines in module.functions.items()
        if lines > limit
    }


def unnamed_modules(modules: Mapping[str, Module]) -> list[str]:
    """Modules without an underscore of which their package's face names nothing."""
    return [
        name
        for name, module in modules.items()
        if not module.face
        and not any(part.startswith("_") for part in name.split("."))
        and not name.startswith(PUBLIC)
        and not _named_by_face(modules, name)
    ]


def summary(modules: Mapping[str, Module]) -> dict[str, object]:
    """All figures, for a table."""
    lines = [module.lines for module in modules.values()]
    users = importers(modules)
    return {
        "files": len(modules),
        "lines": sum(lines),
        "median file": statistics.median(lines),
        "longest file": max(lines),
        "files over 300 lines": sum(count > 300 for count in lines),
        "functions over 50 lines": len(long_functions(modules, 50)),
        "functions over 60 lines": len(long_functions(modules, 60)),
        "import cycles": len(cycles(modules, lazy=False)),
        "import cycles, hidden ones too": len(cycles(modules, lazy=True)),
        "import edges": sum(len(module.imports) for module in modules.values()),
        "modules with one importer": sum(len(names) == 1 for names in users.values()),
        "fragments (short, one importer)": len(fragments(modules)),
        "names in __all__ of all modules": sum(len(m.exports) for m in modules.values()),
        "public modules that no face names": len(unnamed_modules(modules)),
    }


def _named_by_face(modules: Mapping[str, Module], name: str) -> bool:
    face = modules.get(name.rpartition(".")[0])
    module = modules[name]
    return face is not None and (
        bool(set(face.exports) & set(module.exports)) or name.rpartition(".")[2] in face.exports
    )


def _dotted(source: Path, path: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _module(name: str, path: Path, names: Mapping[str, Path]) -> Module:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    eager, lazy = set[str](), set[str]()
    for node, deferred in _statements(tree):
        (lazy if deferred else eager).update(_targets(node, names))
    return Module(
        name=name,
        face=path.name == "__init__.py",
        lines=len(text.splitlines()),
        functions=dict(_functions(tree)),
        imports=frozenset(eager),
        lazy_imports=frozenset(lazy - eager),
        exports=_exports(tree),
    )


def _statements(tree: ast.AST, deferred: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node that runs, and whether that is later than at import."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        inside = deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield node, inside
        yield from _statements(node, inside)


def _targets(node: ast.AST, names: Mapping[str, Path]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        candidates = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        candidates = [f"{node.module}.{alias.name}" for alias in node.names]
        candidates = [c if c in names else node.module for c in candidates]
    elif (
        isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("import_module")
        and node.args
        and isinstance(node.args[0], ast.Constant)
    ):
        candidates = [str(node.args[0].value)]
    else:
        return
    yield from (candidate for candidate in candidates if candidate in names)


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, int]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}{node.name}"
            if not isinstance(node, ast.ClassDef):
                assert node.end_lineno is not None
                yield name, node.end_lineno - node.lineno + 1
            yield from _functions(node, f"{name}.")
        else:
            yield from _functions(node, prefix)


def _exports(tree: ast.Module) -> tuple[str, ...]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return tuple(
                str(item.value) for item in ast.walk(node.value) if isinstance(item, ast.Constant)
            )
    return ()


def _components(edges: Mapping[str, Set[str]]) -> list[set[str]]:
    """Strongly connected components, by Tarjan's algorithm without recursion."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[set[str]] = []
    for root in edges:
        if root in index:
            continue
        work = [(root, iter(sorted(edges[root])))]
        index[root] = low[root] = len(index)
        stack.append(root)
        while work:
            name, targets = work[-1]
            for target in targets:
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    work.append((target, iter(sorted(edges.get(target, ())))))
                    break
                if target in stack:
                    low[name] = min(low[name], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == index[name]:
                    place = stack.index(name)
                    groups.append(set(stack[place:]))
                    del stack[place:]
    return groups


def main() -> None:
    """Print the figures, and what stands out, as JSON."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    modules = read_package(source)
    details = {
        "functions over 50 lines": long_functions(modules, 50),
        "cycles": cycles(modules, lazy=True),
        "fragments": fragments(modules),
        "public modules that no face names": unnamed_modules(modules),
        "files over 300 lines": {n: m.lines for n, m in modules.items() if m.lines > 300},
    }
    print(json.dumps({**summary(modules), "details": details}, indent=1))


if __name__ == "__main__":
    main()
