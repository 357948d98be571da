import pytest

from shared.domain.errors import Unauthenticated
from shared.domain.identity import RouterRole
from shared.ports import Authenticator
from shared.security.development import DevelopmentAuthenticator


@pytest.mark.parametrize("environment", ["production", "", "Local", "local ", "staging"])
def test_it_exists_in_the_local_environment_only(environment):
    with pytest.raises(ValueError, match="ROUTER_ENVIRONMENT=local"):
        DevelopmentAuthenticator(environment=environment)


@pytest.mark.parametrize("options", [{"service": ""}, {"service": "Not A Name"}, {"tenant_id": "x" * 65}])
def test_its_own_names_are_checked(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        DevelopmentAuthenticator(environment="local", **options)


async def test_everybody_is_a_principal_that_says_it_is_one_of_development():
    port: Authenticator = DevelopmentAuthenticator(environment="local", service="demo", tenant_id="home")
    principal = await port.authenticate({})
    assert principal.development
    assert (principal.id, principal.service, principal.tenant_id) == ("development:demo", "demo", "home")
    assert principal.roles == frozenset(RouterRole)


async def test_a_caller_may_say_which_service_and_tenant_it_plays():
    headers = {"x-router-service": "billing-2", "x-router-tenant": "b" * 64}
    principal = await DevelopmentAuthenticator(environment="local").authenticate(headers)
    assert (principal.service, principal.tenant_id, principal.development) == ("billing-2", "b" * 64, True)


@pytest.mark.parametrize("header", ["x-router-service", "x-router-tenant"])
@pytest.mark.parametrize("name", ["", "A", "a b", "a\n", "a_b", "a" * 65, "é", "a/../b", "\ud800"])
async def test_a_malformed_name_is_refused_and_named(header, name):
    with pytest.raises(Unauthenticated, match=header):
        await DevelopmentAuthenticator(environment="local").authenticate({header: name})
