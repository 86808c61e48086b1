"""Functions that a monitor was made with, which no file holds, and which are given again."""

from gradood._engine.forms import ModelInput
from gradood.artifact.manifest import ModelRecord
from gradood.errors import ArtifactError
from gradood.taps import Output

__all__ = ["model_input_of", "named_output", "output_of"]

_FUNCTION = ""
"""Stands in a file for a function that chose the output."""


def named_output(output: Output | None) -> str | int | None:
    """The choice of an output as a file holds it."""
    return _FUNCTION if callable(output) else output


def output_of(record: ModelRecord, given: Output | None) -> Output | None:
    """What chooses the logits: as given, else as a file says.

    Args:
        record: of the file.
        given: by the user who loads it, or None.

    Raises:
        ArtifactError: the file cannot say.
    """
    output = record.output if given is None else given
    if output == _FUNCTION:
        raise ArtifactError(
            "the file was saved with a function as output=, which it cannot hold; give it "
            "again: gradood.load(path, model, output=function)."
        )
    return output


def model_input_of(record: ModelRecord, given: ModelInput | None) -> ModelInput | None:
    """What makes the model's inputs of a batch: as given.

    Args:
        record: of the file.
        given: by the user who loads it, or None.

    Raises:
        ArtifactError: the file needs one, and none was given.
    """
    if given is None and record.model_input:
        raise ArtifactError(
            "the file was saved with a function as model_input=, which it cannot hold; give it "
            "again: gradood.load(path, model, model_input=function)."
        )
    return given
