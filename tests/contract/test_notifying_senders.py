"""Channels against real HTTP receivers: what they get, and what becomes of every way in which they fail."""

import asyncio
import base64
import hashlib
import hmac
import json
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from shared.domain.channels import ChannelKind
from shared.domain.deliveries import TAKEN, Outcome, OutcomeKind
from shared.providers.notifying.addresses import AddressGuard
from shared.providers.notifying.chat import ChatSender, slack_message, teams_message
from shared.providers.notifying.email import EmailSender
from shared.providers.notifying.outbound import Outbound
from shared.providers.notifying.webhook import WebhookSender
from shared.stores.memory import ManualClock
from tests import azure_wire
from tests.notification_builders import NOW, SIGNING, StaticSecrets, channel, delivery, notification

LOCAL = AddressGuard(permits_all=True)


@pytest.fixture
async def outbound():
    outbound = Outbound(ManualClock(NOW), LOCAL, permits_plain=True, total_s=2.0)
    yield outbound
    await outbound.aclose()


class Receiver:
    """Keeps what comes, and answers as it is told."""

    def __init__(self, *answers):
        self.answers, self.got = list(answers), []

    async def answer(self, request):
        self.got.append((request, await request.read()))
        return self.answers.pop(0) if self.answers else web.Response()


def serving(receiver):
    return azure_wire.serving(receiver.answer)


@asynccontextmanager
async def talking(handle):
    """The address of a server that does what it likes with a connection."""

    async def serve(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            await handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    finally:
        server.close()


def webhook(outbound, url, **secrets):
    known = {"hook_url": url, "key_new": SIGNING[0], "key_old": SIGNING[1]} | secrets
    return WebhookSender(outbound, StaticSecrets(**known), ManualClock(NOW))


async def posted(outbound, url, sent=None):
    return await webhook(outbound, url).send(channel(), sent or delivery())


def is_signed_with(secret, request, body):
    """A check written from the specification, apart from the sender's code."""
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + body
    mac = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    entries = [entry.split(",", 1) for entry in request.headers["webhook-signature"].split(" ")]
    return any(version == "v1" and base64.b64decode(value) == mac for version, value in entries)


async def test_a_webhook_is_signed_by_both_keys_and_its_id_stays(outbound):
    receiver = Receiver()
    async with serving(receiver) as url:
        assert await posted(outbound, f"{url}/hook?x=%2F") == TAKEN
        assert await posted(outbound, f"{url}/hook", delivery(attempts=2)) == TAKEN
    (request, body), (again, _) = receiver.got
    assert request.path_qs == "/hook?x=%2F"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    assert all(is_signed_with(secret, request, body) for secret in SIGNING)
    assert not is_signed_with(SIGNING[0], request, body + b" ")
    assert request.headers["webhook-id"] == again.headers["webhook-id"] == "n-1"
    assert json.loads(body)["type"] == "alert.firing"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, OutcomeKind.TAKEN),
        (202, OutcomeKind.TAKEN),
        (204, OutcomeKind.TAKEN),
        (400, OutcomeKind.REFUSED),
        (401, OutcomeKind.FAILED),
        (404, OutcomeKind.FAILED),
        (410, OutcomeKind.REFUSED),
        (413, OutcomeKind.REFUSED),
        (422, OutcomeKind.REFUSED),
        (429, OutcomeKind.FAILED),
        (500, OutcomeKind.FAILED),
        (503, OutcomeKind.FAILED),
    ],
)
async def test_what_a_status_means(outbound, status, kind):
    async with serving(Receiver(web.Response(status=status))) as url:
        outcome = await posted(outbound, url)
    assert outcome.kind is kind
    assert outcome.code == ("" if kind is OutcomeKind.TAKEN else f"http_{status}")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("Mon, 23 Nov 2026 16:42:00 GMT", 120.0), ("Mon, 23 Nov 2020 16:42:00 GMT", 0.0), ("soon", None)],
)
async def test_the_receiver_says_when_to_come_back(outbound, value, seconds):
    async with serving(Receiver(web.Response(status=429, headers={"retry-after": value}))) as url:
        assert (await posted(outbound, url)).retry_after_s == seconds


async def test_redirects_are_not_followed(outbound):
    elsewhere = Receiver()
    moved = Receiver(web.Response(status=307))
    async with serving(elsewhere) as other, serving(moved) as url:
        moved.answers[0].headers["location"] = other
        assert await posted(outbound, url) == Outcome(OutcomeKind.FAILED, "http_307")
    assert elsewhere.got == []


async def _silent(reader, _writer):
    while await reader.read(1000):
        """Until the sender has hung up."""


