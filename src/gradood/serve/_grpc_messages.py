"""Messages of the Open Inference Protocol, version 2, over gRPC; needs ``protobuf``.

Field numbers and types are those of the published protocol. Where that has a map, there is a
repeated message of key and value here, and where it has a choice of one, fields: the same bytes.
"""

from functools import cache
from types import SimpleNamespace
from typing import Any

from gradood._io.optional import optional_module

__all__ = ["INSTALL", "messages"]

INSTALL = 'pip install "gradood[grpc]"'

_TENSOR = (
    "string name = 1; string datatype = 2; repeated int64 shape = 3; "
    "repeated Parameter parameters = 4; Contents contents = 5"
)
_MESSAGES = {
    "Empty": "",
    "ServerLiveResponse": "bool live = 1",
    "ServerReadyResponse": "bool ready = 1",
    "ModelReadyResponse": "bool ready = 1",
    "Named": "string name = 1; string version = 2",
    "ServerMetadataResponse": "string name = 1; string version = 2; repeated string extensions = 3",
    "TensorMetadata": "string name = 1; string datatype = 2; repeated int64 shape = 3",
    "ModelMetadataResponse": (
        "string name = 1; repeated string versions = 2; string platform = 3; "
        "repeated TensorMetadata inputs = 4; repeated TensorMetadata outputs = 5"
    ),
    "Value": (
        "bool bool_param = 1; int64 int64_param = 2; string string_param = 3; "
        "double double_param = 4; uint64 uint64_param = 5"
    ),
    "Parameter": "string key = 1; Value value = 2",
    "Contents": (
        "repeated bool bool_contents = 1; repeated int32 int_contents = 2; "
        "repeated int64 int64_contents = 3; repeated uint32 uint_contents = 4; "
        "repeated uint64 uint64_contents = 5; repeated float fp32_contents = 6; "
        "repeated double fp64_contents = 7; repeated bytes bytes_contents = 8"
    ),
    "Tensor": _TENSOR,
    "RequestedOutput": "string name = 1; repeated Parameter parameters = 2",
    "ModelInferRequest": (
        "string model_name = 1; string model_version = 2; string id = 3; "
        "repeated Parameter parameters = 4; repeated Tensor inputs = 5; "
        "repeated RequestedOutput outputs = 6; repeated bytes raw_input_contents = 7"
    ),
    "ModelInferResponse": (
        "string model_name = 1; string model_version = 2; string id = 3; "
        "repeated Parameter parameters = 4; repeated Tensor outputs = 5; "
        "repeated bytes raw_output_contents = 6"
    ),
    "HealthCheckRequest": "string service = 1",
    "HealthCheckResponse": "int32 status = 1",
}


@cache
def messages() -> SimpleNamespace:
    """The classes, by name.

    Raises:
        ModuleNotFoundError: protobuf is not installed.
    """
    wanted = ("protobuf", "reads and writes messages of gRPC", INSTALL)
    descriptors: Any = optional_module("google.protobuf.descriptor_pb2", *wanted)
    pools: Any = optional_module("google.protobuf.descriptor_pool", *wanted)
    factory: Any = optional_module("google.protobuf.message_factory", *wanted)
    file = descriptors.FileDescriptorProto(
        name="gradood/open_inference.proto", package="gradood", syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in filter(None, fields.split("; ")):
            _add(message, field)
    # A pool of its own: a client's messages in this process may have the same names.
    pool = pools.DescriptorPool()
    pool.Add(file)
    found = {
        name: factory.GetMessageClass(pool.FindMessageTypeByName(f"gradood.{name}"))
        for name in _MESSAGES
    }
    return SimpleNamespace(**found)


def _add(message: Any, field: str) -> None:
    """One field, such as ``repeated int64 shape = 3``."""
    *label, kind, name, _, number = field.split()
    added = message.field.add(name=name, number=int(number))
    added.label = added.LABEL_REPEATED if label else added.LABEL_OPTIONAL
    if kind in _MESSAGES:
        added.type, added.type_name = added.TYPE_MESSAGE, f".gradood.{kind}"
    else:
        added.type = getattr(added, f"TYPE_{kind.upper()}")
