"""The local host's route table against ASP.NET Core's and the Azure Functions host's rules."""

import pytest

from infra.local.hosting.constraints import parse_constraint
from infra.local.hosting.errors import IndexingFailed
from infra.local.hosting.routes import Route, RouteTable
from infra.local.hosting.templates import parse_template


def table(*templates: str) -> RouteTable[str]:
    """Routes whose targets are their own templates; `GET a/{b}` restricts the method."""
    routes = []
    for number, text in enumerate(templates):
        methods, _, template = text.rpartition(" ")
        name = f"function{number:02}"
        routes.append(Route(name, template, frozenset(methods.split(",")) - {""}, text))
    return RouteTable(routes)


def found(
    routes: RouteTable[str], path: str, method: str = "GET", raw: bytes = b""
) -> tuple[str, dict[str, str]] | None:
    match = routes.match(method, path, raw or path.encode())
    return None if match is None else (match.target, match.path_params)


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("api/ping", "/api/ping", {}),
        ("api/ping", "/API/Ping", {}),
        ("api/ping", "/api/ping/", {}),
        ("api/ping", "/api/ping/x", None),
        ("api/ping", "/api", None),
        ("api/ping", "/api//ping", None),
        ("", "/", {}),
        ("", "/x", None),
        ("api/{id}", "/api/Abc", {"id": "Abc"}),
        ("api/{id}", "/api/Abc/", {"id": "Abc"}),
        ("api/{id}", "/api/", None),
        ("api/{id}", "/api//", None),
        ("api/{id}/x", "/api/1/X", {"id": "1"}),
        ("api/{id:int}", "/api/12", {"id": "12"}),
        ("api/{id:int}", "/api/x", None),
        ("api/{id:int?}", "/api", {}),
        ("api/{id:int?}", "/api/7", {"id": "7"}),
        ("api/{id:int?}", "/api/x", None),
        ("api/{id=5}", "/api", {"id": "5"}),
        ("api/{id:int=5}", "/api/6", {"id": "6"}),
        ("api/{a?}/{b?}", "/api/1", {"a": "1"}),
        ("api/{a?}/{b?}", "/api/1/2", {"a": "1", "b": "2"}),
        ("api/{*rest}", "/api", {}),
        ("api/{*rest}", "/api/a", {"rest": "a"}),
        ("api/{*rest}", "/api/a/b/c", {"rest": "a/b/c"}),
        ("api/{**rest}", "/api/a/b", {"rest": "a/b"}),
        ("api/{*rest:regex(^a/)}", "/api/a/b", {"rest": "a/b"}),
        ("api/{*rest:regex(^a/)}", "/api/b/b", None),
        ("api/{name}.{extension}", "/api/a.tar.gz", {"name": "a.tar", "extension": "gz"}),
        ("api/{name}.{extension}", "/api/a", None),
        ("api/v{major:int}", "/api/v2", {"major": "2"}),
        ("api/v{major:int}", "/api/vx", None),
        ("api/{id:regex(^\\d{{2}}-[ab]$)}", "/api/12-a", {"id": "12-a"}),
        ("api/{id:regex(^a:b$):minlength(3)}", "/api/a:b", {"id": "a:b"}),
    ],
)
def test_one_route(template: str, path: str, expected: dict[str, str] | None):
    match = found(table(template), path)
    assert match == (None if expected is None else (template, expected))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/models/list", "api/models/list"),
        ("/api/models/12", "api/models/{id:int}"),
        ("/api/models/gemini", "api/models/{id}"),
        ("/api/models/gemini/x", "api/{*rest}"),
        ("/api/models/list/x", "api/models/list/{x}"),
        ("/api/other", "api/{*rest}"),
        ("/else", "{*all}"),
    ],
)
def test_the_more_specific_route_wins_whatever_the_order(path: str, expected: str):
    templates = [
        "{*all}", "api/{*rest}", "api/models/{id}", "api/models/{id:int}", "api/models/list/{x}", "api/models/list"
    ]  # fmt: skip
    for order in (templates, templates[::-1]):
        match = found(table(*order), path)
        assert match is not None
        assert match[0] == expected


def test_a_literal_that_leads_nowhere_gives_way_to_a_parameter():
    routes = table("api/a/b", "api/{x}/c")
    assert found(routes, "/api/a/c") == ("api/{x}/c", {"x": "a"})


def test_a_wrong_method_is_no_match():
    routes = table("GET,POST api/a", "PUT api/{x}", "api/every")
    assert found(routes, "/api/a", "POST") == ("GET,POST api/a", {})
    assert found(routes, "/api/a", "PUT") == ("PUT api/{x}", {"x": "a"})
    assert found(routes, "/api/a", "DELETE") is None
    assert found(routes, "/api/a", "HEAD") is None
    assert found(routes, "/api/every", "PATCH") == ("api/every", {})


