"""A request that is not answered with scores, and the status that says why."""

__all__ = ["Refusal"]


class Refusal(Exception):
    """Why a request is refused.

    Args:
        status: of HTTP.
        message: for the client; names no path.
        retry: seconds after which to come back, or None.
        grpc: code of gRPC, where the status of HTTP leaves it open.
    """

    def __init__(
        self, status: int, message: str, *, retry: float | None = None, grpc: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.retry, self.grpc = status, message, retry, grpc
