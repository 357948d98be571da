"""`python -m infra.monitoring.build`: puts the queries of `queries/` into `workbook.json` and `alerts.json`.

The workbook is imported as it is (Azure Monitor, "Workbooks", advanced editor, gallery template). The alerts are for
Terraform: a map whose values have the names of `azurerm_monitor_scheduled_query_rules_alert_v2`'s arguments. So are the
tests from outside in `web_tests.json`, with those of `azurerm_application_insights_standard_web_test`.
"""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
QUERIES = HERE / "queries"
_SCHEMA = "https://github.com/Microsoft/Application-Insights-Workbooks/blob/master/schema/workbook.json"
_RANGE = "range"
_DAY_MS = 86_400_000

# Title, query, what it is shown as.
_Chart = tuple[str, str, str]
_SECTIONS: tuple[tuple[str, tuple[_Chart, ...]], ...] = (
    (
        "## Objectives\nMore than 99.9% of requests answered, 2 s on average and 5 s for 95% of the answers.",
        (
            ("Error budget of 30 days", "error_budget", "table"),
            ("Availability", "availability", "timechart"),
            ("Seen from outside", "probes", "table"),
            ("Seen by itself", "self_test", "table"),
            ("Latency of answers", "latency", "timechart"),
            ("The router's own time", "overhead", "timechart"),
            ("Requests per second", "throughput", "timechart"),
        ),
    ),
    (
        "## Cost\nThe ledger has the exact figures: `GET /analytics`.",
        (
            ("By model", "cost_by_model", "table"),
            ("By service", "cost_by_service", "barchart"),
            ("Budgets", "budgets", "timechart"),
            ("Answer cache", "caching", "timechart"),
        ),
    ),
    (
        "## Models",
        (
            ("Deployments", "models", "table"),
            ("Failed calls", "model_failures", "timechart"),
            ("Breakers, hedges", "breakers", "table"),
            ("Refused by rate limits", "refusals", "timechart"),
        ),
    ),
    (
        "## Dependencies and jobs",
        (
            ("Stores", "stores", "table"),
            ("What waits or is lost meanwhile", "dependencies", "timechart"),
            ("Ledger", "ledger", "timechart"),
            ("Failed jobs", "jobs", "table"),
            ("Defects and failures", "exceptions", "table"),
            ("Security", "security", "timechart"),
            ("Telemetry that was lost", "telemetry_loss", "timechart"),
        ),
    ),
)


def _alert(
    description: str,
    condition: str,
    *,
    severity: int,
    minutes: int,
    threshold: float = 0,
    column: str | None = None,
    failing: tuple[int, int] = (1, 1),
    looks_back: str | None = None,
) -> dict[str, Any]:
    """One rule: a query's rows, or the largest value of a column, above a threshold in so many of the last windows.

    Args:
        description: what is wrong when it fires.
        condition: the query.
        severity: 0 (critical) to 4 (verbose).
        minutes: of a window; the rule is looked at as often.
        threshold: what must be exceeded.
        column: whose value; None: the number of rows.
        failing: in how many of how many windows.
        looks_back: how far the query itself reaches (ISO 8601), where that is further than a window.
    """
    least, windows = failing
    window = "PT1H" if minutes == 60 else f"PT{minutes}M"  # noqa: PLR2004 - of an hour
    return {
        "description": description,
        "severity": severity,
        "evaluation_frequency": window,
        "window_duration": window,
        "query_time_range_override": looks_back,
        "criteria": {
            "query": condition,
            "operator": "GreaterThan",
            "threshold": threshold,
            "time_aggregation_method": "Count" if column is None else "Maximum",
            "metric_measure_column": column,
            "failing_periods": {
                "minimum_failing_periods_to_trigger_alert": least,
                "number_of_evaluation_periods": windows,
            },
        },
        "auto_mitigation_enabled": True,
    }


def query(name: str) -> str:
    """The text of a query."""
    return (QUERIES / f"{name}.kql").read_text()


def _metric(*names: str) -> str:
    listed = ", ".join(f'"{name}"' for name in names)
    return f"customMetrics\n| where name in ({listed})\n| summarize value = sum(valueSum)\n| where value > 0\n"


_FAILING_PLACES = """| summarize arg_max(timestamp, failed) by name, location
| summarize failing_places = countif(failed > 0) by name
"""
_SILENT = "| summarize results = count()\n| where results == 0\n"
"""`summarize` without `by` makes a row of nothing too."""


def web_tests() -> dict[str, dict[str, Any]]:
    """Tests from outside by name.

    Five places, and an alert from three on: one that cannot get through is more often its own network's fault.
    https://learn.microsoft.com/azure/azure-monitor/app/availability (population tags, number of locations)
    """
    return {
        "router-is-ready": {
            "description": "The router takes requests: DNS, TLS, the front end, the app and what it cannot do without.",
            "geo_locations": [
                "emea-nl-ams-azr",  # West Europe
                "emea-gb-db3-azr",  # North Europe
                "emea-fr-pra-edge",  # France Central
                "emea-ru-msa-edge",  # UK South
                "us-va-ash-azr",  # East US
            ],
            "frequency": 300,
            "timeout": 30,
            "enabled": True,
            "retry_enabled": True,
            "request": {
                "path": "/api/v1/health/ready",
                "http_verb": "GET",
                "follow_redirects_enabled": False,
                "parse_dependent_requests_enabled": False,
            },
            "validation_rules": {
                "expected_status_code": 200,
                "ssl_check_enabled": True,
                "ssl_cert_remaining_lifetime": 14,
            },
        }
    }


