"""What a detector's state is made of: types and sizes, declared in words and compared."""

from gradood.functional._tensor_shapes import misfits

__all__ = ["misfits"]
