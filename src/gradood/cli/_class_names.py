"""Files with names of classes."""

from pathlib import Path

from gradood.errors import ConfigError

__all__ = ["names_of"]


def names_of(file: Path, option: str) -> tuple[str, ...]:
    """Names of a text file, one a line.

    Args:
        file: of an option.
        option: its name, for messages.

    Raises:
        ConfigError: it is no text file.
    """
    try:
        return tuple(file.read_text(encoding="utf-8").splitlines())
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{option} {str(file)!r} is no text file; expected a name per line."
        ) from error
