"""Reading an ONNX file: every way in which a file can be broken ends here as one clear error.

What the operators mean is not judged here but in `importer.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import onnx

from edgelstm.dtypes import DType
from edgelstm.errors import ModelError, UnsupportedOpError
from edgelstm.foreign_files import recognize, recognize_bytes
from edgelstm_compiler.onnx_import.functions import inline_functions
from edgelstm_compiler.onnx_import.left_over import REFUSED, write_left_over
from edgelstm_compiler.onnx_import.order import describe_node, sort_graph, sub_graphs
from edgelstm_compiler.onnx_import.other_floats import check_types
from edgelstm_compiler.onnx_import.tensors import (
    ELEMENT_TYPES,
    attribute_tensors,
    check_tensor,
    element_name,
    load_external,
    stored_tensors,
)

OLDEST_OPSET = 7
LATEST_OPSET = 28
"""Opsets whose operators were read one by one for the import functions."""

MAX_FILE_BYTES = 1 << 31

Dims: TypeAlias = "tuple[int | str | None, ...]"


@dataclass(frozen=True, slots=True)
class InputInfo:
    """An input that the caller gives.

    Args:
        name: in the model.
        dtype: element type.
        dims: per axis an extent, the name of a symbolic one, or None; None where not even the
            number of axes is known.
    """

    name: str
    dtype: DType
    dims: Dims | None

    @property
    def is_static(self) -> bool:
        """Whether every extent is a number."""
        return self.dims is not None and all(isinstance(dim, int) for dim in self.dims)

    def __str__(self) -> str:
        if self.dims is None:
            return f"{self.name}: {self.dtype.value}[...]"
        dims = ", ".join("?" if dim is None else str(dim) for dim in self.dims)
        return f"{self.name}: {self.dtype.value}[{dims}]"


@dataclass(frozen=True, slots=True, eq=False)
class OnnxModel:
    """A model that was read and found sound.

    Args:
        proto: the model as it was given, external data loaded; never changed.
        body: the same for import: local functions inlined, nodes sorted.
        sha256: of the file's bytes (of the serialized proto where there is no file), followed by
            the data that lies outside of it.
        path: the file, if there is one.
        opset: version of the ONNX operators.
        producer: name and version of the exporter.
        inputs: what the caller gives (graph inputs that are not initializers).
        outputs: names of the outputs.
        attention_context: frames that attention sees at most; None: as the file has it.
    """

    proto: onnx.ModelProto
    body: onnx.ModelProto
    sha256: str
    path: Path | None
    opset: int
    producer: str
    inputs: tuple[InputInfo, ...]
    outputs: tuple[str, ...]
    attention_context: int | None = None

    @property
    def metadata(self) -> dict[str, str]:
        """The model's `metadata_props`; of a key that stands twice, the last."""
        return {item.key: item.value for item in self.proto.metadata_props}

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Class names by output, where the model ends in a ZipMap."""
        found = {}
        for node in self.proto.graph.node:
            if node.op_type == "ZipMap" and node.output and node.output[0] in self.outputs:
                names = [
                    item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
                    for attribute in node.attribute
                    if attribute.name.startswith("classlabels_")
                    for item in (*attribute.strings, *attribute.ints)
                ]
                found[node.output[0]] = tuple(names)
        return found

    @property
    def is_half(self) -> bool:
        """Whether an input or output is float16 or bfloat16."""
        halves = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
        graph = self.proto.graph
        return any(
            item.type.tensor_type.elem_type in halves for item in (*graph.input, *graph.output)
        )

    @property
    def name(self) -> str:
        """The file's name without ending, or the graph's name."""
        return self.path.stem if self.path is not None else self.proto.graph.name or "model"


def read_model(source: str | Path | bytes | onnx.ModelProto) -> OnnxModel:
    """Read and check an ONNX model.

    Args:
        source: path of a file, its bytes, or the model itself (which is copied).

    Raises:
        ModelError: the file is missing, damaged, or no valid ONNX model; what, where, what to do.
        UnsupportedOpError: it uses operators that ONNX does not define in its opset.
    """
    data, path = _read_bytes(source)
    proto = _parse(data, path)
    _check_versions(proto)
    external = _load_tensors(proto, path)
    body = _prepare(proto)
    graph = proto.graph
    constants = {item.name for item in graph.initializer}
    return OnnxModel(
        proto=proto,
        body=body,
        sha256=_digest(data, external),
        path=path,
        opset=opset_of(proto),
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        inputs=tuple(input_info(item) for item in graph.input if item.name not in constants),
        outputs=tuple(item.name for item in graph.output),
    )


def opset_of(model: onnx.ModelProto, domain: str = "") -> int:
    """Version of a domain's operators; 0 where the model does not import the domain."""
    names = ("", "ai.onnx") if domain in ("", "ai.onnx") else (domain,)
    return next((item.version for item in model.opset_import if item.domain in names), 0)


