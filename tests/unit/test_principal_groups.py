"""Groups of a caller, as access lists of documents name them: from the proof, never from the request."""

import pytest

from shared.domain.errors import Unauthenticated
from shared.domain.identity import Principal, RouterRole
from shared.security.development import DevelopmentAuthenticator
from shared.security.easy_auth import EasyAuthAuthenticator
from shared.security.entra import EntraTokenAuthenticator
from shared.security.jwks import JsonWebKeys
from shared.stores.memory import ManualClock
from shared.stores.system import SystemClock
from tests.azure_wire import serving
from tests.principals import TENANT, encoded, principal_header
from tests.token_issuer import AUDIENCE, Issuer
from tests.token_issuer import TENANT as ISSUER_TENANT


def test_a_reader_is_in_its_groups_and_in_its_roles():
    principal = Principal("p", "t", "s", frozenset({RouterRole.ANALYST}), groups=frozenset({"g"}))
    assert principal.reader_groups == {"g", "Router.Analyst"}


async def test_easy_auth_tells_groups_one_claim_each():
    claims = [("oid", "o"), ("tid", TENANT), ("azp", "app-1"), ("groups", "g1"), ("groups", "g2"), ("groups", "")]
    header = encoded({"auth_typ": "aad", "claims": [{"typ": name, "val": value} for name, value in claims]})
    authenticator = EasyAuthAuthenticator(enabled=True, tenant_id=TENANT)
    assert (await authenticator.authenticate(header)).groups == {"g1", "g2"}
    assert (await authenticator.authenticate(principal_header())).groups == frozenset()


async def test_a_developer_may_play_groups():
    authenticator = DevelopmentAuthenticator(environment="local")
    assert (await authenticator.authenticate({"x-router-groups": "board, staff"})).groups == {"board", "staff"}
    assert (await authenticator.authenticate({})).groups == frozenset()
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate({"x-router-groups": "Board!"})


async def test_an_entra_token_tells_groups_as_a_list_of_words():
    issuer, clock = Issuer(), ManualClock(SystemClock().now())
    async with serving(issuer.serve) as url:
        authenticator = EntraTokenAuthenticator(
            JsonWebKeys(url, clock),
            clock,
            authority=issuer.authority,
            tenant_id=ISSUER_TENANT,
            audiences=[AUDIENCE],
            scopes=["access_as_user"],
        )
        assert (await authenticator.principal_of(issuer.token(groups=["g1", ""]))).groups == {"g1"}
        assert (await authenticator.principal_of(issuer.token())).groups == frozenset()
        for claim in ("g1", [["g1"]], {"g1": 1}):
            with pytest.raises(Unauthenticated, match="no list"):
                await authenticator.principal_of(issuer.token(groups=claim))
