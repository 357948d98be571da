"""An engine comes to the same decisions for ever."""

import json

from shared.scoring.receipt import ENGINE, digest_of, read_receipt, replay
from shared.stores.registry_files import parse_kept
from tests.receipt_golden import FOLDER


def test_this_engine_still_decides_as_it_did() -> None:
    """When this fails on purpose: give `ENGINE` a new value and run ``python -m tests.receipt_golden``."""
    golden = json.loads((FOLDER / f"engine_{ENGINE}.json").read_text())
    registry, policy = parse_kept(golden["registry"], golden["policy"])
    receipts = [read_receipt(json.loads(text)) for text in golden["receipts"]]

    assert len({receipt.chosen for receipt in receipts}) == 4
    assert {receipt.engine for receipt in receipts} == {ENGINE}
    assert [digest_of(replay(receipt, registry, policy)) for receipt in receipts] == [r.digest for r in receipts]
