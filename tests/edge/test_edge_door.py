"""The door: who passes, what every answer carries, how much is read."""

import pytest

from functions._edge import Reply
from functions._headers import SECURITY_HEADERS
from functions.http import ROUTES
from shared.domain.identity import PERMISSIONS, RouterRole, SignedIn
from shared.security.development import DevelopmentAuthenticator
from shared.telemetry.trace_context import parse_traceparent
from tests.edge.edge_harness import CHAT, PROVED, TABLE, Caller
from tests.principals import principal_header

OPEN = {"health", "health_ready", "login", "refresh", "jwks"}
GUARDED = [route for route in ROUTES if route.permission is not None]
BY_NAME = {route.name: route for route in ROUTES}
ROLES = [(), *((role,) for role in RouterRole)]
JSON = {"content-type": "application/json"}
ORIGIN = "https://dashboard.example"


async def passed(call):
    """A handler that says who came through."""
    return Reply({"service": call.caller.service, "body": call.body.decode()})


def ids(routes):
    return [route.name for route in routes]


# --- identity and permission -----------------------------------------------------------------------------------------


def test_the_open_routes_are_these_and_no_others():
    assert {route.name for route in ROUTES if route.permission is None} == OPEN


@pytest.mark.parametrize("route", GUARDED, ids=ids(GUARDED))
@pytest.mark.parametrize("headers", [{}, {"x-ms-client-principal": "e30="}, {"authorization": "Bearer x"}])
async def test_without_proof_nobody_passes(edge, route, headers):
    answer = await edge.knock(route, headers=headers, handler=passed)
    assert (answer.status, answer.error["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("route", GUARDED, ids=ids(GUARDED))
@pytest.mark.parametrize("roles", ROLES, ids=["no role", *(role.value for role in RouterRole)])
async def test_a_role_opens_exactly_the_doors_of_its_permissions(edge, route, roles):
    headers = {**principal_header(roles=roles), **JSON}
    answer = await edge.knock(route, Caller([b"{}"]), headers=headers, handler=passed)
    if route.permission is SignedIn.ANYBODY or any(route.permission in PERMISSIONS[role] for role in roles):
        assert answer.status == 200
        assert answer.json["service"] == "app-1"
    else:
        assert (answer.status, answer.error["code"]) == (403, "forbidden")
        assert route.permission.value in answer.error["message"]
        assert "www-authenticate" not in answer.headers


@pytest.mark.parametrize("name", ["health", "health_ready"])
async def test_open_routes_look_at_no_proof(edge, name):
    assert (await edge.knock(BY_NAME[name], headers={"x-ms-client-principal": "nonsense"})).status == 200


async def test_an_open_route_knows_who_proves_himself_and_asks_nobody_to(edge):
    assert (await edge.knock(BY_NAME["health"], headers=PROVED, handler=passed)).status == 200
    assert (await edge.knock(BY_NAME["health"], headers={}, handler=passed)).status == 401
    assert (await edge.knock(BY_NAME["health"], headers={})).status == 200


async def test_a_body_is_not_read_for_somebody_who_may_not_come_in(edge):
    caller = Caller([b"x" * 10_000])
    answer = await edge.send("POST", "chat/completions", caller, headers=JSON)
    assert answer.status == 401
    assert caller.chunks_read == 0


async def test_development_is_told_in_every_answer(build_edge):
    development = {"ROUTER_ENVIRONMENT": "local", "ROUTER_AUTH": "development"}
    edge = build_edge(environ=development, authenticator=DevelopmentAuthenticator(environment="local"))
    answers = [await edge.get("models", {}), await edge.get("health", {}), await edge.get("models/none", {})]
    assert [answer.status for answer in answers] == [200, 200, 404]
    assert [answer.headers["x-router-development"] for answer in answers] == ["true"] * 3


async def test_nothing_is_said_of_development_elsewhere(edge):
    assert "x-router-development" not in (await edge.get("models")).headers


# --- headers of every answer -----------------------------------------------------------------------------------------


async def test_security_headers_and_no_banner_on_every_answer(edge):
    answers = [
        await edge.get("health"),
        await edge.get("models"),
        await edge.get("models", {}),
        await edge.get("models/none"),
        await edge.post("chat/completions", CHAT),
        await edge.post("chat/completions", {**CHAT, "stream": True}),
        await edge.post("chat/completions", b"{"),
    ]
    assert [answer.status for answer in answers] == [200, 200, 401, 404, 200, 200, 400]
    for answer in answers:
        assert answer.headers.items() >= SECURITY_HEADERS.items()
        assert not {"server", "x-powered-by"} & set(answer.headers)


async def test_request_ids_differ_and_stand_in_header_body_span_and_record(edge):
    first, second = await edge.post("chat/completions", CHAT), await edge.post("route", {"prompt": "hello"})
    assert first.headers["x-request-id"] == first.json["router"]["request_id"]
    assert first.json["id"] == f"chatcmpl-{first.headers['x-request-id']}"
    assert second.headers["x-request-id"] == second.json["request_id"]
    given = [first.headers["x-request-id"], second.headers["x-request-id"]]
    assert len(set(given)) == 2
    assert [span.request_id for span in edge.telemetry.requests] == given
    assert [record.id for record in await edge.records()] == given


async def test_a_callers_own_request_id_is_not_taken_over(edge):
    answer = await edge.get("models", {**PROVED, "x-request-id": "mine"})
    assert answer.headers["x-request-id"] != "mine"


async def test_the_callers_trace_goes_on_to_the_model_and_into_the_ledger(edge):
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    await edge.post("chat/completions", CHAT, {**PROVED, "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"})
    (span,) = edge.telemetry.requests
    assert (span.name, span.trace_id, span.parent_id) == ("POST chat/completions", trace_id, "00f067aa0ba902b7")
    (call,) = edge.provider.calls
    assert parse_traceparent(call.headers["traceparent"]).trace_id == trace_id
    assert [record.trace_id for record in await edge.records()] == [trace_id]


@pytest.mark.parametrize("traceparent", ["", "nonsense", f"00-{'0' * 32}-00f067aa0ba902b7-01"])
async def test_a_traceparent_that_is_none_begins_a_trace(edge, traceparent):
    answer = await edge.get("models", {**PROVED, "traceparent": traceparent})
    (span,) = edge.telemetry.requests
    assert answer.status == 200
    assert span.parent_id == ""
    assert int(span.trace_id, 16) > 0


# --- CORS ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cors_edge(build_edge):
    return build_edge(environ={"ROUTER_CORS_ORIGINS": f"{ORIGIN}, http://127.0.0.1:4280"})


@pytest.mark.parametrize("origin", [ORIGIN, "http://127.0.0.1:4280"])
@pytest.mark.parametrize(("headers", "status"), [(PROVED, 200), ({}, 401)])
async def test_an_allowed_origin_may_read_answers_and_refusals(cors_edge, origin, headers, status):
    answer = await cors_edge.get("models", {**headers, "origin": origin})
    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] == origin
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "*", ORIGIN.upper(), f"{ORIGIN}.evil.example", f"{ORIGIN}:8443", ""]
)
async def test_other_origins_are_told_nothing(cors_edge, origin):
    answer = await cors_edge.get("models", {**PROVED, "origin": origin})
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_without_an_origin_and_by_default_there_is_no_cors(cors_edge, build_edge):
    without_origin = await cors_edge.get("models")
    by_default = await build_edge().get("models", {**PROVED, "origin": ORIGIN})
    for answer in (without_origin, by_default):
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_scripts_of_an_allowed_origin_may_read_each_header_of_ours(cors_edge):
    headers = {**PROVED, "origin": ORIGIN}
    for body in (CHAT, {**CHAT, "stream": True}):
        answer = await cors_edge.post("chat/completions", body, headers)
        exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
        ours = {name for name in answer.headers if name.startswith(("x-router-", "x-request-"))}
        assert ours <= exposed
        assert "retry-after" in exposed


