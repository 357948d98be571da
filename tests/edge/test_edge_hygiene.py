"""Hostile input: refused by name, quickly, and never a defect."""

import base64
import io
import json
import zipfile

import pytest

from functions._wire.chat import MAX_PARTS
from functions._wire.to_domain import MAX_PARTS_IN_ALL
from shared.analysis.archive_ratio import is_bomb
from shared.domain.policy import ServicePolicy
from shared.domain.security import GuardRules
from tests.edge.edge_harness import CHAT, PROVED

ROOMY = {"ROUTER_MAX_BODY_BYTES": str(8 * 2**20)}
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def chat(content, **more):
    return {"model": "a", "messages": [{"role": "user", "content": content}], **more}


def image(url):
    return chat([{"type": "image_url", "image_url": {"url": url}}])


def document(data, name="a.docx"):
    return chat([{"type": "file", "file": {"filename": name, "file_data": f"data:{DOCX};base64,{data}"}}])


def called(call_id, arguments="{}"):
    call = {"id": call_id, "type": "function", "function": {"name": "f", "arguments": arguments}}
    return {"model": "a", "messages": [*CHAT["messages"], {"role": "assistant", "tool_calls": [call]}]}


def archive(size):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("[Content_Types].xml", "<x/>")
        with zipped.open("word/document.xml", "w") as part:
            for _ in range(size // 2**20):
                part.write(b" " * 2**20)
    return buffer.getvalue()


BOMB = archive(120 * 2**20)
TEXT = {"type": "text", "text": "x"}
RAW = b'{"model":"a","messages":[{"role":"user","content":"%s"}]%s}'

REFUSED = {
    "deep brackets": (b"[" * 100_000 + b"]" * 100_000, "invalid_json", None),
    "a deep schema": (
        RAW % (b"x", b',"tools":[{"type":"function","function":{"name":"f","parameters":' + b'{"a":' * 5000 + b"1" + b"}" * 5005),
        "invalid_json", None,
    ),
    "half a surrogate pair": (RAW % (b"\\ud800 x", b""), "invalid_json", None),
    "bytes that are no UTF-8": (RAW % (b"\xff", b""), "invalid_json", None),
    "a huge number": (RAW % (b"x", b',"seed":' + b"9" * 5000), "invalid_json", None),
    "NaN": (RAW % (b"x", b',"temperature":NaN'), "invalid_request", "temperature"),
    "very many parts": (chat([TEXT] * (MAX_PARTS + 1)), "invalid_request", "messages[0].content"),
    "many messages of many parts": (
        {"model": "a", "messages": [{"role": "user", "content": [TEXT] * 1000}] * (MAX_PARTS_IN_ALL // 1000 + 1)},
        "invalid_request", "messages",
    ),
    "very many messages": ({"model": "a", "messages": CHAT["messages"] * 5000}, "invalid_request", "messages"),
    "very many tags": (chat("x", metadata={str(n): "v" for n in range(17)}), "invalid_request", "metadata"),
    "a line end in a tag": (chat("x", metadata={"team": "a\r\nlevel=ERROR"}), "invalid_request", "metadata.team"),
    "an escape in a tag": (chat("x", router={"tags": {"team": "\x1b[2J"}}), "invalid_request", "router.tags.team"),
    "a line end in a model's name": (chat("x") | {"model": "a\r\nx-admin: 1"}, "invalid_request", "model"),
    "a long model's name": (chat("x") | {"model": "a" * 300}, "invalid_request", "model"),
    "a line end in a call's id": (called("c\n1"), "invalid_request", "messages[1].tool_calls[0].id"),
    "a path with a NUL as a file's name": (document("UEs=", "../\0a.docx"), "invalid_request", "messages[0].content[0].file.filename"),
    "a long stop word": (chat("x", stop=["y" * 2000]), "invalid_request", "stop[0]"),
    "a zip bomb": (document(base64.b64encode(BOMB).decode()), "archive_bomb", "messages[0].content[0].file.file_data"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
async def test_refused_by_name(build_edge, case):
    body, code, param = REFUSED[case]
    edge = build_edge(environ=ROOMY)
    answer = await edge.post("chat/completions", body)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, code, param)
    assert edge.provider.calls == []


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x.png", "file:///etc/passwd", "ftp://example.com/x", "javascript:alert(1)", "//example.com/x",
        "https://user:pw@example.com/x", "https://example.com:22/x", "https://[::1]/x", "https:///x", "https://exa mple.com/",
        "https://example.com\r\nx: y", "https://example.com\\@evil.example/", "https://exämple.com/x", "gs:///x",
        "https://example.com/" + "a" * 5000,
    ],
)  # fmt: skip
async def test_urls_that_could_be_read_in_two_ways(build_edge, url):
    answer = await build_edge(environ=ROOMY).post("chat/completions", image(url))
    assert (answer.status, answer.error["param"]) == (400, "messages[0].content[0].image_url.url")


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://cdn.acme.example/x.png", True),
        ("https://CDN.acme.example:443/x.png", True),
        ("https://img.pictures.example/x", True),
        ("https://pictures.example/x", False),
        ("https://evilcdn.acme.example/x", False),
        ("https://cdn.acme.example.evil.example/x", False),
        ("https://169.254.169.254/latest/meta-data", False),
        ("https://metadata.google.internal/x", False),
        ("https://localhost/x", False),
        ("https://2130706433/x", False),
        ("gs://bucket/x.png", True),
    ],
)
async def test_media_come_from_listed_hosts_only(build_edge, url, allowed):
    guard = GuardRules(media_hosts=frozenset({"cdn.acme.example", "*.pictures.example"}))
    edge = build_edge(rules={"default_service": ServicePolicy(guard=guard)})
    error = (await edge.post("chat/completions", image(url))).error
    # The model of these tests takes no media by URI, which is the next thing to be said of those that may pass.
    assert error["code"] == ("unsupported_feature" if allowed else "media_host_not_allowed")
    if not allowed:
        assert error["param"] == "messages[0].content[0]"


