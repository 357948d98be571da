"""The twin of `LimitStore`."""

from collections.abc import Sequence

from shared.domain.errors import DependencyUnavailable
from shared.domain.limits import Ended, Meter, Meters, Verdict
from shared.ports import Clock


class MemoryLimitStore:
    """`LimitStore` of one process; `away` makes it fall silent.

    Args:
        clock: what time it is.
    """

    def __init__(self, clock: Clock) -> None:
        self.away = False
        self._clock = clock
        self._meters = Meters()

    async def admit(self, meters: Sequence[Meter], *, request_id: str, lease_s: float, charge: bool = True) -> Verdict:
        """Charge all meters or none.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        return self._meters.admit(
            meters, request_id=request_id, now_us=self._now_us(), lease_us=int(lease_s * 1e6), charge=charge
        )

    async def settle(self, ended: Sequence[Ended]) -> None:
        """Free slots and correct token meters.

        Raises:
            DependencyUnavailable: while `away`.
        """
        self._answer()
        for end in ended:
            self._meters.settle(end, now_us=self._now_us())

    def _answer(self) -> None:
        if self.away:
            raise DependencyUnavailable("switched away")

    def _now_us(self) -> int:
        return int(self._clock.now().timestamp() * 1e6)