def workbook() -> dict[str, Any]:
    """The workbook, as Azure Monitor imports it."""
    items: list[dict[str, Any]] = [_time_range()]
    for number, (heading, charts) in enumerate(_SECTIONS):
        items.append({"type": 1, "content": {"json": heading}, "name": f"section-{number}"})
        items += [_chart(*chart) for chart in charts]
    return {"version": "Notebook/1.0", "items": items, "fallbackResourceIds": [], "$schema": _SCHEMA}


def _time_range() -> dict[str, Any]:
    parameter = {
        "id": "b0a3c9a2-5a0f-4a39-9d61-6c1c0c6f6e01",
        "version": "KqlParameterItem/1.0",
        "name": _RANGE,
        "label": "Time range",
        "type": 4,
        "isRequired": True,
        "value": {"durationMs": _DAY_MS},
        "typeSettings": {
            "selectableValues": [{"durationMs": ms} for ms in (3_600_000, _DAY_MS, 7 * _DAY_MS, 30 * _DAY_MS)],
            "allowCustom": True,
        },
    }
    content = {"version": "KqlParameterItem/1.0", "parameters": [parameter], "style": "pills", "queryType": 0}
    return {"type": 9, "content": content, "name": "parameters"}


def _chart(title: str, name: str, shown_as: str) -> dict[str, Any]:
    content = {
        "version": "KqlItem/1.0",
        "query": query(name),
        "size": 0,
        "title": title,
        "timeContextFromParameter": _RANGE,
        "queryType": 0,
        "resourceType": "microsoft.insights/components",
        "visualization": shown_as,
    }
    return {"type": 3, "content": content, "name": name}


def alerts() -> dict[str, dict[str, Any]]:
    """Alert rules by name."""
    return {
        "error-budget-burns-fast": _alert(
            "The error budget of 30 days would be gone in two days: over 14.4 times too many failures, for an hour.",
            query("burn_rate"), severity=1, minutes=5, threshold=14.4, column="burning", looks_back="PT1H",
        ),
        "unreachable-from-outside": _alert(
            "The last test from outside failed at three of the five places or more.",
            query("probes") + _FAILING_PLACES, severity=0, minutes=5, threshold=2, column="failing_places",
            looks_back="PT15M",
        ),
        "nobody-tests-from-outside": _alert(
            "No test from outside has arrived for an hour: the tests are off, or Application Insights is.",
            query("probes") + _SILENT, severity=2, minutes=60,
        ),
        "self-test-fails": _alert(
            "By its own tests the router takes no requests, or finds no model for a plain one.",
            query("self_test") + '| where name == "self/router" and failed > 0\n', severity=1, minutes=5,
            failing=(2, 3),
        ),
        "self-test-is-silent": _alert(
            "The router has not tested itself for 15 minutes: it is down, or its timers or telemetry are.",
            query("self_test") + _SILENT, severity=1, minutes=15,
        ),
        "answers-are-slow": _alert(
            "The 95th percentile of answers is above 5 s.",
            query("latency"), severity=2, minutes=15, threshold=5_000, column="percentile_duration_95", failing=(2, 3),
        ),
        "a-model-fails": _alert(
            "A deployment fails more than half of its calls.",
            query("models") + "| where calls >= 20\n", severity=2, minutes=15, threshold=50, column="failed_percent",
        ),
        "records-wait": _alert(
            "Records wait in the queue or come late: PostgreSQL is away or slow.",
            _metric("records_spilled", "records_delayed"), severity=2, minutes=15, failing=(2, 3),
        ),
        "records-are-lost": _alert(
            "A receipt, a booking of a budget or an event of the audit trail was lost.",
            _metric("receipts_lost", "budget_bookings_dropped", "audit_delayed"), severity=1, minutes=15,
        ),
        "a-store-does-not-answer": _alert(
            "A fifth of the calls of a store or more got no answer.",
            query("stores") + "| where calls >= 5\n", severity=2, minutes=5, threshold=20, column="unanswered_percent",
            failing=(2, 3),
        ),
        "redis-is-away": _alert(
            "Limits and health are kept by each process alone.",
            _metric("limits_degraded", "health_store_away"), severity=2, minutes=5, failing=(2, 3),
        ),
        "money-is-not-counted": _alert(
            "Requests went on uncounted, or counters and ledger disagreed.",
            _metric("budgets_uncounted", "budget_drift"), severity=1, minutes=15,
        ),
        "a-job-fails": _alert(
            "A timer or queue function failed three times in an hour.",
            query("jobs"), severity=2, minutes=60, threshold=2, column="failures",
        ),
        "a-defect": _alert(
            "The router answered with an internal error: a defect.",
            'traces\n| where message == "defect"\n', severity=2, minutes=15,
        ),
        "somebody-attacks": _alert(
            "A threat rule found something, or a spent refresh token was used.",
            _metric("threat_findings", "refresh_tokens_reused"), severity=1, minutes=15,
        ),
        "telemetry-is-lost": _alert(
            "The router drops telemetry.", _metric("telemetry_dropped_items"), severity=3, minutes=60,
        ),
    }  # fmt: skip


def files() -> dict[Path, str]:
    """What the command writes."""
    made = {
        HERE / "workbook.json": workbook(),
        HERE / "alerts.json": alerts(),
        HERE / "web_tests.json": web_tests(),
    }
    return {path: json.dumps(content, indent=2) + "\n" for path, content in made.items()}


def main() -> None:
    """The command."""
    for path, text in files().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
