"""Records that arrive after their subject was erased (from the queue, or a dead process's journal) are erased too."""

from collections.abc import Sequence

from shared.domain.privacy import FRESH_S, ErasureOrder, pseudonymised
from shared.domain.records import RequestRecord
from shared.ports import Clock, ErasureStore, RecordStore, Telemetry


class ErasedOnArrival:
    """`RecordStore` in front of another one.

    It knows of every erasure that was asked for more than `FRESH_S` ago, or it writes nothing: an erasure's work begins
    later than that (`shared.domain.privacy.SETTLING`). One small query a minute and process is all that it costs.

    Args:
        records: where records go.
        erasures: whose are erased.
        clock: how old that knowledge is.
        telemetry: counts what was erased.
    """

    def __init__(self, records: RecordStore, erasures: ErasureStore, clock: Clock, telemetry: Telemetry) -> None:
        self._records = records
        self._erasures = erasures
        self._clock = clock
        self._telemetry = telemetry
        self._standing: Sequence[ErasureOrder] = ()
        self._fresh_until_s: float | None = None

    async def insert(self, records: Sequence[RequestRecord]) -> int:
        """Write records, those of erased subjects without them and without a receipt.

        Raises:
            DependencyUnavailable: nothing was written, as far as can be known.
        """
        asked_s = self._clock.monotonic()
        if self._fresh_until_s is None or asked_s >= self._fresh_until_s:
            self._standing = await self._erasures.standing(self._clock.now())
            self._fresh_until_s = asked_s + FRESH_S
        if self._standing:
            records = [self._without_erased(record) for record in records]
        return await self._records.insert(records)

    async def get(self, request_id: str, *, tenant_id: str) -> RequestRecord | None:
        """One record of a tenant, or None.

        Raises:
            DependencyUnavailable: the store is away.
        """
        return await self._records.get(request_id, tenant_id=tenant_id)

    def _without_erased(self, record: RequestRecord) -> RequestRecord:
        for order in self._standing:
            if order.covers(record):
                self._telemetry.count("records_erased_on_arrival")
                record = pseudonymised(record, order)
        return record
