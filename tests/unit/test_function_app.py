"""What the Functions runtime will see of the app."""

from functions.http import PREFIX, ROUTES
from infra.local.hosting.routes import Route, RouteTable
from shared.domain.identity import Permission, SignedIn


def table():
    return RouteTable(Route(r.name, f"api/{PREFIX}/{r.path}", frozenset({r.method}), r) for r in ROUTES)


def test_no_two_routes_would_be_told_apart_otherwise_in_azure():
    # Azure tries functions by name, a local host by how specific a route is: both must find the same one.
    assert table().conflicts == ()


def test_every_path_finds_its_own_route():
    for route in ROUTES:
        path = "/api/v1/" + route.path.replace("{*model:minlength(1)}", "claude-haiku-5-5")
        found = table().match(route.method, path)
        assert found is not None
        assert found.target is route
    assert table().match("GET", "/api/v1/models").target.name == "models"


def test_names_are_unique_and_every_route_is_guarded_or_open_on_purpose():
    assert len({route.name for route in ROUTES}) == len(ROUTES)
    assert {route.name for route in ROUTES if route.permission is None} == {
        "health",
        "health_ready",
        "login",
        "refresh",
        "jwks",
    }
    assert all(isinstance(route.permission, Permission | SignedIn | None) for route in ROUTES)
