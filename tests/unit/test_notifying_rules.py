"""Pauses and ends of delivery, the addresses that are permitted, and secrets by name."""

import ipaddress
import random
from dataclasses import replace
from datetime import timedelta

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.deliveries import DeliveryRules
from shared.domain.errors import DependencyUnavailable
from shared.providers.notifying.addresses import AddressGuard
from shared.security.secrets import FileSecrets, KeyVaultSecrets
from shared.stores.memory import ManualClock
from tests.notification_builders import NOW, channel, delivery

RULES = DeliveryRules()


@given(tries=st.integers(1, 10_000), asked=st.none() | st.floats(-10, 1e12), seed=st.integers())
def test_a_pause_grows_up_to_its_end_and_obeys_the_receiver_as_far(tries, asked, seed):
    pause_s = RULES.pause_s(tries, asked, random.Random(seed))
    longest_s = min(3600.0, 10.0 * 2 ** min(tries - 1, 20))
    assert pause_s >= longest_s / 2
    assert pause_s >= min(asked or 0.0, 3600.0)
    assert pause_s <= max(longest_s / 2, min(asked or 0.0, 3600.0)) + longest_s / 2


def test_what_failed_together_does_not_come_back_together():
    rng = random.Random(1)
    assert len({RULES.pause_s(3, None, rng) for _ in range(100)}) == 100


def test_with_the_defaults_it_is_tried_for_hours():
    rng = random.Random(1)
    assert 3 * 3600 < sum(RULES.pause_s(tries, None, rng) for tries in range(1, RULES.most_tries)) < 8 * 3600


def test_it_is_dead_after_so_many_attempts_or_so_long():
    assert not RULES.is_dead(delivery(attempts=14), NOW)
    assert RULES.is_dead(delivery(attempts=15), NOW)
    assert not RULES.is_dead(delivery(attempts=20, attempts_before=15), NOW)
    assert RULES.is_dead(delivery(attempts=1), NOW + timedelta(days=1))


PUBLIC = ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
INSIDE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "168.63.129.16",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104 - refused, not bound
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fd00::1",
    "ff02::1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:168.63.129.16",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
    "127.1",
    "2130706433",
    "localhost",
    "",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_permitted(address):
    assert AddressGuard().permits(address)


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_inside_and_what_is_none_are_not(address):
    assert not AddressGuard().permits(address)


def test_a_network_that_is_named_is_permitted_and_no_other():
    guard = AddressGuard([ipaddress.ip_network("10.20.0.0/16"), ipaddress.ip_network("fd12::/32")])
    assert guard.permits("10.20.3.4")
    assert guard.permits("fd12::7")
    assert not guard.permits("10.21.0.1")
    assert not guard.permits("169.254.169.254")


@given(st.ip_addresses(v=4))
def test_an_address_is_as_permitted_behind_a_translator_as_it_is_itself(address):
    guard = AddressGuard()
    mapped = f"64:ff9b::{int(address) >> 16:x}:{int(address) & 0xFFFF:x}"
    assert guard.permits(mapped) == guard.permits(str(address)) == guard.permits(f"::ffff:{address}")


def test_a_channel_serves_the_tenants_it_names():
    assert channel().serves("tenant-a")
    assert not channel().serves("tenant-b")
    assert replace(channel(), tenants=frozenset({"*"})).serves("tenant-b")


class Vault:
    """A vault's client with secrets in a dictionary."""

    def __init__(self):
        self.known, self.asked, self.away = {"a": "one"}, 0, False

    async def get_secret(self, name):
        self.asked += 1
        if self.away:
            raise HttpResponseError("away")
        if name not in self.known:
            raise ResourceNotFoundError("none")
        return type("Secret", (), {"value": self.known[name]})()


async def test_a_secret_is_read_again_after_five_minutes_and_serves_while_the_vault_is_away():
    vault, clock = Vault(), ManualClock()
    secrets = KeyVaultSecrets(vault, clock)
    assert [await secrets.get("a") for _ in range(3)] == ["one"] * 3
    assert vault.asked == 1
    vault.known["a"] = "two"
    clock.advance(299)
    assert await secrets.get("a") == "one"
    clock.advance(2)
    assert await secrets.get("a") == "two"
    vault.away = True
    clock.advance(301)
    assert await secrets.get("a") == "two"
    asked = vault.asked
    assert await secrets.get("a") == "two"
    assert vault.asked == asked


async def test_a_secret_that_is_not_there_is_none_and_a_vault_that_is_away_says_so():
    vault = Vault()
    secrets = KeyVaultSecrets(vault, ManualClock())
    assert await secrets.get("b") is None
    vault.away = True
    with pytest.raises(DependencyUnavailable, match="vault"):
        await secrets.get("a")


async def test_a_secret_that_was_deleted_is_gone():
    vault, clock = Vault(), ManualClock()
    secrets = KeyVaultSecrets(vault, clock)
    await secrets.get("a")
    del vault.known["a"]
    clock.advance(301)
    assert await secrets.get("a") is None


async def test_local_secrets_are_in_a_file(tmp_path):
    path = tmp_path / "secrets.json"
    path.write_text('{"a": "one", "b": 2}')
    secrets = FileSecrets(path)
    assert await secrets.get("a") == "one"
    assert await secrets.get("b") is None
    assert await secrets.get("c") is None
    assert await FileSecrets(None).get("a") is None
    path.write_text("not json, with a canary-4711")
    with pytest.raises(DependencyUnavailable) as caught:
        await secrets.get("a")
    assert "canary" not in str(caught.value)
