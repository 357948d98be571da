"""An engine comes to the same decisions for ever, and so do receipts of the engines before it."""

import json
from pathlib import Path

import pytest

from shared.scoring.receipt import ENGINE, Receipt, digest_of, read_receipt, replay
from shared.stores.registry_files import parse_kept
from tests.receipt_golden import FOLDER


def test_this_engine_still_decides_as_it_did() -> None:
    """When this fails on purpose: give `ENGINE` a new value and run ``python -m tests.receipt_golden``."""
    receipts = repeated(FOLDER / f"engine_{ENGINE}.json")

    assert {receipt.engine for receipt in receipts} == {ENGINE}
    assert len({receipt.chosen for receipt in receipts}) >= 4
    assert any(receipt.question is not None and receipt.question.forecast is not None for receipt in receipts)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("engine_*.json")), ids=lambda path: path.stem)
def test_receipts_of_every_engine_still_come_out(path: Path) -> None:
    assert {f"engine_{receipt.engine}" for receipt in repeated(path)} == {path.stem}


def repeated(path: Path) -> list[Receipt]:
    """The receipts of a golden file, each decided again to the same digest."""
    golden = json.loads(path.read_text())
    registry, policy = parse_kept(golden["registry"], golden["policy"])
    receipts = [read_receipt(json.loads(text)) for text in golden["receipts"]]
    assert receipts
    assert [digest_of(replay(receipt, registry, policy)) for receipt in receipts] == [r.digest for r in receipts]
    return receipts
