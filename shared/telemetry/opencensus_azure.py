"""The parts of opencensus-ext-azure that are used, imported in one place: envelopes, transport, file storage.

Imported only once a connection string is set: it costs 0.2 s of CPU.
"""

import warnings

with warnings.catch_warnings():
    # opencensus.ext.azure.common.utils asks for the default locale while it is imported; Python 3.11 deprecates that
    # call, 3.15 removes it. Nothing of ours depends on the answer.
    warnings.filterwarnings("ignore", "'locale.getdefaultlocale' is deprecated", DeprecationWarning)
    from opencensus.ext.azure.common import Options
    from opencensus.ext.azure.common.protocol import (
        BaseObject,
        Data,
        DataPoint,
        Envelope,
        ExceptionData,
        Message,
        MetricData,
        RemoteDependency,
        Request,
    )
    from opencensus.ext.azure.common.storage import LocalFileStorage
    from opencensus.ext.azure.common.transport import TransportMixin, TransportStatusCode
    from opencensus.ext.azure.common.utils import (
        azure_monitor_context,
        microseconds_to_duration,
        validate_instrumentation_key,
    )

__all__ = [
    "AvailabilityData",
    "Data",
    "DataPoint",
    "Envelope",
    "ExceptionData",
    "LocalFileStorage",
    "Message",
    "MetricData",
    "Options",
    "RemoteDependency",
    "Request",
    "TransportMixin",
    "TransportStatusCode",
    "azure_monitor_context",
    "microseconds_to_duration",
    "validate_instrumentation_key",
]


class AvailabilityData(BaseObject):  # type: ignore[misc] # the library's classes have no types
    """The result of a test, as the library would declare it: its protocol has no class for this one.

    https://github.com/microsoft/ApplicationInsights-Home/blob/master/EndpointSpecs/Schemas/Docs/AvailabilityData.md
    """

    _default = BaseObject(
        ver=2,
        id="",
        name="",
        duration="",
        success=True,
        runLocation=None,
        message=None,
        properties=None,
        measurements=None,
    )
