"""The protobuf messages of Vertex AI's PredictionService, without the rest of its client package.

`google.cloud.aiplatform_v1` imports some thirty-five service clients in its `__init__`: 0.6 to 0.8 CPU seconds and
90 MB (8 s without bytecode) for the handful of messages used here; the messages alone take 0.03 s and 7 MB. So the
two packages are entered once through stand-ins that have a search path and nothing else. The stand-ins are gone when
`messages` returns, the modules imported through them stay, and a later import of the whole package picks those up.
Tied to the package's layout: requirements.txt pins it, and a test imports the whole package afterwards.

proto-plus wrappers cost several times the CPU of the classes below them, so only those classes leave this module.
"""

import functools
import importlib
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

_PACKAGE = "google.cloud.aiplatform_v1"
_TYPES = f"{_PACKAGE}.types"
_lock = threading.Lock()


class Messages(NamedTuple):
    """Protobuf message classes (not proto-plus wrappers)."""

    GenerateContentRequest: Any
    GenerateContentResponse: Any
    RawPredictRequest: Any
    StreamRawPredictRequest: Any
    PredictRequest: Any
    PredictResponse: Any
    HttpBody: Any


def messages() -> Messages:
    """The classes, imported on first use; later calls cost a dictionary look-up. Safe from several threads."""
    with _lock:
        return _load()


@functools.cache
def _load() -> Messages:
    types = _prediction_service_types()
    return Messages(
        GenerateContentRequest=types.GenerateContentRequest.pb(),
        GenerateContentResponse=types.GenerateContentResponse.pb(),
        RawPredictRequest=types.RawPredictRequest.pb(),
        StreamRawPredictRequest=types.StreamRawPredictRequest.pb(),
        PredictRequest=types.PredictRequest.pb(),
        PredictResponse=types.PredictResponse.pb(),
        HttpBody=importlib.import_module("google.api.httpbody_pb2").HttpBody,
    )


def _prediction_service_types() -> Any:
    wanted = f"{_TYPES}.prediction_service"
    if _PACKAGE in sys.modules:
        return importlib.import_module(wanted)
    stand_ins = _stand_ins()
    sys.modules.update(stand_ins)
    try:
        return importlib.import_module(wanted)
    finally:
        for name in stand_ins:
            sys.modules.pop(name, None)


def _stand_ins() -> dict[str, ModuleType]:
    """Empty modules for the package and its `types`, able to find submodules; none if the layout is not as known."""
    for root in importlib.import_module("google.cloud").__path__:
        package = Path(root) / "aiplatform_v1"
        if (package / "types" / "prediction_service.py").is_file():
            modules = {}
            for name, path in ((_PACKAGE, package), (_TYPES, package / "types")):
                module = ModuleType(name)
                module.__path__ = [str(path)]
                modules[name] = module
            return modules
    return {}