async def test_no_host_is_listed_by_default(edge):
    answer = await edge.post("chat/completions", image("https://example.com/x.png"))
    assert answer.error["code"] == "media_host_not_allowed"


@pytest.mark.parametrize(
    "text", ["a\0b", "\x1b[31mred\x07", "\u202eabc", "x\r\n\r\nHTTP/1.1 200 OK", "%0d%0aset-cookie: a=b"]
)
async def test_strange_characters_in_content_are_content(build_edge, text):
    """A prompt may hold terminal output or a binary's strings; it reaches nothing that would read them as more."""
    edge = build_edge()
    answer = await edge.post("chat/completions", chat(text))
    assert answer.status == 200
    assert edge.provider.calls[0].request.messages[0].text() == text
    assert "\r\n" not in f"{answer.headers}"
    (record,) = await edge.records()
    assert text not in f"{record}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("traceparent", "00-\x1b[2J-\x00"), ("idempotency-key", "a\x01b"), ("x-router-cache", "on\tor off"),
        ("user-agent", "x" * 20_000), ("x-forwarded-for", "'; DROP TABLE requests; --"), ("x-request-id", "${jndi:ldap://x}"),
    ],
)  # fmt: skip
async def test_hostile_headers_are_no_defect(build_edge, name, value):
    edge = build_edge()
    answer = await edge.post("chat/completions", CHAT, {**PROVED, name: value})
    assert answer.status in {200, 400}
    assert value not in json.dumps(answer.headers)


def test_what_is_a_bomb_and_what_is_not():
    assert is_bomb(BOMB)
    assert not is_bomb(archive(20 * 2**20)), "small enough for anybody"
    assert not is_bomb(b"PK\x03\x04")
    assert not is_bomb(BOMB[: len(BOMB) // 2]), "no directory, so no office file"
    assert not is_bomb(b"%PDF-1.7" + BOMB)