def _read_bytes(source: str | Path | bytes | onnx.ModelProto) -> tuple[bytes, Path | None]:
    if isinstance(source, onnx.ModelProto):
        try:
            return source.SerializeToString(deterministic=True), None
        except Exception as error:
            raise ModelError(f"the model cannot be serialized: {_one_line(error)}") from error
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source), None
    path = Path(source)
    try:
        if path.is_dir():
            raise ModelError(f"cannot read the model {path}: {recognize(path)}")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ModelError(
                f"{path} is larger than {MAX_FILE_BYTES} bytes: not a model for the edge"
            )
        return path.read_bytes(), path
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError(f"cannot read the model {path}: {reason}") from error


def _parse(data: bytes, path: Path | None) -> onnx.ModelProto:
    where = str(path) if path is not None else "the model"
    if not data:
        raise ModelError(f"{where} is empty; expected an ONNX model")
    try:
        proto = onnx.ModelProto.FromString(data)
    except Exception as error:
        told = recognize_bytes(data, path)
        if told is not None:
            raise ModelError(f"{where} is not an ONNX model: {told}") from error
        raise ModelError(
            f"{where} is not an ONNX model, or it is cut off or damaged "
            f"({len(data)} bytes that do not parse); export or copy it again"
        ) from error
    if not proto.HasField("graph"):
        told = recognize_bytes(data, path)
        if told is not None:
            raise ModelError(f"{where} is not an ONNX model: {told}")
        raise ModelError(f"{where} is not an ONNX model: it holds no graph")
    if not _has_only_text(proto):
        raise ModelError(f"{where} is damaged: a name in it is not UTF-8 text; copy it again")
    assert isinstance(proto, onnx.ModelProto)
    return proto


def _has_only_text(message: Any) -> bool:
    """Whether every text of a message is UTF-8 (protobuf hands out others as bytes, or raises)."""
    try:
        for field, found in message.ListFields():
            is_one = isinstance(found, (str, bytes)) or hasattr(found, "ListFields")
            items = [found] if is_one else found
            if field.message_type is not None:
                if not all(_has_only_text(inner) for inner in items):
                    return False
            elif field.type == field.TYPE_STRING and not all(isinstance(i, str) for i in items):
                return False
    except UnicodeDecodeError:
        return False
    return True


def _check_versions(proto: onnx.ModelProto) -> None:
    if not 3 <= proto.ir_version <= onnx.IR_VERSION:
        raise ModelError(
            f"the model has ONNX IR version {proto.ir_version}, expected 3 to {onnx.IR_VERSION}; "
            "export it with an older IR version, or install a newer onnx package"
        )
    domains = [item.domain or "ai.onnx" for item in proto.opset_import]
    for domain in domains:
        if domains.count(domain) > 1:
            raise ModelError(f"the model imports the operators of '{domain}' twice")
    opset = opset_of(proto)
    latest = min(LATEST_OPSET, onnx.defs.onnx_opset_version())
    if "ai.onnx" not in domains and all(node.domain for _, node in _all_nodes(proto.graph)):
        return
    if "ai.onnx" not in domains:
        raise ModelError("the model does not say which ONNX opset it uses (no opset_import)")
    if not OLDEST_OPSET <= opset <= latest:
        is_recurrent = any(
            node.op_type in ("LSTM", "GRU", "RNN") for _, node in _all_nodes(proto.graph)
        )
        way_out = (
            " (onnx.version_converter does not convert LSTM, GRU and RNN)"
            if is_recurrent
            else ", or convert it with onnx.version_converter"
        )
        raise ModelError(
            f"the model uses ONNX opset {opset}, expected {OLDEST_OPSET} to {latest}; export it "
            f"with such an opset, e.g. torch.onnx.export(..., opset_version=17){way_out}"
        )


