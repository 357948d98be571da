"""Sign-in, refresh and sign-out: rotation, reuse, races, guessing."""

import asyncio
import re
from dataclasses import replace
from datetime import timedelta

import jwt
import pytest

from shared.domain.errors import DependencyUnavailable, RateLimited, Unauthenticated
from shared.domain.identity import Principal, RouterRole
from shared.security.session_tokens import SessionTokens
from shared.security.signing_keys import new_key
from shared.services.sessions import SessionService
from shared.stores.login_guard import MemoryLoginGuard
from shared.stores.memory import ManualClock
from shared.stores.session_families import MemorySessionFamilies
from shared.stores.system import SystemClock
from shared.telemetry.recording import RecordingTelemetry

CLIENT, SECRET, ADDRESS = "0b6d2f1c-0000-4000-8000-00000000000a", "s3cret", "203.0.113.7"
CALLER = Principal("p-1", "tenant-1", "shop", frozenset({RouterRole.SERVICE}))


class Check:
    """Entra's word."""

    away = False
    groups = frozenset()

    async def with_secret(self, client_id, client_secret):
        if self.away:
            raise DependencyUnavailable("Entra does not answer")
        if (client_id, client_secret) != (CLIENT, SECRET):
            raise Unauthenticated("the client id and secret do not hold")
        return CALLER

    async def with_token(self, token):
        if token != "entra":
            raise Unauthenticated("the token does not hold")
        return replace(CALLER, groups=self.groups)


class Keys:
    def __init__(self, key):
        self.key = key

    async def all(self):
        return (self.key,)


class World:
    def __init__(self):
        self.clock = ManualClock(SystemClock().now())
        self.families, self.check, self.telemetry = MemorySessionFamilies(), Check(), RecordingTelemetry()
        self.keys = Keys(new_key(self.clock.now() - timedelta(days=1)))
        self.tokens = SessionTokens(self.keys, self.clock, self.families)
        self.service = SessionService(
            self.check, self.tokens, self.families, MemoryLoginGuard(), self.clock, self.telemetry
        )

    async def login(self, secret=SECRET, client=CLIENT, address=ADDRESS):
        return await self.service.login_with_secret(client, secret, address=address)


@pytest.fixture
def world():
    return World()


async def test_a_sign_in_gives_a_token_that_proves_its_caller(world):
    for grant in (await world.login(), await world.service.login_with_token("entra", address=ADDRESS)):
        found = await world.tokens.principal_of(grant.token)
        assert (found.id, found.service, found.roles) == ("p-1", "shop", CALLER.roles)
        assert found.session_id in world.families.by_id


async def test_no_secret_is_kept_or_shown(world):
    grant = await world.login()
    kept = repr(world.families.by_id)
    assert grant.refresh_token not in kept
    assert grant.refresh_token.rpartition(".")[2] not in kept
    assert grant.token not in kept
    assert re.search(r"rt1\.|eyJ", repr(grant)) is None


async def test_a_refresh_token_works_once(world):
    first = await world.login()
    second = await world.service.refresh(first.refresh_token)
    assert second.refresh_token != first.refresh_token
    assert (await world.tokens.principal_of(second.token)).id == "p-1"
    assert (await world.service.refresh(second.refresh_token)).session_expires_at == first.session_expires_at


async def test_a_copied_refresh_token_ends_the_whole_session(world):
    first = await world.login()
    second = await world.service.refresh(first.refresh_token)
    third = await world.service.refresh(second.refresh_token)
    with pytest.raises(Unauthenticated):
        await world.service.refresh(first.refresh_token)
    with pytest.raises(Unauthenticated):
        await world.service.refresh(third.refresh_token)
    assert world.telemetry.counted("refresh_tokens_reused") == 1


async def test_a_retry_within_seconds_is_refused_without_ending_the_session(world):
    first = await world.login()
    second = await world.service.refresh(first.refresh_token)
    with pytest.raises(Unauthenticated):
        await world.service.refresh(first.refresh_token)
    third = await world.service.refresh(second.refresh_token)
    world.clock.advance(11)
    with pytest.raises(Unauthenticated):
        await world.service.refresh(second.refresh_token)
    with pytest.raises(Unauthenticated):
        await world.service.refresh(third.refresh_token)


async def test_of_many_simultaneous_uses_one_wins(world):
    first = await world.login()
    outcomes = await asyncio.gather(
        *(world.service.refresh(first.refresh_token) for _ in range(20)), return_exceptions=True
    )
    winners = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    assert len(winners) == 1
    assert all(isinstance(o, Unauthenticated) for o in outcomes if o not in winners)
    assert await world.service.refresh(winners[0].refresh_token)


async def test_a_guess_at_a_session_changes_nothing(world):
    first = await world.login()
    session_id = first.refresh_token.split(".")[1]
    for guess in (f"rt1.{session_id}.{'A' * 43}", f"rt1.{'0' * 32}.{'A' * 43}", "rt1", "", f"{first.refresh_token}x"):
        with pytest.raises(Unauthenticated):
            await world.service.refresh(guess)
    assert await world.service.refresh(first.refresh_token)


