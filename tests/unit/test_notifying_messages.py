"""What leaves the router for each kind of channel, and how it is signed."""

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from shared.domain.channels import ChannelKind
from shared.domain.notifications import Occasion, Severity
from shared.providers.notifying.chat import slack_message, teams_message
from shared.providers.notifying.email import email_message, signed_headers
from shared.providers.notifying.outbound import address
from shared.providers.notifying.webhook import signature, signing_key, webhook_body, webhook_id
from shared.providers.notifying.wording import runbook, title
from tests.notification_builders import NOW, channel, notification

HOSTILE = "<!channel> **bold** [x](https://evil.example) & <script>alert(1)</script>\nline\t`code`"
TEXTS = st.text(max_size=3000)


def test_the_signature_is_that_of_the_specification():
    """The vector of the reference implementations' own test, `test_sign_function` in libraries/python."""
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(key=st.binary(min_size=24, max_size=64), body=st.binary(max_size=200), second=st.integers(0, 2**33))
def test_whoever_has_the_secret_can_check_the_signature(key, body, second):
    secret = f"whsec_{base64.b64encode(key).decode()}"
    version, _, mac = signature(signing_key(secret), "n-1", second, body).partition(",")
    expected = hmac.new(key, f"n-1.{second}.".encode() + body, hashlib.sha256).digest()
    assert (version, base64.b64decode(mac)) == ("v1", expected)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_not base64",
        base64.b64encode(bytes(23)).decode(),
        base64.b64encode(bytes(65)).decode(),
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
    ],
)
def test_a_key_that_is_none_is_refused_without_being_quoted(secret):
    with pytest.raises(ValueError) as caught:
        signing_key(secret)
    assert not secret or secret not in str(caught.value)


@given(st.text(min_size=1, max_size=300))
def test_an_id_on_the_wire_has_no_full_stop_and_nothing_a_header_refuses(name):
    sent = webhook_id(notification(id=name))
    assert sent.isascii()
    assert sent.replace("_", "").replace("-", "").isalnum() or set(sent) <= {"_", "-"}
    assert sent == webhook_id(notification(id=name))


def test_ids_that_are_replaced_stay_different():
    assert webhook_id(notification(id="a.b")) != webhook_id(notification(id="a.c"))
    assert webhook_id(notification(id="a-b")) == "a-b"


def test_the_webhooks_body_has_what_the_document_promises():
    assert webhook_body(notification(1, occasion=Occasion.RESOLVED, resolved_at=NOW)) == {
        "type": "alert.resolved",
        "timestamp": "2026-11-23T16:40:00+00:00",
        "version": 1,
        "data": {
            "notification_id": "n-1",
            "incident_id": "i-1",
            "tenant_id": "tenant-a",
            "rule_id": "r-1",
            "rule_name": "Too many errors",
            "severity": "critical",
            "summary": "The error rate of gemini-flash is 12% (threshold 5%).",
            "group": {"model": "gemini-flash"},
            "value": 0.12,
            "threshold": 0.05,
            "unit": "ratio",
            "runbook_url": "https://wiki.example/errors",
            "started_at": "2026-11-23T16:35:00+00:00",
            "resolved_at": "2026-11-23T16:40:00+00:00",
        },
    }


def test_a_card_for_teams_says_what_happened_in_its_colour():
    card = teams_message(notification())["attachments"][0]["content"]
    head, words, known = card["body"]
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    assert head["color"] == "attention"
    assert "12%" in words["text"]
    assert {"title": "model", "value": "gemini\\-flash"} in known["facts"]
    assert card["actions"][0]["url"] == "https://wiki.example/errors"
    resolved = teams_message(notification(occasion=Occasion.RESOLVED, resolved_at=NOW))
    assert resolved["attachments"][0]["content"]["body"][0]["color"] == "good"


def test_blocks_for_slack_have_a_text_for_where_they_are_not_shown():
    message = slack_message(notification())
    header, words, fields = message["blocks"]
    assert message["text"].startswith("[critical] Too many errors firing: ")
    assert header["text"]["text"] == title(notification())
    assert words["text"]["text"].endswith("<https://wiki.example/errors|Runbook>")
    assert {"type": "mrkdwn", "text": "*threshold*\n0.05 ratio"} in fields["fields"]


