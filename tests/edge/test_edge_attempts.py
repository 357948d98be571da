"""What the answer says of the calls behind it: headers, the itinerary, the cascade."""

from decimal import Decimal

from functions._orders import cascade_headers
from shared.domain.errors import ProviderUnavailable
from shared.services.attempt_log import CascadeOutcome
from tests.edge.edge_harness import CHAT
from tests.service.routing_doubles import ScriptedProvider

ROUTE = {"prompt": "hello", "model": "a"}


def away_once():
    return ScriptedProvider({"a@europe-west4": [[ProviderUnavailable("away", vendor_status="503")]]})


async def test_a_retry_shows_in_headers_and_in_the_itinerary(build_edge):
    answer = await build_edge(away_once()).post("route", ROUTE)
    assert answer.status == 200
    assert (answer.headers["x-router-attempts"], answer.headers["x-router-fallbacks"]) == ("2", "0")
    assert "x-router-cascade" not in answer.headers
    first, second = answer.json["itinerary"]
    assert (first["number"], first["outcome"], first["vendor_status"]) == (1, "provider_unavailable", "503")
    assert (second["number"], second["outcome"], second["deployment"]) == (2, "success", "a@europe-west4")
    assert first["cost_usd"] == 0
    assert second["cost_usd"] == answer.json["cost_usd"]


async def test_a_streamed_route_ends_with_its_itinerary(build_edge):
    answer = await build_edge(away_once()).post("route", {**ROUTE, "stream": True})
    assert answer.headers["x-router-attempts"] == "2"
    assert [a["outcome"] for a in answer.events[-1][1]["itinerary"]] == ["provider_unavailable", "success"]


async def test_the_cascade_is_asked_for_in_the_body_and_must_be_a_yes_or_no(build_edge):
    edge = build_edge()
    # One model alone cannot be a cascade: the wish is taken, and nothing is claimed.
    answer = await edge.post("chat/completions", {**CHAT, "model": "auto", "router": {"cascade": True}})
    assert answer.status == 200
    assert "x-router-cascade" not in answer.headers
    answer = await edge.post("chat/completions", {**CHAT, "router": {"cascade": "yes please"}})
    assert (answer.status, answer.error["param"]) == (400, "router.cascade")


def test_a_cascade_tells_its_end_its_reason_and_its_saving():
    accepted = CascadeOutcome("accepted", None, Decimal("0.00120"))
    escalated = CascadeOutcome("escalated", "schema", Decimal("-0.0003"))
    assert cascade_headers(accepted) == {"x-router-cascade": "accepted; saved-usd=0.0012"}
    assert cascade_headers(escalated) == {"x-router-cascade": "escalated; reason=schema; saved-usd=-0.0003"}
    assert cascade_headers(None) == {}