def _load_tensors(proto: onnx.ModelProto, path: Path | None) -> list[onnx.TensorProto]:
    """Check every tensor and read those that lie in files of their own, which are returned."""
    if proto.graph.sparse_initializer:
        name = proto.graph.sparse_initializer[0].values.name
        raise ModelError(f"the initializer '{name}' is sparse; store it as a dense tensor")
    tensors = list(stored_tensors(proto.graph))
    for function in proto.functions:
        tensors += attribute_tensors(function.node)
    external = []
    for tensor in tensors:
        check_tensor(tensor)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            load_external(tensor, path.parent if path is not None else None)
            external.append(tensor)
    return external


def _digest(data: bytes, external: Iterable[onnx.TensorProto]) -> str:
    """SHA-256 of the file, followed by each tensor that it only points at."""
    digest = hashlib.sha256(data)
    for tensor in external:
        digest.update(tensor.raw_data)
    return digest.hexdigest()


def _prepare(proto: onnx.ModelProto) -> onnx.ModelProto:
    body = onnx.ModelProto()
    body.CopyFrom(proto)
    _complete_names(body.graph)
    _complete_types(body.graph)
    if not body.graph.output:
        raise ModelError("the graph has no outputs: nothing to compute")
    try:
        body = inline_functions(body)
        write_left_over(body.graph)
        sort_graph(body.graph)
        _check_operators(body)
        onnx.checker.check_model(body)
        check_types(body)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"the model is not valid ONNX: {_one_line(error)}") from error
    return body


def _complete_names(graph: onnx.GraphProto) -> None:
    """Name graphs that have no name, which the checker demands and ONNX Runtime does not."""
    graph.name = graph.name or "model"
    for node in graph.node:
        for inner in sub_graphs(node):
            _complete_names(inner)


def _complete_types(graph: onnx.GraphProto) -> None:
    """Fill in what the checker demands and nobody needs: ONNX Runtime does without it, too."""
    del graph.value_info[:]
    for item in [*graph.input, *graph.output]:
        kind = item.type.WhichOneof("value")
        if kind is None:
            item.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        if kind in (None, "tensor_type"):
            item.type.tensor_type.shape.SetInParent()


def _check_operators(body: onnx.ModelProto) -> None:
    opset = opset_of(body)
    refusals = []
    for label, node in _all_nodes(body.graph):
        if node.domain not in ("", "ai.onnx"):
            continue
        try:
            schema = onnx.defs.get_schema(node.op_type, opset, "")
        except onnx.defs.SchemaError:
            reason = REFUSED.get(node.op_type, f"no such ONNX operator in opset {opset}")
            refusals.append((node.op_type, label, reason))
            continue
        if schema.deprecated:
            reason = f"removed from ONNX in opset {schema.since_version}; the model says {opset}"
            refusals.append((node.op_type, label, reason))
    if refusals:
        lines = [f"{label}: {reason}" for _, label, reason in refusals]
        raise UnsupportedOpError("\n".join(["the model is not valid ONNX:", *lines]), refusals)


def _all_nodes(graph: onnx.GraphProto, path: str = "") -> Iterator[tuple[str, onnx.NodeProto]]:
    for index, node in enumerate(graph.node):
        yield describe_node(node, f"{path}{index}"), node
        for inner in sub_graphs(node):
            yield from _all_nodes(inner, f"{path}{index}.")


def input_info(item: onnx.ValueInfoProto) -> InputInfo:
    """What the model says of an input.

    Raises:
        ModelError: it is no tensor of a type that is read here.
    """
    kind = item.type.WhichOneof("value")
    if kind != "tensor_type":
        what = (kind or "nothing").replace("_type", "")
        raise ModelError(
            f"the input '{item.name}' is of type {what}; edgelstm takes tensors: "
            "export the model with plain tensor inputs"
        )
    tensor = item.type.tensor_type
    try:
        dtype = DType.from_numpy(ELEMENT_TYPES[tensor.elem_type])
    except KeyError as error:
        raise ModelError(
            f"the input '{item.name}' has elements of type {element_name(tensor.elem_type)}; "
            "edgelstm reads float32, float64, float16, bfloat16, int64, int32, int16, int8, uint8 "
            "and bool: put a Cast from one of them in front"
        ) from error
    if not tensor.HasField("shape"):
        return InputInfo(item.name, dtype, None)
    return InputInfo(item.name, dtype, tuple(_dimension(dim) for dim in tensor.shape.dim))


def _dimension(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    # Some exporters write -1 for an extent they do not know.
    if dim.HasField("dim_value") and dim.dim_value != -1:
        return int(dim.dim_value)
    return dim.dim_param or None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).replace("==> Context:", "in:").split())
    return text if len(text) <= 400 else f"{text[:400]}..."
