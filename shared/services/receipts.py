"""The use case of receipts: show what was decided and why, by deciding again, and prove that nothing was altered."""

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson

from shared.domain.errors import NotFound
from shared.domain.models import Registry
from shared.domain.policy import Policy
from shared.domain.receipts import ChainCheck, ReceiptRow, check_section
from shared.domain.tombstones import tombstone_of
from shared.ports import Clock, ConfigurationArchive, ReceiptStore, Telemetry
from shared.scoring.counterfactual import Change, turning_changes
from shared.scoring.receipt import ENGINE, Deliberation, Receipt, digest_of, read_receipt, replay
from shared.services.configuration_keeping import POLICY, REGISTRY
from shared.services.shelf import Shelf

REACH = 100
"""How many rows before and after its own the verification of a receipt walks."""
_CACHED_CONFIGURATIONS = 4
_LATE = timedelta(days=1)
"""How long after its month a chain may still grow: records of its last requests may have waited in the spill."""

ConfigurationParser = Callable[[str, str], tuple[Registry, Policy]]
"""Reads a kept registry document and a kept policy document; ValueError when it cannot."""


def fast_canonical(value: Any) -> bytes:
    """`shared.domain.canonical.canonical`, several times faster.

    Raises:
        TypeError: what `canonical` refuses; but a float that is not finite becomes null.
    """
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


