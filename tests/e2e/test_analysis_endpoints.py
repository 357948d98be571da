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
    assert read["attachments"][0]["extension_mismatch"]
    assert read["prompt_tokens_by_publisher"]["google"] > 0
    assert read["prompt_tokens_by_tokenizer"]["gemma"]["media"] > 0
    assert read["required_capabilities"] == ["vision"]  # as declared: that is what a model is sent
    assert read["output_tokens"]["p10"] <= read["expected_output_tokens"] <= read["output_tokens"]["p90"]
    assert [(part["location"], part["kind"]) for part in read["content"]["parts"]] == [
        ("system", "prose"),
        ("messages[0].parts[0]", "prose"),
        ("messages[0].parts[1]", "pdf"),
    ]
    assert sum(read["content"]["shares"].values()) == pytest.approx(1, abs=0.01)
    assert sum(read["category_probabilities"].values()) == pytest.approx(1, abs=0.01)
    assert read["complexity_reasons"]


def test_analyze_tells_what_stands_where_and_what_headers_say(url):
    text = (
        "Why does this fail?\n\n```python\nprint(1 / 0)\n```\n\nname,age,town\nIda,3,Tartu\nOle,4,Bergen\nUna,5,Oslo\n"
    )
    png = base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x03\x20\0\0\x02\x58").decode()
    parts = [
        {"type": "text", "text": text},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png}"}},
    ]
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    body = {"messages": [{"role": "user", "content": parts}], "response_format": schema}
    read = requests.post(f"{url}/analyze", json=body, timeout=10).json()
    found = [(s["kind"], s["language"], text[s["start"] : s["end"]]) for s in read["content"]["parts"][0]["stretches"]]
    assert [kind for kind, _, _ in found] == ["prose", "code", "data"]
    assert found[1][1] == "python"
    assert "print(1 / 0)" in found[1][2]
    assert "Why" not in str(read)
    assert (read["attachments"][0]["width"], read["attachments"][0]["height"]) == (800, 600)
    assert set(read["required_capabilities"]) == {"vision", "json_schema"}


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
