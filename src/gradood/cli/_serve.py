"""``gradood serve``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from gradood.cli._groups import flag, option
from gradood.cli._options import MODEL, RUN, Device, ModelSpec, NumClasses, Pretrained
from gradood.cli._output import say
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from gradood.serve import Options, Subject

__all__ = ["serve"]


@dataclass(frozen=True, kw_only=True)
class Served:
    """What is served."""

    PANEL: ClassVar[str] = MODEL

    detector: Annotated[
        Path | None,
        option("FILE", "A calibrated detector; with --onnx, for --watch alone."),
    ] = None
    model: Annotated[str | None, ModelSpec] = None
    weights: Annotated[Path | None, option("FILE", "Safetensors or state-dict file.")] = None
    num_classes: NumClasses = None
    pretrained: Pretrained = False
    device: Device = "cpu"
    override: Annotated[
        str | None,
        option("REASON", "Use the detector although the model is another."),
    ] = None
    onnx: Annotated[
        Path | None,
        option("FILE", "A graph of gradood export, run in place of detector and model."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where, and for whom."""

    PANEL: ClassVar[str] = "Address"

    name: Annotated[str, option("NAME", "Of the model, in addresses.")] = "detector"
    host: Annotated[str, option("HOST", "Address to listen at.")] = "127.0.0.1"
    port: Annotated[int, option("N", "0 takes a free one.", least=0, most=65535)] = 8080
    grpc: Annotated[
        int | None,
        option("N", "Port for gRPC too; 0 takes a free one.", least=0, most=65535),
    ] = None
    api_key_file: Annotated[
        Path | None,
        option("FILE", "Keys, one a line; clients send Authorization: Bearer KEY."),
    ] = None
    insecure: Annotated[bool, flag("Allow another address than loopback without keys.")] = False


@dataclass(frozen=True, kw_only=True)
class Running:
    """How it runs."""

    PANEL: ClassVar[str] = RUN

    workers: Annotated[int, option("N", "Processes that compute.", least=1)] = 1
    threads: Annotated[int, option("N", "Of each worker.", least=1)] = 1
    max_batch: Annotated[int, option("N", "Inputs at once.", least=1)] = 32
    max_wait: Annotated[
        float,
        option("SECONDS", "Requests are refused while the queue is longer.", least=0),
    ] = 0.5
    max_body: Annotated[int, option("BYTES", "Of a request.", least=1)] = 64 * 2**20
    max_pixels: Annotated[int, option("N", "Larger images are not decoded.", least=1)] = 50_000_000
    timeout: Annotated[
        float,
        option("SECONDS", "A worker that takes longer for a batch is replaced.", least=0.1),
    ] = 60.0
    grace: Annotated[
        float, option("SECONDS", "For requests to be finished at the end.", least=0)
    ] = 30.0
    follow: Annotated[
        bool,
        flag("Take over the detector's file whenever it changes; SIGHUP does so once."),
    ] = False
    watch: Annotated[
        Path | None,
        option("FILE", "Watch the stream, as gradood watch does; the state is kept here."),
    ] = None


def serve(served: Served, address: Address, running: Running) -> None:
    """Serve a detector over HTTP and gRPC, by the Open Inference Protocol (version 2).

    POST /score takes one image file; /v2/models/NAME/infer preprocessed inputs,
    /v2/models/NAME-images/infer files of images. GET /metrics is for Prometheus, /watch says what
    --watch has found. Ends with 0 on SIGTERM or Ctrl-C, once what was begun is answered.
    """
    subject, options = _subject(served, running), _options(served, address, running)
    from gradood.serve import StartError
    from gradood.serve import serve as run

    try:
        code = run(subject, options, insecure=address.insecure, announce=say)
    except StartError as error:
        say(f"error: {error}")
        raise typer.Exit(error.code) from error
    if code:
        raise typer.Exit(code)


def _subject(served: Served, running: Running) -> "Subject":
    if served.onnx is None and (served.detector is None or served.model is None):
        raise ConfigError("give --detector FILE and --model SPEC, or --onnx FILE.")
    if running.watch is not None and served.detector is None:
        raise ConfigError("--watch needs the calibration: give --detector FILE too.")
    from gradood.serve import Subject

    def text(path: Path | None) -> str | None:
        return None if path is None else str(path.resolve())

    return Subject(
        detector=text(served.detector),
        model=served.model,
        weights=text(served.weights),
        num_classes=served.num_classes,
        pretrained=served.pretrained,
        device=served.device,
        override=served.override,
        onnx=text(served.onnx),
        max_pixels=running.max_pixels,
        threads=running.threads,
        batch=running.max_batch,
    )


def _options(served: Served, address: Address, running: Running) -> "Options":
    from gradood.serve import Limits, Options, keys_of

    keys = () if address.api_key_file is None else keys_of(address.api_key_file)
    return Options(
        name=address.name,
        host=address.host,
        port=address.port,
        grpc=address.grpc,
        workers=running.workers,
        timeout=running.timeout,
        grace=running.grace,
        follow=running.follow,
        watch=running.watch,
        keys=keys,
        limits=Limits(max_wait=running.max_wait, max_body=running.max_body),
    )
