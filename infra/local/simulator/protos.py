"""The protocol buffer messages of aiplatform v1, without the cost of the client library around them.

Importing ``google.cloud.aiplatform_v1`` loads about 35 services and takes seconds. Its ``types`` modules stand alone,
so they are imported below placeholders of their packages. The placeholders are then removed, so that a later import of
the whole library in the same process works as ever and finds these very modules.
"""

import importlib
import sys
import types
from pathlib import Path
from typing import Any

_PACKAGE = "google.cloud.aiplatform_v1"


def _types_module(name: str) -> Any:
    """Import one module of ``google.cloud.aiplatform_v1.types``."""
    if _PACKAGE in sys.modules:
        return importlib.import_module(f"{_PACKAGE}.types.{name}")
    cloud = importlib.import_module("google.cloud")
    placeholders = []
    for package, below in ((_PACKAGE, "aiplatform_v1"), (f"{_PACKAGE}.types", "aiplatform_v1/types")):
        placeholder = types.ModuleType(package)
        placeholder.__path__ = [str(Path(root) / below) for root in cloud.__path__ if (Path(root) / below).is_dir()]
        sys.modules[package] = placeholder
        placeholders.append(package)
    try:
        return importlib.import_module(f"{_PACKAGE}.types.{name}")
    finally:
        for package in placeholders:
            del sys.modules[package]


_prediction = _types_module("prediction_service")
_utility = _types_module("llm_utility_service")

# The raw protocol buffer classes below proto-plus's wrappers: same wire form, several times faster.
GenerateContentRequest: Any = _prediction.GenerateContentRequest.pb()
GenerateContentResponse: Any = _prediction.GenerateContentResponse.pb()
CountTokensRequest: Any = _prediction.CountTokensRequest.pb()
CountTokensResponse: Any = _prediction.CountTokensResponse.pb()
EmbedContentRequest: Any = _prediction.EmbedContentRequest.pb()
EmbedContentResponse: Any = _prediction.EmbedContentResponse.pb()
PredictRequest: Any = _prediction.PredictRequest.pb()
PredictResponse: Any = _prediction.PredictResponse.pb()
RawPredictRequest: Any = _prediction.RawPredictRequest.pb()
StreamRawPredictRequest: Any = _prediction.StreamRawPredictRequest.pb()
ComputeTokensRequest: Any = _utility.ComputeTokensRequest.pb()
ComputeTokensResponse: Any = _utility.ComputeTokensResponse.pb()
