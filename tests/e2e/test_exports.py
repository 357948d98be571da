"""A routed request in a streamed file and in the file of a job, whose signed link anybody can read: the whole stack."""

import time
from typing import Any

import requests

_DEADLINE_S = 60.0


def test_a_request_is_in_the_stream_and_in_the_file_of_a_job(stack: Any) -> None:
    def call(method: str, path: str, **more: Any) -> requests.Response:
        return requests.request(method, f"{stack.base_url}/api/v1/{path}", timeout=30, **more)

    def until(done: Any) -> Any:
        give_up_at = time.monotonic() + _DEADLINE_S
        while True:
            found = done()
            if found:
                return found
            assert time.monotonic() < give_up_at
            time.sleep(0.1)

    asked = {"messages": [{"role": "user", "content": "Say hello."}], "tags": {"team": '=exports,"e2e"'}}
    answer = call("POST", "route", json=asked)
    assert answer.status_code == 200
    request_id = answer.headers["x-request-id"]

    def streamed() -> dict[str, Any] | None:
        response = call("GET", "admin/export?of=requests&format=jsonl")
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/jsonl"
        rows = [requests.models.complexjson.loads(line) for line in response.iter_lines()]
        return next((row for row in rows if row["id"] == request_id), None)

    row = until(streamed)
    assert row["tags"] == {"team": '=exports,"e2e"'}
    assert row["model_used"] == answer.headers["x-router-model"]
    assert row["cost_usd"] == float(answer.json()["cost_usd"])

    ordered = call("POST", "admin/export", json={"of": "requests", "columns": ["id", "tags"]})
    assert ordered.status_code == 202
    path = f"admin/export/{ordered.json()['id']}"
    job = until(lambda: next((job for job in [call("GET", path).json()] if job["state"] == "ready"), None))
    assert job["rows_written"] == job["rows_expected"] >= 1
    link = call("POST", f"{path}/link").json()["url"]
    file = requests.get(link, timeout=30)
    assert len(file.content) == job["size_bytes"]
    assert f'"{request_id}","{{""team"": ""=exports,\\""e2e\\""""}}"\r\n'.encode() in file.content

    assert call("DELETE", path).json()["state"] == "cancelled"
    assert requests.get(link, timeout=30).status_code == 404
    assert call("POST", f"{path}/link").status_code == 409
