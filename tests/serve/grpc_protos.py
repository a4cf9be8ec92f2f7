"""The protocols' messages as Google's library has them: a second source, from descriptors that are written out here."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TYPES = {
    "double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "bool": 8, "string": 9, "bytes": 12, "uint32": 13,
    "enum": 14,
}  # fmt: skip

# A message and its fields as "name number type"; a star for repeated, a question mark for one of a choice, "map" for
# a map of strings to messages
_MESSAGES = """
Nothing:
Named: name 1 string, version 2 string
Yes: yes 1 bool
ServerMetadata: name 1 string, version 2 string, extensions 3 *string
TensorMetadata: name 1 string, datatype 2 string, shape 3 *int64
ModelMetadata: name 1 string, versions 2 *string, platform 3 string, inputs 4 *TensorMetadata, outputs 5
    *TensorMetadata
InferParameter: bool_param 1 ?bool, int64_param 2 ?int64, string_param 3 ?string, double_param 4 ?double,
    uint64_param 5 ?uint64
InferTensorContents: bool_contents 1 *bool, int_contents 2 *int32, int64_contents 3 *int64, uint_contents 4
    *uint32, uint64_contents 5 *uint64, fp32_contents 6 *float, fp64_contents 7 *double, bytes_contents 8 *bytes
InferInputTensor: name 1 string, datatype 2 string, shape 3 *int64, parameters 4 map InferParameter, contents 5
    InferTensorContents
InferRequestedOutputTensor: name 1 string, parameters 2 map InferParameter
ModelInferRequest: model_name 1 string, model_version 2 string, id 3 string, parameters 4 map InferParameter,
    inputs 5 *InferInputTensor, outputs 6 *InferRequestedOutputTensor, raw_input_contents 7 *bytes
ModelInferResponse: model_name 1 string, model_version 2 string, id 3 string, parameters 4 map InferParameter,
    outputs 5 *InferInputTensor, raw_output_contents 6 *bytes
ModelStreamInferResponse: error_message 1 string, infer_response 2 ModelInferResponse
ModelIndex: name 1 string, version 2 string, state 3 string, reason 4 string
RepositoryIndex: models 1 *ModelIndex
RepositoryIndexRequest: repository_name 1 string, ready 2 bool
RepositoryModelRequest: repository_name 1 string, model_name 2 string
Words: value 1 *string
TraceSetting: settings 1 map Words, model_name 2 string
StatisticDuration: count 1 uint64, ns 2 uint64
InferStatistics: success 1 StatisticDuration, fail 2 StatisticDuration, queue 3 StatisticDuration,
    compute_input 4 StatisticDuration, compute_infer 5 StatisticDuration, compute_output 6 StatisticDuration
OneStatistics: name 1 string, version 2 string, last_inference 3 uint64, inference_count 4 uint64,
    execution_count 5 uint64, inference_stats 6 InferStatistics
ModelStatistics: model_stats 1 *OneStatistics
ConfigTensor: name 1 string, data_type 2 int32, dims 4 *int64
Config: name 1 string, platform 2 string, max_batch_size 4 int32, input 5 *ConfigTensor
ModelConfig: config 1 Config
RpcStatus: code 1 int32, message 2 string, details 3 *Detail
Detail: type_url 1 string, value 2 bytes
BadRequest: field_violations 1 *FieldViolation
FieldViolation: field 1 string, description 2 string
HealthCheckRequest: service 1 string
HealthCheckResponse: status 1 int32
"""


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="tests/messages.proto", package="inference", syntax="proto3")
    for line in _MESSAGES.replace("\n    ", " ").strip().splitlines():
        name, _, fields = line.partition(":")
        message = file.message_type.add(name=name)
        for text in filter(None, fields.strip().split(", ")):
            words = text.split()
            if words[2] == "map":
                _add_map(message, words[0], int(words[1]), words[3])
            else:
                _add(message, words[0], int(words[1]), words[2])
    return file


def _add(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str) -> None:
    field = message.field.add(name=name, number=number, label=3 if kind.startswith("*") else 1)
    bare = kind.lstrip("*?")
    if bare in _TYPES:
        field.type = _TYPES[bare]
    else:
        field.type, field.type_name = 11, f".inference.{bare}"
    if kind.startswith("?"):  # of a choice
        if not message.oneof_decl:
            message.oneof_decl.add(name="choice")
        field.oneof_index = 0


def _add_map(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str) -> None:
    entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
    entry.options.map_entry = True
    _add(entry, "key", 1, "string")
    _add(entry, "value", 2, kind)
    message.field.add(name=name, number=number, label=3, type=11, type_name=f".inference.{message.name}.{entry.name}")


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file())


def of(name: str) -> Any:
    """Return the class of a message."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"inference.{name}"))


def infer_request(model: str = "income", **columns: tuple[str, list[Any]]) -> Any:
    """Return a request with typed contents: a datatype and the elements of each column, one a row."""
    fields = {"INT64": "int64_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents", "FP32": "fp32_contents"}
    request = of("ModelInferRequest")(model_name=model)
    for name, (datatype, values) in columns.items():
        given = request.inputs.add(name=name, datatype=datatype, shape=[len(values)])
        getattr(given.contents, fields[datatype]).extend(values)
    return request
