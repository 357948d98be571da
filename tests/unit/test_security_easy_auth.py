import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.errors import Unauthenticated
from shared.domain.identity import Permission, RouterRole
from shared.ports import Authenticator
from shared.security.easy_auth import EasyAuthAuthenticator

TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
APPLICATION = "b1c2d3e4-0000-4000-8000-000000000001"
OBJECT = "0f0e0d0c-0000-4000-8000-000000000002"
LONG = "http://schemas.microsoft.com/identity/claims/"
ROLE_URI = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"

Claims = list[tuple[str, str]]
V2: Claims = [("azp", APPLICATION), ("oid", OBJECT), ("tid", TENANT), ("roles", "Router.Service")]


def encoded(document: object) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def app_service(claims: Claims, **fields: Any) -> str:
    listed = [{"typ": name, "val": value} for name, value in claims]
    return encoded({"auth_typ": "aad", "claims": listed, "name_typ": "name", "role_typ": ROLE_URI} | fields)


def swa(**fields: Any) -> str:
    principal = {
        "identityProvider": "aad",
        "userId": "9f8e7d6c5b4a39281706f5e4d3c2b1a0",
        "userDetails": "admin@example.com",
        "userRoles": ["anonymous", "authenticated", "Router.Admin", "editor"],
    }
    return encoded(principal | fields)


def authenticator(**options: Any) -> EasyAuthAuthenticator:
    return EasyAuthAuthenticator(**({"enabled": True, "tenant_id": TENANT} | options))


async def refused(header: str, **options: Any) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await authenticator(**options).authenticate({"x-ms-client-principal": header})
    return caught.value.message


async def test_a_service_with_a_version_2_token():
    port: Authenticator = authenticator()
    principal = await port.authenticate({"x-ms-client-principal": app_service(V2)})
    assert (principal.id, principal.tenant_id, principal.service) == (OBJECT, TENANT, APPLICATION)
    assert principal.roles == {RouterRole.SERVICE}
    assert principal.may(Permission.ROUTER_INVOKE)
    assert not principal.development


async def test_a_version_1_token_with_the_platforms_long_names():
    claims = [
        ("appid", APPLICATION.upper()),
        (f"{LONG}objectidentifier", OBJECT),
        (f"{LONG}tenantid", TENANT.upper()),
        (ROLE_URI, "Router.Analyst"),
        (ROLE_URI, "Router.Operator"),
    ]
    principal = await authenticator().authenticate({"x-ms-client-principal": app_service(claims)})
    assert (principal.id, principal.tenant_id, principal.service) == (OBJECT, TENANT, APPLICATION)
    assert principal.roles == {RouterRole.ANALYST, RouterRole.OPERATOR}


async def test_the_application_stands_in_for_a_missing_object_id():
    principal = await authenticator().authenticate({"x-ms-client-principal": app_service([V2[0], V2[2]])})
    assert principal.id == APPLICATION
    assert principal.roles == frozenset()


async def test_a_service_is_named_by_configuration_and_never_by_its_own_display_name():
    header = {"x-ms-client-principal": app_service([*V2, ("app_displayname", "billing"), ("name", "billing")])}
    named = authenticator(service_names={APPLICATION.upper(): "search"})
    assert (await named.authenticate(header)).service == "search"
    assert (await authenticator().authenticate(header)).service == APPLICATION


async def test_unknown_and_similar_roles_grant_nothing():
    names = ["Owner", "router.admin", "Router.Admin ", "Router.Service"]
    claims = [*V2[:3], *[("roles", name) for name in names], ("groups", "Router.Admin"), ("name", "Router.Admin")]
    header = app_service(claims, role_typ="name")
    principal = await authenticator().authenticate({"x-ms-client-principal": header})
    assert principal.roles == {RouterRole.SERVICE}


async def test_while_the_platform_does_not_authenticate_nobody_is_believed():
    closed = EasyAuthAuthenticator(enabled=False, tenant_id=None, swa_enabled=True)
    for header in (app_service(V2), swa()):
        with pytest.raises(Unauthenticated) as caught:
            await closed.authenticate({"x-ms-client-principal": header})
        assert "WEBSITE_AUTH_ENABLED" in caught.value.message


@pytest.mark.parametrize("tenant_id", [None, "", " ", "a b", "x" * 200])
def test_authentication_without_a_tenant_is_a_mistake_of_configuration(tenant_id):
    with pytest.raises(ValueError, match="tenant_id"):
        EasyAuthAuthenticator(enabled=True, tenant_id=tenant_id)