async def test_a_session_ends_after_its_time_whatever_was_refreshed(world):
    grant = await world.login()
    for _ in range(11):
        world.clock.advance(3600)
        grant = await world.service.refresh(grant.refresh_token)
    assert (grant.session_expires_at - world.clock.now()) == timedelta(hours=1)
    world.clock.advance(3601)
    with pytest.raises(Unauthenticated):
        await world.service.refresh(grant.refresh_token)
    assert await world.service.sweep() == 1
    assert world.families.by_id == {}


async def test_signing_out_ends_the_session_and_nobody_elses(world):
    grant = await world.login()
    caller = await world.tokens.principal_of(grant.token)
    stranger = Principal("p-2", "tenant-1", "shop", caller.roles, session_id=caller.session_id)
    assert await world.service.logout(stranger) is False
    assert await world.service.logout(CALLER) is False
    assert await world.service.logout(caller) is True
    with pytest.raises(Unauthenticated):
        await world.service.refresh(grant.refresh_token)


async def test_guessing_is_locked_out_and_the_right_secret_does_not_open_the_lock(world):
    for _ in range(6):
        with pytest.raises(Unauthenticated):
            await world.login("wrong")
    with pytest.raises(RateLimited) as locked:
        await world.login()
    assert locked.value.code == "login_locked"
    assert locked.value.retry_after_s > 0
    assert await world.login(address="203.0.113.8")


async def test_unknown_ids_and_wrong_secrets_get_one_answer(world):
    answers = set()
    for client, secret in ((CLIENT, "wrong"), ("0b6d2f1c-0000-4000-8000-00000000000f", SECRET)):
        with pytest.raises(Unauthenticated) as refused:
            await world.login(secret, client)
        answers.add((refused.value.message, refused.value.code))
    assert len(answers) == 1


async def test_entra_away_is_no_failure_of_the_caller(world):
    world.check.away = True
    for _ in range(30):
        with pytest.raises(DependencyUnavailable):
            await world.login()
    world.check.away = False
    assert await world.login()


async def test_failures_with_tokens_count_against_the_address(world):
    for _ in range(21):
        with pytest.raises(Unauthenticated):
            await world.service.login_with_token("other", address=ADDRESS)
    with pytest.raises(RateLimited):
        await world.service.login_with_token("entra", address=ADDRESS)


async def test_the_store_away_is_said_so(world):
    grant = await world.login()
    world.families.away = True
    for call in (world.login(), world.service.refresh(grant.refresh_token)):
        with pytest.raises(DependencyUnavailable):
            await call


def group_names(count):
    return frozenset(f"0b6d2f1c-0000-4000-8000-{number:012d}" for number in range(count))


@pytest.mark.parametrize("count", [0, 1, 50, 51, 200])
async def test_a_session_has_the_groups_of_its_sign_in_and_keeps_them_when_it_is_refreshed(world, count):
    world.check.groups = group_names(count)
    grant = await world.service.login_with_token("entra", address=ADDRESS)
    world.check.groups = frozenset({"another"})
    again = await world.service.refresh(grant.refresh_token)
    for token in (grant.token, again.token):
        assert len(token) < 4096
        assert (await world.tokens.principal_of(token)).groups == group_names(count)


async def test_groups_that_do_not_fit_into_a_token_are_looked_up_once(world):
    world.check.groups = group_names(51)
    token = (await world.service.login_with_token("entra", address=ADDRESS)).token
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["hasgroups"], "groups" in claims) == (True, False)
    await world.tokens.principal_of(token)
    world.families.away = True
    assert (await world.tokens.principal_of(token)).groups == group_names(51)
    elsewhere = SessionTokens(world.keys, world.clock, world.families)
    with pytest.raises(DependencyUnavailable):
        await elsewhere.principal_of(token)
    world.families.away = False
    assert (await elsewhere.principal_of(token)).groups == group_names(51)


async def test_groups_in_a_token_need_no_store(world):
    world.check.groups = frozenset({"Zürich", "board"})
    token = (await world.service.login_with_token("entra", address=ADDRESS)).token
    world.families.away = True
    assert (await world.tokens.principal_of(token)).reader_groups == {"Zürich", "board", "Router.Service"}


async def test_a_session_that_is_gone_or_anothers_has_no_groups(world):
    world.check.groups = group_names(60)
    token = (await world.service.login_with_token("entra", address=ADDRESS)).token
    ((session_id, (family, etag)),) = world.families.by_id.items()
    await world.families.replace(replace(family, principal_id="somebody else"), etag)
    assert (await world.tokens.principal_of(token)).groups == frozenset()
    del world.families.by_id[session_id]
    assert (await SessionTokens(world.keys, world.clock, world.families).principal_of(token)).groups == frozenset()


@pytest.mark.parametrize("groups", [group_names(201), frozenset(f"{n:0256d}" for n in range(40))])
async def test_of_too_many_groups_none_is_kept_rather_than_some(world, groups):
    world.check.groups = groups
    token = (await world.service.login_with_token("entra", address=ADDRESS)).token
    assert (await world.tokens.principal_of(token)).groups == frozenset()
    assert world.telemetry.counted("sessions_without_groups") == 1
