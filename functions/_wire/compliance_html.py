"""The compliance report as a page to print: no script, no resource from anywhere, and everything escaped."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from html import escape
from typing import Any

_STYLE = (
    "body{font:11pt/1.4 sans-serif;margin:2rem auto;max-width:60rem;color:#111}"
    "h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:1.6rem;border-bottom:1px solid #888}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.2rem .6rem .2rem 0;"
    "border-bottom:1px solid #ddd;overflow-wrap:anywhere}.missing{color:#a00}"
    "@media print{body{margin:0;max-width:none}h2{break-after:avoid}tr{break-inside:avoid}}"
)
HTML = "text/html"
HTML_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'sha256-"
    + base64.b64encode(sha256(_STYLE.encode()).digest()).decode()
    + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
"""The one style of the page is allowed by its hash, and nothing else is."""
_MISSING = '<p class="missing">This section could not be had: a store did not answer. Ask again.</p>'


def report_html(body: Mapping[str, Any]) -> bytes:
    """The page of a report (`functions._wire.compliance.report_body`)."""
    retention = body["retention"]
    sections = (
        ("Access", _access(body["access"])),
        ("Encryption", _table(("topic", "statement", "known_by", "protected"), body["encryption"])),
        (
            "Retention",
            _pairs(retention, ("records_months", "audit_months", "events_months", "enforced")) + _due(retention),
        ),
        ("Incidents", _incidents(body["incidents"])),
        ("Audit trail", _audit(body["audit"])),
        ("Erasures", _erasures(body["erasures"])),
        ("What the router cannot know", _list(body["not_known_here"])),
    )
    title = f"Compliance report of {_text(body['tenant_id'])}"
    parts = "".join(f"<h2>{name}</h2>{content}" for name, content in sections)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"</head><body><h1>{title}</h1>{_pairs(body, ('since', 'until', 'made_at'))}{parts}</body></html>"
    )
    return page.encode(errors="replace")


def _access(seen: Sequence[Mapping[str, Any]] | None) -> str:
    if seen is None:
        return _MISSING
    columns = ("principal_id", "service", "roles", "networks", "first_at", "last_at", "requests")
    return "<p>Principals that called in this time, and what they may do.</p>" + _table(columns, seen)


def _due(retention: Mapping[str, Any]) -> str:
    if retention["due"] is None:
        return _MISSING
    return _table(("class", "what", "rows"), retention["due"]) if retention["due"] else "<p>Nothing is due.</p>"


def _incidents(incidents: Mapping[str, Any] | None) -> str:
    if incidents is None:
        return _MISSING
    events = [{"event": kind, "count": count} for kind, count in incidents["events"].items()]
    counted = [{"state": state, **by_severity} for state, by_severity in incidents["findings"].items()]
    columns = ("rule", "severity", "subject", "state", "first_at", "last_at", "value", "threshold", "note")
    return (
        _table(("event", "count"), events)
        + _table(("state", "low", "medium", "high", "critical"), counted)
        + "<p>Findings that are not resolved:</p>"
        + _table(columns, incidents["not_resolved"])
    )


def _audit(audit: Mapping[str, Any] | None) -> str:
    if audit is None:
        return _MISSING
    verdict = "intact" if audit["intact"] else "broken"
    rows = f"{audit['rows']} rows, {audit['erased']} of them erased,"
    text = f"<p>{audit['chains']} chains with {rows} were walked: <strong>{verdict}</strong>.</p>"
    return text + (_table(("chain", "sequence", "reason"), audit["faults"]) if audit["faults"] else "")


def _erasures(erasures: Sequence[Mapping[str, Any]] | None) -> str:
    if erasures is None:
        return _MISSING
    return _table(("id", "subject_kind", "state", "requested_at", "completed_at", "certificate_sha256"), erasures)


def _table(columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> str:
    names = tuple(columns)
    head = "".join(f"<th>{_text(name.replace('_', ' '))}</th>" for name in names)
    lines = "".join("<tr>" + "".join(f"<td>{_text(row[name])}</td>" for name in names) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _pairs(values: Mapping[str, Any], names: Iterable[str]) -> str:
    return _table(("what", "value"), [{"what": name.replace("_", " "), "value": values[name]} for name in names])


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{_text(item)}</li>" for item in items) + "</ul>"


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return _text(", ".join(map(str, value)))
    return escape(str(value))