def test_preflights_are_the_platforms():
    # App Service answers OPTIONS by its own CORS setting before a function is asked; a function would shadow that.
    assert all(TABLE.match("OPTIONS", f"/api/v1/{path}") is None for path in ("models", "chat/completions", "health"))


# --- bodies ----------------------------------------------------------------------------------------------------------

LIMIT = 2048


async def knock_with(edge, chunks, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    caller = Caller(chunks)
    answer = await edge.knock(BY_NAME["route"], caller, headers={**PROVED, **named}, handler=passed)
    return answer, caller


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/json;x", None]
)
async def test_json_is_taken_also_when_nothing_is_said(edge, kind):
    answer, _ = await knock_with(edge, [b"{}"], **({} if kind is None else {"content_type": kind}))
    assert (answer.status, answer.json["body"]) == (200, "{}")


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonl",
        "application/*",
        "",
    ],
)
async def test_other_content_types_are_refused(edge, kind):
    answer, caller = await knock_with(edge, [b"{}"], content_type=kind)
    assert (answer.status, answer.error["param"]) == (415, "content-type")
    assert caller.chunks_read == 0


@pytest.mark.parametrize(
    ("encoding", "status"), [("gzip", 415), ("br, gzip", 415), ("identity", 200), ("Identity", 200)]
)
async def test_compressed_bodies_are_refused(edge, encoding, status):
    answer, _ = await knock_with(edge, [b"{}"], content_encoding=encoding)
    assert answer.status == status
    assert status == 200 or answer.error["param"] == "content-encoding"


async def test_a_body_that_says_it_is_too_long_is_not_read(edge):
    answer, caller = await knock_with(edge, [b"x"], content_length=str(LIMIT + 1))
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert str(LIMIT) in answer.error["message"]
    assert caller.chunks_read == 0


async def test_a_body_that_lies_or_says_nothing_is_read_no_further_than_the_limit(edge):
    for headers in ({"content_length": "5"}, {"content_length": "-1"}, {"transfer_encoding": "chunked"}, {}):
        answer, caller = await knock_with(edge, [b"x" * 1000] * 50, **headers)
        assert (answer.status, answer.error["code"]) == (413, "request_too_large")
        assert caller.chunks_read == 3


async def test_a_body_of_exactly_the_limit_in_pieces_is_taken_whole(edge):
    answer, _ = await knock_with(edge, [b"a" * 1024, b"b" * 1024], content_length=str(LIMIT))
    assert (answer.status, answer.json["body"]) == (200, "a" * 1024 + "b" * 1024)


async def test_a_get_takes_no_body(edge):
    caller = Caller([b"x" * 10_000])
    answer = await edge.send("GET", "models", caller, headers={**PROVED, "content-type": "text/plain"})
    assert answer.status == 200
    assert caller.chunks_read == 0


# --- routes ----------------------------------------------------------------------------------------------------------


async def test_a_model_is_found_by_id_and_alias_and_otherwise_not(edge):
    assert (await edge.get("models/a")).json["id"] == "a"
    assert (await edge.get("models/a-latest")).json["id"] == "a"
    missing = await edge.get("models/publishers/x/models/y")
    assert (missing.status, missing.error["code"], missing.error["param"]) == (404, "model_not_found", "model")
