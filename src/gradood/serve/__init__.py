"""A detector served by HTTP beside its model; needs ``gradood[serve]``."""

from gradood.serve._admission import Limits, keys_of
from gradood.serve._options import Options
from gradood.serve._server import serve
from gradood.serve._subject import Subject
from gradood.serve._worker_process import StartError

__all__ = ["Limits", "Options", "StartError", "Subject", "keys_of", "serve"]
