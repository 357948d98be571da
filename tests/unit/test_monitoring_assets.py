"""The queries, workbook and alerts under infra/monitoring ask for what the router really sends, and the docs list it."""

import ast
import json
import re
from itertools import chain
from pathlib import Path
from uuid import UUID

import pytest

from functions.http import PREFIX, ROUTES
from infra.monitoring.build import QUERIES, files, workbook
from shared.services import self_test

ROOT = Path(__file__).resolve().parents[2]
QUERY_FILES = sorted(QUERIES.glob("*.kql"))
TABLES = {"requests", "dependencies", "exceptions", "traces", "customMetrics", "availabilityResults", "union", "let"}
METHODS = {"count": 0, "observe": 0, "log": 1}
"""Where the name is among the arguments of the `Telemetry` port's methods."""


def emitted() -> dict[str, set[str]]:
    """The names that are constants where the code sends them, by method; `{}` stands for what is put in."""
    found: dict[str, set[str]] = {method: set() for method in METHODS}
    paths = chain((ROOT / "shared").rglob("*.py"), (ROOT / "functions").rglob("*.py"))
    for node in chain.from_iterable(ast.walk(ast.parse(path.read_text())) for path in paths):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in METHODS:
            continue
        place = METHODS[node.func.attr]
        if "telemetry" in ast.unparse(node.func.value) and len(node.args) > place:
            name = node.args[place]
            if isinstance(name, ast.Constant):
                found[node.func.attr].add(name.value)
    found["count"].add("telemetry_dropped_items")  # shared/telemetry/exporter.py tells of itself
    return found


def names_in(text: str, column: str) -> set[str]:
    """What a query compares a column with."""
    listed = re.findall(rf"\b{column} in \(([^)]*)\)", text)
    return set(re.findall(rf'\b{column} == "([^"]*)"', text)) | set(re.findall(r'"([^"]*)"', ",".join(listed)))


def all_texts() -> str:
    alerts = json.loads((QUERIES.parent / "alerts.json").read_text())
    return "\n".join([*(path.read_text() for path in QUERY_FILES), *(a["criteria"]["query"] for a in alerts.values())])


def test_every_metric_in_a_query_is_sent() -> None:
    asked = set()
    for query in re.split(r"\n(?=//|customMetrics|requests\n|traces\n|dependencies\n)", all_texts()):
        if query.lstrip("/ ").startswith("customMetrics") or "\ncustomMetrics" in query:
            asked |= names_in(query, "name")
    sent = emitted()
    assert len(asked) > 20
    assert not asked - sent["count"] - sent["observe"]


def test_every_event_in_a_query_is_logged() -> None:
    asked = names_in(all_texts(), "message")
    assert {"job_failed", "defect"} <= asked
    assert not asked - emitted()["log"]


def test_every_self_test_in_a_query_is_told() -> None:
    asked = {name for name in names_in(all_texts(), "name") if name.startswith("self/")}
    told = set(re.findall(r'_tell\("(\w+)"', Path(self_test.__file__).read_text()))
    assert "self/router" in asked
    assert {name.removeprefix("self/") for name in asked} <= told


def test_the_docs_list_every_metric_and_no_other() -> None:
    text = (ROOT / "docs" / "telemetry.md").read_text()
    section = text.split("## Metrics\n")[1].split("\n## ")[0]
    listed = set(re.findall(r"`([a-z_]+)`", "\n".join(re.findall(r"^\| (.*?) \|", section, re.MULTILINE))))
    sent = emitted()
    assert listed == sent["count"] | sent["observe"]