async def _dripping(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    await _silent(reader, writer)


async def test_a_receiver_that_hangs_or_drips_is_given_up(outbound):
    for behaviour in (_silent, _dripping):
        quick = Outbound(ManualClock(NOW), LOCAL, permits_plain=True, total_s=0.5)
        async with talking(behaviour) as url:
            assert await posted(quick, url) == Outcome(OutcomeKind.FAILED, "timeout")
        await quick.aclose()


async def _reset(_reader, writer):
    writer.transport.abort()


async def _garbage(_reader, writer):
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    await writer.drain()


async def _long_header(_reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000 + b"\r\n\r\n")
    await writer.drain()


@pytest.mark.parametrize("behaviour", [_reset, _garbage, _long_header])
async def test_a_connection_that_breaks_is_a_failure(outbound, behaviour):
    async with talking(behaviour) as url:
        assert (await posted(outbound, url)).kind is OutcomeKind.FAILED


async def test_of_a_huge_answer_only_the_beginning_is_read(outbound):
    sent = 0

    async def huge(_reader, writer):
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x" * 1_000_000)
            await writer.drain()
            sent += 1

    async with talking(huge) as url:
        assert await posted(outbound, url) == TAKEN
    assert sent < 100


async def test_nobody_listens(outbound):
    async with serving(Receiver()) as url:
        pass
    assert await posted(outbound, url) == Outcome(OutcomeKind.FAILED, "no_connection")


async def test_in_production_only_https_goes_out(outbound):
    strict = Outbound(ManualClock(NOW), LOCAL)
    receiver = Receiver()
    async with serving(receiver) as url:
        assert await posted(strict, url) == Outcome(OutcomeKind.REFUSED, "address_not_https")
        assert await posted(strict, url.replace("http", "https")) == Outcome(OutcomeKind.FAILED, "tls_failed")
    assert await posted(strict, "file:///etc/passwd") == Outcome(OutcomeKind.REFUSED, "address_not_https")
    assert receiver.got == []
    await strict.aclose()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.1", "2130706433", "[::ffff:127.0.0.1]", "0"])
async def test_no_way_of_writing_it_reaches_the_inside(host):
    guarded = Outbound(ManualClock(NOW), AddressGuard(), permits_plain=True, total_s=5.0)
    receiver = Receiver()
    async with serving(receiver) as url:
        outcome = await posted(guarded, f"http://{host}:{url.rpartition(':')[2]}/hook")
    await guarded.aclose()
    # The shorthands of an address are refused as hosts already.
    expected = "connection_broken" if host.replace(".", "").isdigit() and host != "127.0.0.1" else "address_forbidden"
    assert outcome.code == expected
    assert receiver.got == []


async def test_a_name_that_cannot_be_one_is_a_failure(outbound):
    for url in ("http://a..b/", f"http://{'a' * 300}.example/", "http://x.invalid/", "http:///x"):
        assert (await posted(outbound, url)).kind in (OutcomeKind.FAILED, OutcomeKind.REFUSED)


@pytest.mark.parametrize(
    ("secrets", "code"),
    [
        ({"hook_url": None}, "secret_missing"),
        ({"key_old": None}, "secret_missing"),
        ({"key_new": "short"}, "secret_unusable"),
        ({"hook_url": "http://a\r\nx: y"}, "secret_unusable"),
    ],
)
async def test_without_a_usable_secret_nothing_is_sent_and_it_is_tried_again(outbound, secrets, code):
    receiver = Receiver()
    async with serving(receiver) as url:
        sender = webhook(outbound, url, **secrets)
        assert await sender.send(channel(), delivery()) == Outcome(OutcomeKind.FAILED, code)
    assert receiver.got == []


@pytest.mark.parametrize(
    ("kind", "compose", "key"),
    [(ChannelKind.TEAMS, teams_message, "attachments"), (ChannelKind.SLACK, slack_message, "blocks")],
)
async def test_chats_get_their_form(outbound, kind, compose, key):
    receiver = Receiver(web.Response(status=202), web.Response(status=410, text="channel_is_archived"))
    async with serving(receiver) as url:
        sender = ChatSender(outbound, StaticSecrets(hook_url=f"{url}/services/secret"), compose)
        assert await sender.send(channel(kind), delivery()) == TAKEN
        assert await sender.send(channel(kind), delivery()) == Outcome(OutcomeKind.REFUSED, "http_410")
    assert key in json.loads(receiver.got[0][1])
    assert receiver.got[0][0].path == "/services/secret"
    missing = ChatSender(outbound, StaticSecrets(), compose)
    assert await missing.send(channel(kind), delivery()) == Outcome(OutcomeKind.FAILED, "secret_missing")


class EmailService:
    """Azure Communication Services at the wire: it checks the signature and remembers operations."""

    KEY = bytes(range(32))

    def __init__(self, *statuses):
        self.statuses = list(statuses)
        self.operations, self.messages = {}, []

    async def answer(self, request):
        body = await request.read()
        if not self._is_signed(request, body):
            return web.json_response({"error": {"code": "Denied"}}, status=401)
        if request.method == "GET":
            operation = request.path.rpartition("/")[2]
            if operation not in self.operations:
                return web.json_response({"error": {"code": "NotFound"}}, status=404)
            return web.json_response({"id": operation, "status": self._status(operation)})
        operation = request.headers["operation-id"]
        self.messages.append(json.loads(body))
        self.operations[operation] = "Running"
        return web.json_response({"id": operation, "status": self._status(operation)}, status=202)

    def _status(self, operation):
        if self.statuses:
            self.operations[operation] = self.statuses.pop(0)
        return self.operations[operation]

    def _is_signed(self, request, body):
        if request.headers.get("authorization") == "Bearer token":
            return True
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        text = f"{request.method}\n{request.raw_path}\n{request.headers['x-ms-date']};{request.host};{digest}"
        mac = base64.b64encode(hmac.new(self.KEY, text.encode(), hashlib.sha256).digest()).decode()
        return request.headers["authorization"].endswith(f"&Signature={mac}")


def mail(outbound, url, key=EmailService.KEY):
    secret = f"endpoint={url}/;accesskey={base64.b64encode(key).decode()}"
    return EmailSender(outbound, StaticSecrets(acs=secret), ManualClock(NOW), None)


EMAIL = channel(ChannelKind.EMAIL)


async def test_an_e_mail_is_taken_when_the_service_says_that_it_was_sent(outbound):
    service = EmailService("Running", "Running", "Succeeded")
    async with serving(service) as url:
        outcomes = [await mail(outbound, url).send(EMAIL, delivery(attempts=n)) for n in (1, 2, 3)]
    assert [outcome.kind for outcome in outcomes] == [OutcomeKind.UNDER_WAY, OutcomeKind.UNDER_WAY, OutcomeKind.TAKEN]
    assert len(service.messages) == 1
    assert service.messages[0]["recipients"] == {"to": [{"address": "ops@example.com"}]}


async def test_an_attempt_after_a_crash_asks_before_it_sends_again(outbound):
    service = EmailService()
    async with serving(service) as url:
        await mail(outbound, url).send(EMAIL, delivery(attempts=1))
        service.statuses = ["Succeeded"]
        assert await mail(outbound, url).send(EMAIL, delivery(attempts=2)) == TAKEN
        # The first attempt never arrived: now it is sent.
        await mail(outbound, url).send(EMAIL, delivery(notification(2), attempts=2))
    assert len(service.messages) == 2


async def test_an_e_mail_that_failed_at_the_service_is_refused_and_an_admins_retry_is_a_new_operation(outbound):
    service = EmailService("Failed")
    async with serving(service) as url:
        refused = await mail(outbound, url).send(EMAIL, delivery(attempts=1))
        assert refused == Outcome(OutcomeKind.REFUSED, "email_failed")
        service.statuses = ["Succeeded"]
        assert await mail(outbound, url).send(EMAIL, delivery(attempts=2, attempts_before=1)) == TAKEN
    assert len(service.operations) == len(service.messages) == 2


async def test_a_wrong_key_a_wrong_secret_and_an_unreadable_answer_are_failures(outbound):
    async with serving(EmailService()) as url:
        assert (await mail(outbound, url, b"wrong").send(EMAIL, delivery())).code == "http_401"
    for body in (b"", b"[]", b'{"status": {}}', b"\xff"):
        async with serving(Receiver(web.Response(body=body))) as url:
            assert await mail(outbound, url).send(EMAIL, delivery()) != TAKEN
    for secret in ("", "endpoint=https://a.example", "accesskey=AAAA", "endpoint=https://a.example;accesskey=*"):
        sender = EmailSender(outbound, StaticSecrets(acs=secret), ManualClock(NOW), None)
        assert (await sender.send(EMAIL, delivery())).code == "secret_unusable"
    sender = EmailSender(outbound, StaticSecrets(), ManualClock(NOW), None)
    assert (await sender.send(EMAIL, delivery())).code == "secret_missing"


class Tokens:
    async def token(self):
        return "token"


async def test_the_apps_identity_sends_where_an_endpoint_is_named(outbound):
    service = EmailService("Succeeded")
    async with serving(service) as url:
        named = channel(ChannelKind.EMAIL, connection_secret="", endpoint=url)
        assert await EmailSender(outbound, StaticSecrets(), ManualClock(NOW), Tokens()).send(named, delivery()) == TAKEN
        alone = await EmailSender(outbound, StaticSecrets(), ManualClock(NOW), None).send(named, delivery())
    assert alone == Outcome(OutcomeKind.FAILED, "no_identity")
