"""What a careless or hostile caller sends over the wire, and what comes back."""

import json

import pytest
import requests

CANARY = "canary-9d1f-secret"


@pytest.fixture(scope="module")
def post(stack):
    session = requests.Session()

    def send(path, data, **headers):
        sent = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        return session.post(f"{stack.base_url}/api/v1/{path}", data=body, headers=sent, timeout=30)

    yield send
    session.close()


def user(text=CANARY):
    return {"messages": [{"role": "user", "content": text}]}


CASES = [
    ("malformed JSON", b'{"messages": [{"role": "user", "content": "' + CANARY.encode(), 400, "invalid_json", None),
    ("an array", b"[]", 400, None, None),
    ("nothing", b"", 400, "empty_body", None),
    ("wrong type", {**user(), "max_tokens": "many"}, 400, "invalid_request", "max_tokens"),
    ("negative max_tokens", {**user(), "max_tokens": -5}, 400, "invalid_request", "max_tokens"),
    ("unknown field", {**user(), "colour": CANARY}, 400, "unknown_field", "colour"),
    ("unknown model", {**user(), "model": "gpt-99"}, 404, "model_not_found", "model"),
    (
        "audio for a deaf model",
        {
            "model": "claude-haiku-5-5",
            "messages": [
                {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]}
            ],
        },
        400,
        "unsupported_feature",
        "messages",
    ),
    ("deep nesting", b'{"messages":' + b"[" * 5000 + b"]" * 5000 + b"}", 400, None, None),
    ("not UTF-8", b'{"messages":[{"role":"user","content":"\xff\xfe"}]}', 400, "invalid_json", None),
]


@pytest.mark.parametrize("path", ["chat/completions", "route"])
@pytest.mark.parametrize(("case", "data", "status", "code", "param"), CASES, ids=[row[0] for row in CASES])
def test_bad_input_is_refused_in_the_envelope_with_the_field_named(post, path, case, data, status, code, param):
    answer = post(path, data)
    error = answer.json()["error"]
    assert answer.status_code == status
    assert set(error) == {"message", "type", "code", "param", "request_id"}
    assert error["request_id"] == answer.headers["x-request-id"]
    assert code is None or error["code"] == code
    assert param is None or error["param"].startswith(param)
    assert CANARY not in answer.text
    assert "Traceback" not in answer.text


def test_thirty_megabytes_are_refused_unread(post):
    answer = post("chat/completions", b'{"messages":[{"role":"user","content":"' + b"x" * 30_000_000 + b'"}]}')
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


def test_forms_and_compressed_bodies_are_refused(post):
    assert post("route", b"a=b", content_type="application/x-www-form-urlencoded").status_code == 415
    assert post("route", user(), content_encoding="gzip").status_code == 415


def test_unknown_paths_are_404(stack):
    assert requests.get(f"{stack.base_url}/api/v1/nothing", timeout=10).status_code == 404


def test_no_content_reaches_the_logs(post, stack):
    assert post("route", {**user(), "dry_run": True}).status_code == 200
    assert post("route", user()).status_code == 200
    assert CANARY not in stack.app.log_path.read_text()


def test_security_headers_and_no_server_banner(post):
    answer = post("route", {**user("hi"), "dry_run": True})
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-router-development"] == "true"
    assert "server" not in {name.lower() for name in answer.headers}