@dataclass(frozen=True, slots=True)
class Replay:
    """A stored receipt, and what came out when it was decided again.

    Attributes:
        receipt: None when the body cannot be read.
        made: None when it could not be decided again; `reasons` say why.
        digest: of what came out now.
        outcome: how the request ended: status, cost, attempts.
        changes: those that would have turned the choice, the nearest first.
    """

    row: ReceiptRow
    receipt: Receipt | None = None
    outcome: dict[str, Any] | None = None
    made: Deliberation | None = None
    digest: str | None = None
    changes: tuple[Change, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def erased(self) -> str | None:
        """The erasure that took the receipt's content, if one did."""
        stone = tombstone_of(self.row.body)
        return None if stone is None else stone.erasure_id

    @property
    def digest_matches(self) -> bool | None:
        """Whether everything came out as it did then; None when it could not be decided again."""
        return None if self.receipt is None or self.digest is None else self.digest == self.receipt.digest


@dataclass(frozen=True, slots=True)
class Verification:
    """What a receipt is worth: the decision repeated, and the chain around it checked.

    `erased` names the erasure that took its content, if one did: the place in the chain is all there is to check then.
    """

    digest_matches: bool | None
    chain: ChainCheck
    reasons: tuple[str, ...]
    erased: str | None = None

    @property
    def valid(self) -> bool:
        """Whether the decision was repeated bit for bit and nothing around it was altered."""
        return self.digest_matches is True and self.chain.intact


class ReceiptService:
    """Shows and verifies receipts.

    Args:
        store: the receipts.
        archive: the configurations that they name.
        parse: reads those.
        shelf: has the configuration in force, which most receipts name.
        clock: time.
        telemetry: where the heads of chains are noted.
    """

    def __init__(
        self,
        store: ReceiptStore,
        archive: ConfigurationArchive,
        parse: ConfigurationParser,
        shelf: Shelf,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._archive = archive
        self._parse = parse
        self._shelf = shelf
        self._clock = clock
        self._telemetry = telemetry
        self._parsed: OrderedDict[tuple[str, str], tuple[Registry, Policy]] = OrderedDict()
        self._noted: dict[str, int] = {}

    async def show(self, request_id: str, *, tenant_id: str) -> Replay:
        """A receipt, decided again, with the changes that would have turned the choice.

        Raises:
            NotFound: the tenant has no receipt of that request.
            DependencyUnavailable: the ledger is away.
        """
        return await self._replay(await self._row(request_id, tenant_id), look_for_changes=True)

    async def verify(self, request_id: str, *, tenant_id: str) -> Verification:
        """Decide again and compare, and check the row and its neighbours in the chain.

        Raises:
            NotFound: the tenant has no receipt of that request.
            DependencyUnavailable: the ledger is away.
        """
        row = await self._row(request_id, tenant_id)
        first, last = max(1, row.sequence - REACH), row.sequence + REACH
        section = await self._store.section(row.chain, first=first, last=last)
        chain = await asyncio.to_thread(check_section, row, section, first=first, last=last)
        again = await self._replay(row, look_for_changes=False)
        return Verification(again.digest_matches, chain, (*again.reasons, *chain.reasons), again.erased)

    async def note_heads(self) -> int:
        """Log the heads of chains that grew; returns how many.

        Whoever can write to the ledger can make a whole chain anew, but not what was logged elsewhere before.

        Raises:
            DependencyUnavailable: the ledger is away.
        """
        heads = await self._store.heads(since=self._clock.now() - _LATE)
        grown = [head for head in heads if self._noted.get(head.chain) != head.sequence]
        for head in grown:
            self._telemetry.log(
                logging.INFO, "receipt_chain_head", chain=head.chain, sequence=head.sequence, hash=head.hash.hex()
            )
        self._noted = {head.chain: head.sequence for head in heads}
        return len(grown)

    async def _row(self, request_id: str, tenant_id: str) -> ReceiptRow:
        row = await self._store.receipt(request_id, tenant_id=tenant_id)
        if row is None:
            raise NotFound("there is no receipt of this request", param="request_id")
        return row

    async def _replay(self, row: ReceiptRow, *, look_for_changes: bool) -> Replay:
        if tombstone_of(row.body) is not None:
            return Replay(row, reasons=("the receipt was erased",))
        try:
            body = json.loads(row.body)
            outcome, receipt = body["outcome"], read_receipt(body["decision"])
        except (ValueError, KeyError, TypeError):
            return Replay(row, reasons=("the receipt cannot be read",))
        if receipt.question is None:
            reason = f"the question was not kept ({receipt.omitted}): the decision cannot be repeated"
            return Replay(row, receipt, outcome, reasons=(reason,))
        configuration = await self._configuration(receipt)
        if isinstance(configuration, str):
            return Replay(row, receipt, outcome, reasons=(configuration,))
        # In a thread: with thousands of deployments this takes milliseconds that no other request should wait for.
        return await asyncio.to_thread(_decided_again, row, receipt, outcome, *configuration, look_for_changes)

    async def _configuration(self, receipt: Receipt) -> tuple[Registry, Policy] | str:
        """Registry and policy of the receipt's versions, or why they are not to be had."""
        registry, policy = self._shelf.registry, self._shelf.policy
        key = (receipt.registry, receipt.policy)
        if key == (registry.version, policy.version):
            return registry, policy
        if key in self._parsed:
            self._parsed.move_to_end(key)
            return self._parsed[key]
        documents = [
            await self._archive.document(kind, version)
            for kind, version in ((REGISTRY, receipt.registry), (POLICY, receipt.policy))
        ]
        if documents[0] is None or documents[1] is None:
            return "the configuration of that time is not in the archive"
        try:
            found = await asyncio.to_thread(self._parse, documents[0], documents[1])
        except ValueError:
            return "the configuration of that time cannot be read by this version of the router"
        if (found[0].version, found[1].version) != key:
            return "the configuration in the archive is not the one that the receipt names"
        self._parsed[key] = found
        if len(self._parsed) > _CACHED_CONFIGURATIONS:
            self._parsed.popitem(last=False)
        return found


def _decided_again(
    row: ReceiptRow,
    receipt: Receipt,
    outcome: dict[str, Any],
    registry: Registry,
    policy: Policy,
    look_for_changes: bool,
) -> Replay:
    try:
        made = replay(receipt, registry, policy)
        # The slow form on purpose: what it writes does not depend on a library's version.
        digest = digest_of(made)
        changes = turning_changes(made) if look_for_changes else ()
    except Exception:  # noqa: BLE001 - a question that was altered can fail anywhere; that is the answer
        return Replay(row, receipt, outcome, reasons=("the decision cannot be repeated from this receipt",))
    reasons: list[str] = []
    if digest != receipt.digest:
        by = "" if receipt.engine == ENGINE else f" (it was made by engine {receipt.engine[:16]}, this is {ENGINE})"
        reasons.append(f"the decision comes out otherwise{by}")
    return Replay(row, receipt, outcome, made, digest, changes, tuple(reasons))
