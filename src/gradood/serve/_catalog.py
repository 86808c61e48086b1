"""What is served by which name: for routes of HTTP and for calls of gRPC."""

from typing import TYPE_CHECKING, Any

import gradood
from gradood.serve._expected import Expected
from gradood.serve._refusal import Refusal

if TYPE_CHECKING:
    from gradood.serve._pool import Generation
    from gradood.serve._service import Service

__all__ = ["Catalog"]


class Catalog:
    """The models of a server: preprocessed inputs by one name, files of images by another.

    Args:
        service: that answers.
    """

    def __init__(self, service: "Service") -> None:
        self._service = service
        self._name = service.options.name

    def server(self) -> dict[str, Any]:
        """About the server."""
        return {
            "name": "gradood",
            "version": gradood.__version__,
            "extensions": ["binary_tensor_data"],
        }

    def current(self) -> "Generation":
        """What is served now.

        Raises:
            Refusal: nothing is yet.
        """
        current = self._service.pool.current
        if current is None:
            raise Refusal(503, "the model is being loaded.", retry=1)
        return current

    def takes_images(self, name: str, version: str | None) -> bool:
        """Whether a model takes files of images, or else preprocessed inputs.

        Args:
            name: of the model.
            version: of it; None for any.

        Raises:
            Refusal: there is none of that name or version.
        """
        current = self.current()
        if version not in (None, current.version):
            raise Refusal(404, "that version is not served.")
        if name == self._name:
            return False
        if name != f"{self._name}-images":
            raise Refusal(404, f"no model of that name; there is {self._name}.")
        self.check_images()
        return True

    def check_images(self) -> None:
        """Refuse if nobody said how images become inputs.

        Raises:
            Refusal: 404.
        """
        if not self.current().about["images"]:
            raise Refusal(404, "the detector does not say how images become inputs; send tensors.")

    def expected(self, images: bool) -> Expected:
        """What a model takes.

        Args:
            images: whether it is the one of files.
        """
        limit = self._service.options.limits.max_rows
        if images:
            return Expected("image", "BYTES", limit)
        return Expected("input", self.current().about["datatype"], limit)

    def model(self, name: str, version: str | None) -> dict[str, Any]:
        """Inputs and outputs of a model, as the protocol has them.

        Args:
            name: of the model.
            version: of it; None for any.

        Raises:
            Refusal: there is none of that name or version.
        """
        images, current = self.takes_images(name, version), self.current()
        about, expected = current.about, self.expected(images)
        shape = [-1] if images else [-1, *about["shape"]]
        return {
            "name": name,
            "versions": [current.version],
            "platform": "gradood",
            "inputs": [{"name": expected.name, "datatype": expected.datatype, "shape": shape}],
            "outputs": [
                {"name": name, "datatype": kind, "shape": [-1]} for name, kind in about["outputs"]
            ],
        }