@pytest.mark.parametrize("headers", [{}, {"x-ms-client-principal": ""}, {"x-ms-client-principal-id": OBJECT}])
async def test_no_header_is_no_proof(headers):
    with pytest.raises(Unauthenticated):
        await authenticator().authenticate(headers)


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ([V2[0], V2[1], V2[3]], "names no tenant"),
        ([("azp", APPLICATION), ("tid", OBJECT)], "another tenant"),
        (V2[1:], "names no application"),
        ([*V2, ("tid", TENANT)], "tid more than once"),
        ([*V2, ("tid", OBJECT)], "tid more than once"),
        ([*V2, (f"{LONG}tenantid", OBJECT)], "tid more than once"),
        ([*V2, ("oid", APPLICATION)], "oid more than once"),
        ([*V2, ("azp", OBJECT)], "azp more than once"),
        ([*V2, ("appid", OBJECT)], "azp more than once"),
        ([("azp", ""), *V2[1:]], "no identifier"),
        ([("azp", "a b"), *V2[1:]], "no identifier"),
        ([("azp", "é" * 10), *V2[1:]], "no identifier"),
        ([("azp", "x" * 129), *V2[1:]], "no identifier"),
        ([*V2, ("name", "a\nb")], "control characters"),
        ([*V2, ("na\x00me", "a")], "control characters"),
        ([*V2, ("name", "\x85")], "control characters"),
        ([*V2, ("name", "\ud800")], "control characters"),
        ([*V2, *[("groups", str(number)) for number in range(1000)]], "no list of claims"),
    ],
)
async def test_claims_that_do_not_prove_a_caller(claims, said):
    message = await refused(app_service(claims))
    assert said in message
    assert "\n" not in message


async def test_one_value_under_both_of_a_claims_names_is_one_value():
    claims = [*V2, ("appid", APPLICATION), (f"{LONG}tenantid", TENANT)]
    principal = await authenticator().authenticate({"x-ms-client-principal": app_service(claims)})
    assert principal.service == APPLICATION


@pytest.mark.parametrize(
    "header",
    [
        "%%%",
        "bm90IGpzb24=",
        "bm90IGpzb24",  # padding missing
        app_service(V2) + "\n",
        app_service(V2) + "," + app_service(V2),
        base64.b64encode(b"\xff\xfe").decode(),
        base64.b64encode(b'{"auth_typ":"aad","auth_typ":"x","claims":[]}').decode(),
        base64.b64encode(b"[" * 40_000).decode(),
        base64.b64encode(b'{"claims":' + b"9" * 5000 + b"}").decode(),
        encoded([]),
        encoded(None),
        encoded("x"),
        encoded(1),
        encoded({}),
        encoded({"auth_typ": "aad"}),
        encoded({"auth_typ": "aad", "claims": None}),
        encoded({"auth_typ": "aad", "claims": {}}),
        encoded({"auth_typ": "aad", "claims": ["tid"]}),
        encoded({"auth_typ": "aad", "claims": [{"typ": "tid"}]}),
        encoded({"auth_typ": "aad", "claims": [{"typ": 1, "val": "x"}]}),
        encoded({"auth_typ": "aad", "claims": [{"typ": "tid", "val": ["x"]}]}),
        app_service(V2, auth_typ="google"),
        app_service(V2, auth_typ=None),
        app_service(V2, identityProvider="aad"),
        "A" * (64 * 1024 + 4),
        app_service([*V2, ("name", "x" * 64 * 1024)]),
        "\ud800",
    ],
)
async def test_what_cannot_be_read_is_refused(header):
    assert (await refused(header)).startswith("x-ms-client-principal")


async def test_static_web_apps_only_where_it_is_configured():
    assert "shape" in await refused(swa())
    principal = await authenticator(swa_enabled=True).authenticate({"x-ms-client-principal": swa()})
    assert (principal.id, principal.tenant_id) == ("9f8e7d6c5b4a39281706f5e4d3c2b1a0", TENANT)
    assert principal.service == "dashboard"
    assert principal.roles == {RouterRole.ADMIN}
    both = await authenticator(swa_enabled=True).authenticate({"x-ms-client-principal": app_service(V2)})
    assert both.service == APPLICATION


@pytest.mark.parametrize(
    "fields",
    [
        {"identityProvider": "github"},
        {"identityProvider": ["aad"]},
        {"userId": None},
        {"userId": ""},
        {"userId": "a\nb"},
        {"userRoles": None},
        {"userRoles": "authenticated"},
        {"userRoles": ["authenticated", 1]},
        {"userRoles": ["anonymous", "Router.Admin"]},
        {"claims": []},
    ],
)
async def test_static_web_apps_principals_that_prove_nobody(fields):
    await refused(swa(**fields), swa_enabled=True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=10,
)
NAMES = st.sampled_from(["tid", "oid", "azp", "appid", "roles", ROLE_URI, f"{LONG}tenantid"]) | st.text()
VALUES = st.sampled_from([TENANT, OBJECT, APPLICATION, "Router.Admin"]) | st.text() | JSON
CLAIM = st.fixed_dictionaries({}, optional={"typ": NAMES | JSON, "val": VALUES}) | JSON
DOCUMENT = st.fixed_dictionaries(
    {},
    optional={
        "auth_typ": st.just("aad") | JSON,
        "claims": st.lists(CLAIM, max_size=6) | JSON,
        "role_typ": st.text(),
        "identityProvider": st.just("aad") | JSON,
        "userId": st.text() | JSON,
        "userRoles": st.lists(st.sampled_from(["authenticated", "Router.Admin"]) | st.text()) | JSON,
    },
)


@given(header=st.text() | st.binary().map(lambda raw: base64.b64encode(raw).decode()) | (DOCUMENT | JSON).map(encoded))
async def test_any_header_gives_a_principal_of_this_tenant_or_a_refusal(header):
    try:
        principal = await authenticator(swa_enabled=True).authenticate({"x-ms-client-principal": header})
    except Unauthenticated as error:
        assert error.message.isprintable()
    else:
        assert principal.tenant_id == TENANT
        assert principal.id.isascii()
        assert principal.service