def test_markup_in_what_came_from_elsewhere_does_nothing():
    told = notification(summary=HOSTILE, rule_name=HOSTILE, group={HOSTILE: HOSTILE}, runbook_url="javascript:x")
    slack = json.dumps(slack_message(told)["blocks"][1:])
    assert "<" not in slack
    card = json.dumps(teams_message(told))
    assert "[x](" not in card
    assert "actions" not in card
    html = email_message(channel(ChannelKind.EMAIL), told)["content"]["html"]
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "\n" not in email_message(channel(ChannelKind.EMAIL), told)["content"]["subject"]


@given(summary=TEXTS, rule_name=TEXTS, group=st.dictionaries(TEXTS, TEXTS, max_size=20), unit=st.text(max_size=500))
def test_every_message_keeps_to_its_channels_limits(summary, rule_name, group, unit):
    told = notification(
        summary=summary, rule_name=rule_name, group=group, unit=unit, runbook_url="https://w.example/?a&b"
    )
    slack = slack_message(told)
    header, words, fields = slack["blocks"]
    assert 1 <= len(header["text"]["text"]) <= 150
    assert 1 <= len(words["text"]["text"]) <= 3000
    assert 1 <= len(fields["fields"]) <= 10
    assert all(1 <= len(field["text"]) <= 2000 for field in fields["fields"])
    assert len(json.dumps(teams_message(told), ensure_ascii=False).encode(errors="replace")) <= 28_000
    assert "\n" not in title(told)


@pytest.mark.parametrize(
    "url", ["", "javascript:alert(1)", "https://a b", 'https://a"b', "https://a>b|c", "ftp://a", "https://" + "a" * 500]
)
def test_a_runbook_that_is_no_plain_address_is_left_out(url):
    assert runbook(notification(runbook_url=url)) is None


def test_an_e_mail_is_text_and_html():
    message = email_message(channel(ChannelKind.EMAIL), replace(notification(), severity=Severity.WARNING))
    assert message["senderAddress"] == "router@alerts.example"
    assert message["recipients"] == {"to": [{"address": "ops@example.com"}]}
    assert message["content"]["subject"] == "[warning] Too many errors firing"
    assert "threshold: 0.05 ratio" in message["content"]["plainText"]
    assert "https://wiki.example/errors" in message["content"]["html"]


def test_requests_for_e_mail_are_signed_as_the_vendors_own_client_signs_them():
    """What `HMACCredentialsPolicy` of azure-communication-email 1.1.0 makes of this request."""
    url = URL("https://contoso.communication.azure.com/emails:send?api-version=2023-03-31", encoded=True)
    assert signed_headers(bytes(range(32)), "POST", url, b'{"a":1}', NOW) == {
        "x-ms-date": "Mon, 23 Nov 2026 16:40:00 GMT",
        "x-ms-content-sha256": "AVq9f1zFei3ZS3WQ8ErYCEJzkF7jPsXOvq5iJ2qX+GI=",
        "authorization": "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=1xg57XqpcvKc5q0R0fpQih5x/zO3eoOey0ddBeD2tHg=",
    }


@pytest.mark.parametrize(
    "text", ["https://a\r\nx: y", "https://a b", "https://ä.example", "https://[", "https://a\x00"]
)
def test_a_secret_that_cannot_be_an_address_is_none(text):
    assert address(text) is None


def test_an_address_goes_out_as_it_was_written():
    text = "https://prod.logic.example/workflows/1/triggers/manual/paths/invoke?sp=%2Ftriggers%2Fmanual&sig=a-b_c"
    assert str(address(f"  {text}\n")) == text


def test_times_in_another_zone_are_signed_in_gmt():
    url = URL("https://contoso.communication.azure.com/x", encoded=True)
    elsewhere = NOW.astimezone(timezone(timedelta(hours=2)))
    assert signed_headers(b"k", "GET", url, b"", elsewhere) == signed_headers(b"k", "GET", url, b"", NOW)
