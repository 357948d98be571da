"""The learned predictor on the whole stack: forecasts in previews and receipts, and what an unknown task is given to."""

import time

import pytest
import requests

from shared.stores.quality_artefact import load_quality_model

KNOWN = "What is the derivative of x^3 + 2x with respect to x? Think step by step, then give the result."
STRANGE = "zzyzx qwop flarn"


@pytest.fixture(scope="module")
def url(stack):
    return f"{stack.base_url}/api/v1"


def routed(url, prompt, **body):
    answer = requests.post(f"{url}/route", json={"prompt": prompt, **body}, timeout=30)
    assert answer.status_code == 200
    return answer


def receipt_of(url, request_id):
    """The receipt, once the ledger's writer has stored it behind the answer."""
    give_up_at = time.monotonic() + 20
    while True:
        answer = requests.get(f"{url}/receipts/{request_id}", timeout=10)
        if answer.status_code != 404 or time.monotonic() > give_up_at:
            assert answer.status_code == 200
            return answer.json()
        time.sleep(0.05)


def test_a_preview_shows_what_was_forecast(url):
    decision = routed(url, KNOWN, dry_run=True).json()["decision"]
    assert decision["forecast"]["version"] == load_quality_model().version
    assert 0.0 <= decision["forecast"]["familiarity"] <= 1.0
    for candidate in decision["candidates"]:
        expected = candidate["expected_quality"]
        assert 0.0 < expected["mean"] < 1.0
        assert 0.0 < expected["std"] < 1.0
        assert candidate["factors"]["quality"] <= expected["mean"] + 1e-6


def test_a_receipt_holds_its_forecast_and_verifies(url):
    answer = routed(url, KNOWN)
    request_id, decision = answer.headers["x-request-id"], answer.json()["decision"]
    kept = receipt_of(url, request_id)
    assert kept["decision"] == decision
    forecast = kept["receipt"]["question"]["forecast"]
    assert forecast["version"] == decision["forecast"]["version"]
    assert len(forecast["mean"]) == len(forecast["std"]) >= len({c["model"] for c in decision["candidates"]})
    verified = requests.post(f"{url}/receipts/{request_id}/verify", timeout=10).json()
    assert (verified["valid"], verified["reasons"]) == (True, [])


def test_an_unknown_task_goes_to_the_best_model_unless_low_cost_was_asked_for(url):
    balanced = routed(url, STRANGE, dry_run=True).json()["decision"]
    assert balanced["analysis"]["category"] == "unknown"
    assert (balanced["weights"]["cost"], balanced["weights"]["latency"]) == (0.0, 0.0)
    best = max(c["expected_quality"]["mean"] for c in balanced["candidates"])
    assert balanced["chosen"]["expected_quality"]["mean"] == pytest.approx(best, abs=0.02)

    cheap = routed(url, STRANGE, dry_run=True, preset="cost").json()["decision"]
    assert cheap["weights"]["cost"] > 0.0
    assert cheap["chosen"]["expected_cost_usd"] < balanced["chosen"]["expected_cost_usd"] / 5


def test_a_named_model_needs_no_forecast(url):
    models = requests.get(f"{url}/models", timeout=10).json()["data"]
    preview = routed(url, KNOWN, dry_run=True)
    named = preview.json()["decision"]["chosen"]["model"]
    assert named in {model["id"] for model in models}
    assert routed(url, KNOWN, dry_run=True, model=named).json()["decision"]["forecast"] is None