@pytest.mark.parametrize("path", QUERY_FILES, ids=lambda path: path.stem)
def test_a_query_says_what_it_is_for_and_reads_a_table_that_exists(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("// ")
    first = next(line for line in lines if line and not line.startswith("//"))
    assert first.split()[0] in TABLES
    for line in lines:
        assert line.count("(") == line.count(")"), line
        assert line.count('"') % 2 == 0, line


def test_the_files_are_what_the_command_makes_of_the_queries() -> None:
    for path, text in files().items():
        assert path.read_text() == text, "run python -m infra.monitoring.build"


def test_the_workbook_has_the_form_that_azure_monitor_imports() -> None:
    made = workbook()
    assert made["version"] == "Notebook/1.0"
    assert made["$schema"].endswith("/workbook.json")
    names = [item["name"] for item in made["items"]]
    assert len(set(names)) == len(names)
    parameter = made["items"][0]["content"]["parameters"][0]
    assert UUID(parameter["id"]).version == 4
    for item in made["items"]:
        assert item["type"] in {1, 3, 9}
        if item["type"] == 3:
            assert item["content"]["version"] == "KqlItem/1.0"
            assert item["content"]["timeContextFromParameter"] == parameter["name"]
            assert item["content"]["query"] == (QUERIES / f"{item['name']}.kql").read_text()
    shown = {item["name"] for item in made["items"]}
    # The other two are for a person who fills something in, and for an alert.
    assert {path.stem for path in QUERY_FILES} - shown == {"trace", "burn_rate"}


def test_alerts_are_complete_and_their_windows_are_such_as_azure_takes() -> None:
    rules = json.loads((QUERIES.parent / "alerts.json").read_text())
    for name, rule in rules.items():
        assert re.fullmatch(r"[a-z][a-z0-9-]{0,127}", name)
        assert rule["description"].endswith(".")
        assert 0 <= rule["severity"] <= 4
        # https://learn.microsoft.com/azure/azure-monitor/alerts/alerts-create-log-alert-rule
        assert rule["window_duration"] in {"PT5M", "PT15M", "PT1H"}
        column = rule["criteria"]["metric_measure_column"]
        assert (column is None) == (rule["criteria"]["time_aggregation_method"] == "Count")
        assert column is None or column.split("_")[0] in rule["criteria"]["query"]
        periods = rule["criteria"]["failing_periods"]
        assert 1 <= periods["minimum_failing_periods_to_trigger_alert"] <= periods["number_of_evaluation_periods"] <= 6


def test_tests_from_outside_knock_at_open_doors_and_have_a_form_that_azure_takes() -> None:
    tests = json.loads((QUERIES.parent / "web_tests.json").read_text())
    open_paths = {f"/api/{PREFIX}/{route.path}" for route in ROUTES if route.permission is None}
    assert "/api/v1/health/ready" in {test["request"]["path"] for test in tests.values()} <= open_paths
    for name, test in tests.items():
        assert not name.startswith("self/")
        assert test["description"].endswith(".")
        # registry.terraform.io/providers/hashicorp/azurerm/latest/docs/resources/application_insights_standard_web_test
        assert test["frequency"] in {300, 600, 900}
        assert test["timeout"] in {30, 60, 90, 120}
        assert test["request"]["http_verb"] == "GET"
        rules = test["validation_rules"]
        assert rules["expected_status_code"] == 200
        assert rules["ssl_check_enabled"] is True
        assert 1 <= rules["ssl_cert_remaining_lifetime"] <= 365
        places = test["geo_locations"]
        assert len(places) == len(set(places)) == 5
        assert all(re.fullmatch(r"(us|emea|apac|latam)-[a-z]{2}-[a-z]{2,3}\d?-(azr|edge)", place) for place in places)


def test_an_alert_on_places_leaves_one_and_two_failing_places_alone() -> None:
    rule = json.loads((QUERIES.parent / "alerts.json").read_text())["unreachable-from-outside"]
    places = json.loads((QUERIES.parent / "web_tests.json").read_text())["router-is-ready"]["geo_locations"]
    # Microsoft's advice: as many places as there are, less two.
    assert rule["criteria"]["threshold"] + 1 == len(places) - 2
