"""The container: one build shared by all callers, tried again after a failure, closed as a whole."""

import asyncio
import socket

import pytest

from shared import container
from shared.config import Settings, SettingsError
from shared.domain.errors import DependencyUnavailable, InvalidRequest, Unauthenticated
from shared.domain.identity import RouterRole
from shared.domain.models import ProviderKind
from shared.stores.registry_files import RegistryError
from shared.telemetry import RecordingTelemetry
from tests.principals import TENANT, principal_header, site_user_header

STORAGE = (
    "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;QueueEndpoint=http://127.0.0.1:{port}/a;"
    "BlobEndpoint=http://127.0.0.1:{port}/a;TableEndpoint=http://127.0.0.1:{port}/a;"
)


@pytest.fixture
def closed_port():
    """A port that nothing listens on as long as the test runs: bound, but not listening."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
def environ(closed_port, tmp_path):
    return {
        "ROUTER_ENVIRONMENT": "local",
        "ROUTER_AUTH": "development",
        "POSTGRES_DSN": f"postgresql://router@127.0.0.1:{closed_port}/router",
        "REDIS_URL": f"redis://127.0.0.1:{closed_port}/0",
        "AzureWebJobsStorage": STORAGE.format(port=closed_port),
        "VERTEX_PROJECT": "project",
        "VERTEX_CREDENTIALS": "anonymous",
        "VERTEX_GRPC_ENDPOINT": f"127.0.0.1:{closed_port}",
        "VERTEX_HTTP_ENDPOINT": f"http://127.0.0.1:{closed_port}",
        "ROUTER_JOURNAL_DIR": str(tmp_path / "journal"),
    }


# --- get: one build for all callers ----------------------------------------------------------------------------------


class Builds:
    """Stands in for `build`: counts, waits for its gate, then fails or hands out an object."""

    def __init__(self):
        self.begun = 0
        self.has_begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.failures = []

    async def __call__(self, settings):
        self.begun += 1
        self.has_begun.set()
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return f"container {self.begun}"


@pytest.fixture
def builds(monkeypatch, environ):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    made = Builds()
    monkeypatch.setattr(container, "build", made)
    monkeypatch.setattr(container, "_building", None)
    monkeypatch.setattr(container, "_override", None)
    return made


async def test_callers_share_one_build(builds):
    builds.gate.set()
    assert set(await asyncio.gather(*(container.get() for _ in range(5)))) == {"container 1"}
    assert await container.get() == "container 1"
    assert builds.begun == 1


async def test_a_first_caller_who_leaves_does_not_stop_the_build_for_the_others(builds):
    first = asyncio.create_task(container.get())
    second = asyncio.create_task(container.get())
    await builds.has_begun.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    builds.gate.set()
    assert await second == "container 1"
    assert builds.begun == 1


async def test_a_failed_build_is_told_to_all_who_wait_and_tried_again_by_the_next(builds):
    builds.failures = [OSError("disk full")]
    builds.gate.set()
    outcomes = await asyncio.gather(container.get(), container.get(), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [OSError, OSError]
    assert await container.get() == "container 2"


async def test_a_build_that_was_itself_cancelled_is_tried_again(builds):
    waiting = asyncio.create_task(container.get())
    await builds.has_begun.wait()
    container._building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    builds.gate.set()
    assert await container.get() == "container 2"


async def test_settings_are_read_again_after_they_did_not_fit(builds, monkeypatch):
    builds.gate.set()
    monkeypatch.setenv("ROUTER_DEADLINE_S", "soon")
    with pytest.raises(SettingsError, match="ROUTER_DEADLINE_S"):
        await container.get()
    monkeypatch.setenv("ROUTER_DEADLINE_S", "30")
    assert await container.get() == "container 1"


async def test_an_override_is_served_until_it_is_taken_back(builds):
    builds.gate.set()
    container.override("mine")
    assert await container.get() == "mine"
    container.override(None)
    assert await container.get() == "container 1"


# --- build -----------------------------------------------------------------------------------------------------------


async def test_a_worker_starts_and_stops_while_everything_is_away_and_says_so(environ):
    built = await container.build(Settings.from_env(environ))
    try:
        readiness = await built.readiness.check()
        assert not readiness.ready
        assert {d.name for d in readiness.dependencies if not d.ok} == {"postgres", "redis", "queue"}
    finally:
        await built.close()


async def test_every_kind_of_provider_has_an_adapter(environ):
    built = await container.build(Settings.from_env(environ))
    try:
        kinds = {deployment.provider for deployment in built.shelf.registry.deployments}
        assert kinds <= set(built.routing._providers) == set(ProviderKind)
    finally:
        await built.close()


@pytest.mark.parametrize("credentials", ["entra", "adc"])
async def test_a_worker_starts_with_its_managed_identity_without_asking_it_yet_and_closes_it(
    environ, credentials, monkeypatch
):
    made = []

    class Identity:
        def __init__(self):
            self.did = []
            made.append(self)

        async def get_token(self, *scopes, **options):
            self.did.append("get_token")

        async def close(self):
            self.did.append("close")

    monkeypatch.setattr("azure.identity.aio.DefaultAzureCredential", Identity)
    cloud = {
        "ROUTER_ENVIRONMENT": "production",
        "ROUTER_AUTH": "easy_auth",
        "ROUTER_TENANT_ID": TENANT,
        "AzureWebJobsStorage": "",
        "AzureWebJobsStorage__accountName": "store",
        "POSTGRES_ENTRA_AUTH": "true",
        "VERTEX_CREDENTIALS": credentials,
        "VERTEX_GRPC_ENDPOINT": "",
        "VERTEX_HTTP_ENDPOINT": "",
        "GOOGLE_WIF_AUDIENCE": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
        "GOOGLE_WIF_SCOPE": "api://router/.default",
    }
    built = await container.build(Settings.from_env({**environ, **cloud}))
    # PostgreSQL and the queue share it.
    assert [identity.did for identity in made] == [[]]
    await built.close()
    assert [identity.did for identity in made] == [["close"]]


async def test_the_parts_that_read_the_key_vault_share_one_client_which_is_closed_once(environ, monkeypatch):
    made, closed = [], []

    class Vault:
        def __init__(self, url, credential, **options):
            made.append(url)

        async def close(self):
            closed.append(len(made))

    monkeypatch.setattr("azure.keyvault.secrets.aio.SecretClient", Vault)
    url = "https://vault.example.net"
    built = await container.build(Settings.from_env({**environ, "ROUTER_KEY_VAULT_URL": url}))
    assert (made, closed) == ([url], [])
    await built.close()
    assert (made, closed) == ([url], [1])


async def test_what_cannot_be_recovered_now_is_left_to_the_timer(environ, monkeypatch, caplog):
    async def away(self):
        raise DependencyUnavailable("neither ledger nor spill")

    monkeypatch.setattr(container.building.RecordWriter, "recover", away)
    built = await container.build(Settings.from_env(environ))
    await built.close()
    assert "recovery_postponed" in caplog.text


async def test_what_was_opened_is_closed_when_a_later_part_fails(environ, monkeypatch, tmp_path):
    telemetry = RecordingTelemetry()
    monkeypatch.setattr(container.ground, "build_telemetry", lambda *args, **kwargs: telemetry)
    (tmp_path / "bad.toml").write_text("[[models]]\nid = 5\n")
    with pytest.raises((RegistryError, InvalidRequest)):
        await container.build(Settings.from_env({**environ, "ROUTER_REGISTRY_DIR": str(tmp_path)}))
    assert telemetry.closed


# --- who is let in ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def easy_auth(environ):
    """Builds with Easy Auth on and these settings; hands out the authenticator."""
    built = []

    async def build(**more):
        on = {"ROUTER_AUTH": "easy_auth", "WEBSITE_AUTH_ENABLED": "True", "ROUTER_TENANT_ID": TENANT}
        built.append(await container.build(Settings.from_env({**environ, **on, **more})))
        return built[-1].authenticator

    yield build
    for one in built:
        await one.close()


async def test_a_service_goes_by_its_configured_name_and_others_by_their_id(easy_auth):
    authenticator = await easy_auth(ROUTER_SERVICE_NAMES="APP-1=shop")
    known = await authenticator.authenticate(principal_header("app-1"))
    assert (known.service, known.roles, known.development) == ("shop", {RouterRole.SERVICE}, False)
    assert (await authenticator.authenticate(principal_header("app-2"))).service == "app-2"


async def test_users_of_the_static_site_are_taken_only_when_configured(easy_auth):
    with pytest.raises(Unauthenticated):
        await (await easy_auth()).authenticate(site_user_header())
    assert (await (await easy_auth(ROUTER_SWA_ENABLED="1")).authenticate(site_user_header())).service == "dashboard"


async def test_with_easy_auth_off_nobody_is_let_in(easy_auth):
    authenticator = await easy_auth(WEBSITE_AUTH_ENABLED="False")
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(principal_header("app-1"))


async def test_everybody_is_somebody_in_development(environ):
    built = await container.build(Settings.from_env(environ))
    try:
        assert (await built.authenticator.authenticate({})).development
    finally:
        await built.close()