def test_an_encoded_slash_stays_inside_its_segment_and_encoded():
    routes = table("api/{id}", "api/{a}/{b}")
    assert found(routes, "/api/x/y", raw=b"/api/x%2Fy") == ("api/{id}", {"id": "x%2Fy"})
    assert found(routes, "/api/x/y z", raw=b"/api/x%2fy%20z") == ("api/{id}", {"id": "x%2Fy z"})
    assert found(routes, "/api/x y/z", raw=b"/api/x%20y/z") == ("api/{a}/{b}", {"a": "x y", "b": "z"})


def test_thousands_of_segments_are_refused_without_a_deep_walk():
    assert found(table("api/{id}", "api/x/y"), "/api" + "/x" * 5000) is None


def test_azures_order_by_function_name_is_reported_where_it_decides_otherwise():
    routes = RouteTable(
        [
            Route("a_get", "models/{id}", frozenset({"GET"}), 1),
            Route("b_list", "models/list", frozenset({"GET"}), 2),
            Route("c_put", "models/{id}", frozenset({"PUT"}), 3),
            Route("d_number", "numbers/{id:int}", frozenset(), 4),
            Route("e_list", "numbers/list", frozenset(), 5),
        ]
    )
    (conflict,) = routes.conflicts
    assert "models/{id} of a_get hides models/list of b_list" in conflict


@pytest.mark.parametrize(("template", "conflicts"), [("models/{*model}", 1), ("models/{*model:minlength(1)}", 0)])
def test_a_catch_all_also_takes_the_path_that_ends_before_it(template: str, conflicts: int):
    routes = RouteTable([Route("model", template, frozenset(), 1), Route("models", "models", frozenset(), 2)])
    assert len(routes.conflicts) == conflicts


def test_names_that_agree_with_the_precedence_are_no_conflict():
    routes = RouteTable([Route("b_get", "models/{id}", frozenset(), 1), Route("a_list", "models/list", frozenset(), 2)])
    assert routes.conflicts == ()


def test_two_functions_on_one_route_are_reported_and_the_first_name_answers():
    routes = RouteTable([Route("b", "x/{id}", frozenset(), "b"), Route("A", "x/{key}", frozenset({"GET"}), "a")])
    assert len(routes.conflicts) == 1
    assert found(routes, "/x/1") == ("a", {"key": "1"})


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("a/{id", "braces"),
        ("a/id}", "braces"),
        ("a/{}", "parameter name"),
        ("a/{1d}", "parameter name"),
        ("a/{id:colour}", "colour"),
        ("a/{id:range(1)}", "range"),
        ("a/{id:min(x)}", "whole numbers"),
        ("a/{id:regex([)}", "regular expression"),
        ("a/{id}/{ID}", "twice"),
        ("a/{*rest}/b", "after its catch-all"),
        ("a/{b?}/c", "after an optional"),
        ("a/x{b?}", "optional"),
    ],
)
def test_a_malformed_template_names_function_and_part(template: str, named: str):
    with pytest.raises(IndexingFailed, match=f"Function broken: .*{named}"):
        RouteTable([Route("broken", template, frozenset(), None)])


@pytest.mark.parametrize(
    ("constraint", "accepted", "refused"),
    [
        ("int", ["0", "-1", "+7", "2147483647"], ["", "1.0", "2147483648", "x", "9" * 5000]),
        ("long", ["9223372036854775807"], ["9223372036854775808"]),
        ("bool", ["true", "FALSE"], ["1", "yes"]),
        ("decimal", ["1.5", "-3"], ["x", "NaN"]),
        ("double", ["1e3", "0.1"], ["x"]),
        ("datetime", ["2026-11-23", "2026-11-23T10:00:00"], ["tomorrow"]),
        ("guid", ["0f8fad5b-d9cb-469f-a165-70867728950e", "{0F8FAD5B-D9CB-469F-A165-70867728950E}"], ["0f8fad5b"]),
        ("alpha", ["abcXYZ"], ["a1", "ä"]),
        ("length(3)", ["abc"], ["ab", "abcd"]),
        ("length(2,3)", ["ab", "abc"], ["a", "abcd"]),
        ("minlength(2)", ["ab"], ["a"]),
        ("maxlength(2)", ["ab"], ["abc"]),
        ("min(18)", ["18", "99"], ["17", "x"]),
        ("max(18)", ["18", "-1"], ["19", "x"]),
        ("range(1,3)", ["1", "3"], ["0", "4", "x"]),
        ("regex(^[a-f]+$)", ["abc", "ABC"], ["xyz"]),
        ("required", ["x"], [" "]),
    ],
)
def test_constraints(constraint: str, accepted: list[str], refused: list[str]):
    fits = parse_constraint(constraint)
    assert [value for value in accepted if not fits(value)] == []
    assert [value for value in refused if fits(value)] == []


def test_literals_are_kept_in_lower_case():
    assert [segment.text for segment in parse_template("API/V1")] == ["api", "v1"]
