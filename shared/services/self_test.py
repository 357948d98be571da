"""Whether the router is available as it sees itself: what it needs answers, and a request would find a model.

A test from inside says nothing while the router is down or out of reach: `infra/monitoring` has one from outside.
"""

from shared.domain.chat import ChatRequest, Message, Role, TextPart
from shared.domain.errors import InternalError, RouterError
from shared.domain.identity import Principal, RouterRole
from shared.domain.policy import RoutingConstraints
from shared.ports import Clock, Ids, Telemetry
from shared.services.ledger_entry import Order
from shared.services.readiness import ReadinessService
from shared.services.routing import RoutingService

NAME = "self_test"
"""The service that asks, as policies and the counters of the content guard name it."""
_PLAIN = ChatRequest((Message(Role.USER, (TextPart("Say hello."),)),))
_TIMEOUT_S = 1.0


class SelfTest:
    """Tells telemetry what it finds: `self/<name>` of each dependency, `self/decision`, and `self/router` of the whole.

    Args:
        readiness: asks the dependencies, each within its deadline.
        routing: decides; nothing is called, held or recorded.
        clock: how long it took.
        ids: names the question.
        telemetry: is told.
    """

    def __init__(
        self, readiness: ReadinessService, routing: RoutingService, clock: Clock, ids: Ids, telemetry: Telemetry
    ) -> None:
        self._readiness = readiness
        self._routing = routing
        self._clock = clock
        self._ids = ids
        self._telemetry = telemetry

    async def run(self) -> None:
        """Test once. Whoever is away, and a request that finds no model, is a result and raises nothing.

        Raises:
            Exception: a defect, once all results were told, so that the job's trace shows where it is.
        """
        began_s = self._clock.monotonic()
        defects: list[Exception] = []
        stands, state = await self._ask_dependencies(defects)
        obstacle = self._decide(defects)
        message = obstacle if stands and obstacle else state
        self._tell("router", success=stands and not obstacle, began_s=began_s, message=message)
        if defects:
            raise defects[0]

    async def _ask_dependencies(self, defects: list[Exception]) -> tuple[bool, str]:
        """Whether requests are taken, and in a word how the dependencies stand."""
        try:
            readiness = await self._readiness.check()
        except Exception as error:  # noqa: BLE001 - a probe's defect must not silence the other results
            defects.append(error)
            return False, InternalError.code
        for one in readiness.dependencies:
            self._telemetry.availability(
                f"self/{one.name}",
                success=one.ok,
                duration_ms=one.latency_ms,
                message="" if one.ok else "away",
                required=one.required,
            )
        return readiness.ready, readiness.state

    def _decide(self, defects: list[Exception]) -> str:
        """Why a plain request would find no model; empty where it would."""
        began_s, obstacle = self._clock.monotonic(), ""
        try:
            self._routing.decide(self._order())
        except RouterError as error:
            obstacle = error.code
        except Exception as error:  # noqa: BLE001 - as above
            defects.append(error)
            obstacle = InternalError.code
        self._tell("decision", success=not obstacle, began_s=began_s, message=obstacle)
        return obstacle

    def _tell(self, what: str, *, success: bool, began_s: float, message: str) -> None:
        duration_ms = 1000.0 * (self._clock.monotonic() - began_s)
        self._telemetry.availability(f"self/{what}", success=success, duration_ms=duration_ms, message=message)

    def _order(self) -> Order:
        return Order(
            request=_PLAIN,
            constraints=RoutingConstraints(),
            principal=Principal(NAME, NAME, NAME, frozenset({RouterRole.SERVICE})),
            request_id=self._ids.request_id(),
            endpoint=NAME,
            requested_model="auto",
            stream=False,
            started_s=self._clock.monotonic(),
            timeout_s=_TIMEOUT_S,
        )
