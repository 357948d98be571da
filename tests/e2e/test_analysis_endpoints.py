"""POST /analyze, POST /classify, GET /categories over HTTP."""

import base64

import pytest
import requests

PDF = base64.b64encode(b"%PDF-1.7\n1 0 obj\n").decode()


@pytest.fixture(scope="module")
def url(stack):
    return f"{stack.base_url}/api/v1"


def test_analyze_reads_content_attachments_needs_and_findings(url):
    body = {
        "messages": [
            {"role": "system", "content": "You are careful."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Summarise this contract for jane.doe@contoso.com please."},
                    {"type": "file", "file": {"file_data": f"data:image/png;base64,{PDF}", "filename": "x.png"}},
                ],
            },
        ],
        "tools": [{"type": "function", "function": {"name": "look_up"}}],
        "tool_choice": "none",
    }
    read = requests.post(f"{url}/analyze", json=body, timeout=10).json()
    assert read["category"] == "summarization"
    assert read["security_level"] == "confidential"
    assert [f["kind"] for f in read["findings"]] == ["email"]
    assert "contoso" not in str(read)
    assert read["attachments"][0]["detected_type"] == "application/pdf"
    assert read["attachments"][0]["mismatch"]
    assert read["prompt_tokens_by_publisher"]["google"] > 0
    assert sum(read["category_probabilities"].values()) == pytest.approx(1, abs=0.01)
    assert read["complexity_reasons"]


def test_a_declared_label_raises_the_level(url):
    read = requests.post(f"{url}/analyze", json={"prompt": "hi", "security_label": "restricted"}, timeout=10).json()
    assert read["security_level"] == "restricted"


def test_classify_and_the_taxonomy_agree(url):
    read = requests.post(f"{url}/classify", json={"prompt": "Translate to German: good morning"}, timeout=10).json()
    known = {c["id"] for c in requests.get(f"{url}/categories", timeout=10).json()["categories"]}
    assert read["category"] == "translation"
    assert set(read["probabilities"]) <= known


def test_bad_bodies_name_the_field(url):
    answer = requests.post(f"{url}/analyze", json={"prompt": 5}, timeout=10)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt")
    answer = requests.post(f"{url}/classify", json={}, timeout=10)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")
