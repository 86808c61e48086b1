"""Folders of sound files as tables: a row for each file, with the name of its folder as label."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, final

from gradood.data._storage import local_path

__all__ = ["SOUNDS", "SoundFolder", "is_sound_folder"]

SOUNDS = (".wav", ".wave", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".au")
"""Ends of the names of files that are taken for sound, in lower case."""
_AUDIO, _LABEL = "audio", "label"


@final
class SoundFolder:
    """The sound files of a folder of this machine, in the order of their paths.

    Where each lies in a folder of its class, the label is the name of that folder. Hidden files
    and folders are left; other files are counted.

    Args:
        source: the folder.

    Attributes:
        paths: the files.
        rows: how many there are.
        names: of the columns: ``audio``, and ``label`` where there is a folder for each class.
        passed_over: how many other files there are, by the end of their names.
    """

    def __init__(self, source: str) -> None:
        self._root = Path(os.path.abspath(local_path(source) or source))
        others: Counter[str] = Counter()
        found: list[Path] = []
        for file in _files(self._root):
            if file.suffix.lower() in SOUNDS:
                found.append(file)
            else:
                others[file.suffix.lower() or file.name] += 1
        self.paths: tuple[PurePath, ...] = tuple(found)
        self.rows = len(found)
        self.passed_over = dict(sorted(others.items()))
        nested = bool(found) and all(file.parent != self._root for file in found)
        self.names = [_AUDIO, _LABEL] if nested else [_AUDIO]

    def value(self, row: int, column: str, together: tuple[str, ...] = ()) -> Any:
        """The file's name, or its class."""
        path = self.paths[row]
        return path.name if column == _AUDIO else path.relative_to(self._root).parts[0]

    def values(self, name: str) -> list[Any]:
        """A whole column."""
        return [self.value(row, name) for row in range(self.rows)]

    def text(self, row: int, column: str) -> str | None:
        """As `value`."""
        return self.value(row, column)

    def uri(self, path: PurePath) -> str:
        """Absolute path of a file."""
        return str(path)

    def name(self, path: PurePath) -> str:
        """The path of a file in the folder."""
        return path.relative_to(self._root).as_posix()

    def partition(self, path: PurePath, key: str) -> str | None:
        """None: such files are in no partitions."""
        return None

    def place(self, row: int) -> tuple[PurePath, int]:
        """The file of a row, which is its only one."""
        return self.paths[row], 0


def is_sound_folder(source: str) -> bool:
    """Whether a source is a folder of this machine with sound files, and without Parquet.

    Args:
        source: path or URL.

    Cost: lists the folder until a Parquet file comes.
    """
    path = local_path(source)
    if path is None or not path.is_dir():
        return False
    sound = False
    for file in _files(path):
        if file.suffix.lower() == ".parquet":
            return False
        sound = sound or file.suffix.lower() in SOUNDS
    return sound


def _files(root: Path) -> Iterator[Path]:
    """Files below a folder in the order of their paths, without hidden ones."""
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))
