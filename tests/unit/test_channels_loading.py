"""`[[channels]]` in the policy file: what is taken, and what is refused by name."""

import tomllib

import pytest

from shared.config import REGISTRY_DIRECTORY
from shared.domain.channels import Channel, ChannelKind
from shared.stores.registry_files import RegistryError, load_registry, parse_policy

REGISTRY = load_registry(REGISTRY_DIRECTORY)
BASE = tomllib.loads((REGISTRY_DIRECTORY / "policy.toml").read_text())
WEBHOOK = {
    "name": "ops",
    "kind": "webhook",
    "tenants": ["tenant-a"],
    "url": "https://hooks.example/alerts",
    "signing_secrets": ["notify-hook-key-2", "notify-hook-key-1"],
}
TEAMS = {"name": "teams", "kind": "teams", "tenants": ["*"], "url_secret": "notify-teams-url"}
SLACK = {"name": "slack", "kind": "slack", "tenants": ["tenant-a", "tenant-b"], "url_secret": "notify-slack-url"}
EMAIL = {
    "name": "mail",
    "kind": "email",
    "tenants": ["tenant-a"],
    "sender": "router@alerts.example",
    "to": ["ops@example.com"],
    "endpoint": "https://contoso.communication.azure.com/",
}


def policy_with(*channels):
    return parse_policy({**BASE, "channels": list(channels)}, REGISTRY)


def test_every_kind_is_read():
    found = policy_with(WEBHOOK, TEAMS, SLACK, EMAIL).channels
    assert found["ops"] == Channel(
        "ops",
        ChannelKind.WEBHOOK,
        frozenset({"tenant-a"}),
        url="https://hooks.example/alerts",
        signing_secrets=("notify-hook-key-2", "notify-hook-key-1"),
    )
    assert found["teams"].url_secret == "notify-teams-url"
    assert found["slack"].tenants == {"tenant-a", "tenant-b"}
    assert found["mail"].endpoint == "https://contoso.communication.azure.com"
    assert found["mail"].to == ("ops@example.com",)


def test_a_policy_without_channels_has_none_and_keeps_its_version():
    assert parse_policy(BASE, REGISTRY).channels == {}
    assert parse_policy(BASE, REGISTRY).version != policy_with(WEBHOOK).version


def without(table, *keys):
    return {key: value for key, value in table.items() if key not in keys}


@pytest.mark.parametrize(
    ("channels", "problem"),
    [
        ([WEBHOOK, WEBHOOK], "channels[ops].name: is given more than once"),
        ([without(WEBHOOK, "tenants")], "channels[0].tenants"),
        ([WEBHOOK | {"tenants": []}], "channels[0].tenants"),
        ([WEBHOOK | {"tenants": ["*", "tenant-a"]}], "channels[ops].tenants"),
        ([WEBHOOK | {"kind": "pager"}], "channels[0].kind"),
        ([WEBHOOK | {"name": "Ops Team"}], "channels[0].name"),
        ([WEBHOOK | {"url": "ftp://hooks.example"}], "channels[0].url"),
        ([WEBHOOK | {"url": "https://hooks.example/a b"}], "channels[0].url"),
        ([WEBHOOK | {"url": "https://[::1"}], "channels[ops].url: is no address"),
        ([WEBHOOK | {"url": "https:///alerts"}], "channels[ops].url: names no host"),
        ([WEBHOOK | {"url": "https://user:word@hooks.example/"}], "channels[ops].url: holds credentials"),
        ([WEBHOOK | {"url_secret": "notify-hook-url"}], "channels[ops].url: give either url or url_secret"),
        ([without(WEBHOOK, "url")], "channels[ops].url: give either url or url_secret"),
        ([without(WEBHOOK, "signing_secrets")], "channels[ops].signing_secrets: is missing"),
        ([WEBHOOK | {"signing_secrets": ["notify-a", "notify-b", "notify-c"]}], "channels[0].signing_secrets"),
        ([WEBHOOK | {"signing_secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8="]}], "channels[0].signing_secrets[0]"),
        ([WEBHOOK | {"signing_secrets": ["router-signing-keys"]}], "channels[0].signing_secrets[0]"),
        ([TEAMS | {"url": "https://x.example"}], "channels[teams].url: a teams channel has none"),
        ([without(TEAMS, "url_secret")], "channels[teams].url_secret: is missing"),
        ([SLACK | {"url_secret": "https://hooks.slack.com/services/T/B/x"}], "channels[0].url_secret"),
        ([EMAIL | {"connection_secret": "notify-acs"}], "channels[mail].connection_secret: give either"),
        ([EMAIL | {"endpoint": "https://contoso.communication.azure.com/x"}], "channels[mail].endpoint"),
        ([EMAIL | {"endpoint": "http://contoso.communication.azure.com"}], "channels[mail].endpoint"),
        ([without(EMAIL, "to")], "channels[mail].to: is missing"),
        ([EMAIL | {"to": ["ops"]}], "channels[0].to[0]"),
        ([EMAIL | {"to": ["a@b.example\nbcc: c@d.example"]}], "channels[0].to[0]"),
        ([EMAIL | {"colour": "red"}], "channels[0].colour"),
    ],
)
def test_what_is_wrong_is_refused_by_name(channels, problem):
    with pytest.raises(RegistryError) as caught:
        policy_with(*channels)
    assert any(f"policy.toml: {problem}" in found for found in caught.value.problems), caught.value.problems


def test_a_refusal_quotes_no_value():
    with pytest.raises(RegistryError) as caught:
        policy_with(SLACK | {"url_secret": "https://hooks.slack.com/services/T/B/canary-4711"})
    assert "canary" not in str(caught.value)
