"""Receipts as callers read them."""

from typing import Any

from functions._wire.replies import decision_body
from shared.domain.dataclass_json import to_values
from shared.scoring.counterfactual import Change
from shared.scoring.receipt import Deliberation, Receipt
from shared.services.receipts import Replay, Verification
from shared.services.walk import Preview


def preview_body(preview: Preview) -> dict[str, Any]:
    """A decision that was not carried out."""
    return {
        "decision": decision_body(preview.decision),
        "nearest_changes": _changes(preview.changes),
        "digest": preview.digest,
    }


def receipt_body(again: Replay) -> dict[str, Any]:
    """A receipt with its decision, decided again now; what could not be is null, and `reasons` say why."""
    row = again.row
    return {
        "request_id": row.request_id,
        "started_at": row.start_time.isoformat(),
        **_kept(again.receipt),
        "outcome": again.outcome,
        "decision": _decision(again.made),
        "nearest_changes": _changes(again.changes),
        "digest_matches": again.digest_matches,
        "erased": again.erased,
        "reasons": list(again.reasons),
        "chain": {
            "id": row.chain,
            "sequence": row.sequence,
            "previous_hash": row.previous_hash.hex(),
            "hash": row.hash.hex(),
        },
    }


def verification_body(verification: Verification) -> dict[str, Any]:
    """What a receipt is worth."""
    chain = verification.chain
    return {
        "valid": verification.valid,
        "digest_matches": verification.digest_matches,
        "chain_intact": chain.intact,
        "broken_at": chain.broken_at,
        "checked": {"first": chain.first, "last": chain.last},
        "erased": verification.erased,
        "erased_rows": list(chain.erased),
        "reasons": list(verification.reasons),
    }


def _changes(changes: tuple[Change, ...]) -> list[dict[str, Any]]:
    """Single changes that turn the choice, the nearest first; six digits, so a value stands close to the border."""
    return [
        {
            "quantity": change.quantity,
            "deployment": change.deployment,
            "was": _short(change.was),
            "becomes": _short(change.becomes),
            "size": _short(change.size),
            "winner": change.winner,
        }
        for change in changes
    ]


def _kept(receipt: Receipt | None) -> dict[str, Any]:
    """What the receipt holds, beside what follows from it."""
    if receipt is None:
        return {"receipt": None}
    return {"receipt": to_values(receipt)}


def _decision(made: Deliberation | None) -> dict[str, Any] | None:
    if made is None:
        return None
    if made.decision is not None:
        return decision_body(made.decision)
    return {
        "chosen": None,
        "rejections": [
            {"deployment": r.deployment_id, "model": r.model_id, "reason": r.reason.value, "detail": r.detail}
            for r in made.rejections
        ],
        "registry_version": made.snapshot.registry.version,
        "policy_version": made.snapshot.policy.version,
    }


def _short(value: float) -> float:
    return float(f"{value:.6g}")
