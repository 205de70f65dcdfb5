"""The protocol buffers that TensorBoard reads, as tensorboardX ships them; importing this imports tensorboardX."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Generated modules make their classes when they are imported: no type checker sees them, so they are looked up.
_event: Any = import_module("tensorboardX.proto.event_pb2")
_summary: Any = import_module("tensorboardX.proto.summary_pb2")
_tensor: Any = import_module("tensorboardX.proto.tensor_pb2")
_shape: Any = import_module("tensorboardX.proto.tensor_shape_pb2")
_api: Any = import_module("tensorboardX.proto.api_pb2")
_hparams: Any = import_module("tensorboardX.proto.plugin_hparams_pb2")

Event: Any = _event.Event
SessionLog: Any = _event.SessionLog
Summary: Any = _summary.Summary
SummaryMetadata: Any = _summary.SummaryMetadata
TensorProto: Any = _tensor.TensorProto
TensorShapeProto: Any = _shape.TensorShapeProto
Status: Any = _api.Status
HParamsPluginData: Any = _hparams.HParamsPluginData
SessionStartInfo: Any = _hparams.SessionStartInfo
SessionEndInfo: Any = _hparams.SessionEndInfo
