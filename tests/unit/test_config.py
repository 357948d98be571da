"""Settings: what each variable becomes, what does not fit, and that no message quotes a value."""

from decimal import Decimal
from pathlib import Path

import pytest

from infra.local.environment import Directories, Ports, function_app_environment
from shared.config import REGISTRY_DIRECTORY, Settings, SettingsError

CANARY = "canary-4711-secret"
TENANT = "4f1c0a9e-0000-4000-8000-000000000001"
PRODUCTION = {
    "POSTGRES_DSN": "postgresql://db.example/router",
    "REDIS_URL": "rediss://cache.example:6380/0",
    "AzureWebJobsStorage__accountName": "store",
    "VERTEX_PROJECT": "project",
    "GOOGLE_WIF_AUDIENCE": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
    "GOOGLE_WIF_SCOPE": "api://router/.default",
    "ROUTER_TENANT_ID": TENANT,
}
LOCAL = {**PRODUCTION, "ROUTER_ENVIRONMENT": "local"}


def refusal(environ):
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environ)
    assert caught.value.__cause__ is None
    return str(caught.value)


def without(environ, *names):
    return {name: value for name, value in environ.items() if name not in names}


def test_the_least_that_production_needs_is_strict_by_default():
    settings = Settings.from_env(PRODUCTION)
    assert (settings.environment, settings.auth, settings.vertex_credentials) == ("production", "easy_auth", "entra")
    assert settings.easy_auth_enabled is False
    assert settings.swa_enabled is False
    assert settings.registry_directories == (REGISTRY_DIRECTORY,)
    assert settings.cors_origins == ()
    assert settings.service_names == {}
    assert settings.telemetry_sampling == 1.0
    assert (settings.max_body_bytes, settings.deadline_s) == (20 * 1024 * 1024, 120.0)
    assert settings.sts_url == "https://sts.googleapis.com/v1/token"


def test_what_the_local_stack_sets_fits():
    settings = Settings.from_env(function_app_environment(Ports(), Directories()))
    assert (settings.environment, settings.auth, settings.vertex_credentials) == ("local", "development", "anonymous")
    assert settings.vertex_grpc_endpoint == "127.0.0.1:18090"
    assert settings.registry_directories[0] == Path("shared/registry")


TABLE = [
    ("ROUTER_ENVIRONMENT", "local", "environment", "local"),
    ("ROUTER_AUTH", "development", "auth", "development"),
    ("WEBSITE_AUTH_ENABLED", "True", "easy_auth_enabled", True),
    ("WEBSITE_AUTH_ENABLED", "false", "easy_auth_enabled", False),
    ("ROUTER_TENANT_ID", "other-tenant", "tenant_id", "other-tenant"),
    ("ROUTER_SERVICE_NAMES", "AAA-1=shop, bbb=mail,", "service_names", {"aaa-1": "shop", "bbb": "mail"}),
    ("ROUTER_SWA_ENABLED", "true", "swa_enabled", True),
    ("ROUTER_TOKEN_AUDIENCES", "api://a, b", "token_audiences", ("api://a", "b")),
    ("ROUTER_TOKEN_SCOPES", "read,write", "token_scopes", ("read", "write")),
    (
        "ROUTER_ENTRA_AUTHORITY",
        "https://login.microsoftonline.us",
        "entra_authority",
        "https://login.microsoftonline.us",
    ),
    ("ROUTER_KEY_VAULT_URL", "https://v.vault.azure.net", "key_vault_url", "https://v.vault.azure.net"),
    ("ROUTER_SIGNING_KEYS_FILE", "a/keys.json", "signing_keys_file", Path("a/keys.json")),
    ("ROUTER_CONTENT_KEY_FILE", "a/content.key", "content_key_file", Path("a/content.key")),
    ("ROUTER_SECRETS_FILE", "a/secrets.json", "secrets_file", Path("a/secrets.json")),
    ("ROUTER_NOTIFY_NETWORKS", "10.20.0.0/16, fd12::/32", "notify_networks", ("10.20.0.0/16", "fd12::/32")),
    ("POSTGRES_DSN", "postgresql://x/y", "postgres_dsn", "postgresql://x/y"),
    ("POSTGRES_ENTRA_AUTH", "1", "postgres_entra", True),
    ("REDIS_URL", "redis://x", "redis_url", "redis://x"),
    ("ROUTER_CACHE_REDIS_URL", "redis://y", "cache_redis_url", "redis://y"),
    ("ROUTER_CACHE_KEY", f"{'A' * 43}=", "cache_key", f"{'A' * 43}="),
    ("ROUTER_IDEMPOTENCY_WITHOUT_STORE", "run", "idempotency_without_store", "run"),
    ("AzureWebJobsStorage", "UseDevelopmentStorage=true", "storage_connection_string", "UseDevelopmentStorage=true"),
    ("AzureWebJobsStorage__accountName", "other", "storage_account", "other"),
    ("VERTEX_PROJECT", "p2", "vertex_project", "p2"),
    ("VERTEX_GRPC_ENDPOINT", "127.0.0.1:1", "vertex_grpc_endpoint", "127.0.0.1:1"),
    ("VERTEX_HTTP_ENDPOINT", "http://127.0.0.1:1", "vertex_http_endpoint", "http://127.0.0.1:1"),
    ("VERTEX_CREDENTIALS", "adc", "vertex_credentials", "adc"),
    ("GOOGLE_WIF_AUDIENCE", "//a", "wif_audience", "//a"),
    ("GOOGLE_WIF_SCOPE", "s", "wif_scope", "s"),
    ("GOOGLE_WIF_SERVICE_ACCOUNT", "r@p.iam.gserviceaccount.com", "wif_service_account", "r@p.iam.gserviceaccount.com"),
    ("GOOGLE_STS_URL", "http://127.0.0.1:1/token", "sts_url", "http://127.0.0.1:1/token"),
    (
        "APPLICATIONINSIGHTS_CONNECTION_STRING",
        "InstrumentationKey=k",
        "telemetry_connection_string",
        "InstrumentationKey=k",
    ),
    ("ROUTER_TELEMETRY_SAMPLING", "0.25", "telemetry_sampling", 0.25),
    ("REGION_NAME", "West Europe", "region", "West Europe"),
    ("ROUTER_JOURNAL_DIR", "a/b", "journal_directory", Path("a/b")),
    ("ROUTER_REGISTRY_DIR", "a, b", "registry_directories", (Path("a"), Path("b"))),
    ("ROUTER_MAX_BODY_BYTES", "1024", "max_body_bytes", 1024),
    ("ROUTER_DEADLINE_S", "12.5", "deadline_s", 12.5),
    ("ROUTER_HEARTBEAT_S", "5", "heartbeat_s", 5.0),
    (
        "ROUTER_CORS_ORIGINS",
        "https://a.example, http://[::1]:4280",
        "cors_origins",
        ("https://a.example", "http://[::1]:4280"),
    ),
    ("ROUTER_ANALYTICS_TAGS", "team, cost.center", "analytics_tags", ("team", "cost.center")),
    ("ROUTER_FORMER_MODELS", "shop=m/1,mail=m2", "former_models", {"shop": "m/1", "mail": "m2"}),
    ("ROUTER_RETRY_WINDOW_S", "60", "retry_window_s", 60.0),
    ("ROUTER_FINGERPRINT_KEY", f"{'A' * 43}=", "fingerprint_key", f"{'A' * 43}="),
    ("ROUTER_RUNNING_COST_USD_PER_MONTH", "412.50", "running_usd_per_month", Decimal("412.50")),
]


@pytest.mark.parametrize(("variable", "text", "name", "value"), TABLE, ids=[f"{row[0]}={row[1]}" for row in TABLE])
def test_what_a_variable_becomes(variable, text, name, value):
    assert getattr(Settings.from_env({**LOCAL, variable: text}), name) == value


def test_every_variable_is_in_the_table():
    assert {field.alias for field in Settings.model_fields.values()} == {row[0] for row in TABLE}


@pytest.mark.parametrize("variable", ["POSTGRES_DSN", "REDIS_URL", "VERTEX_PROJECT"])
@pytest.mark.parametrize("empty", [True, False])
def test_a_required_variable_is_missed_by_name_and_an_empty_one_counts_as_missing(variable, empty):
    environ = {**LOCAL, variable: ""} if empty else without(LOCAL, variable)
    assert refusal(environ) == f"{variable}: Field required"


def test_all_that_is_missing_is_said_at_once():
    message = refusal({})
    assert all(name in message for name in ("POSTGRES_DSN", "REDIS_URL", "VERTEX_PROJECT"))


BAD = [
    ("ROUTER_ENVIRONMENT", CANARY),
    ("ROUTER_AUTH", CANARY),
    ("WEBSITE_AUTH_ENABLED", CANARY),
    ("ROUTER_TENANT_ID", f"{CANARY} "),
    ("ROUTER_SERVICE_NAMES", CANARY),
    ("ROUTER_SERVICE_NAMES", f"{CANARY}="),
    ("ROUTER_SERVICE_NAMES", f"a=b={CANARY}"),
    ("ROUTER_SERVICE_NAMES", f"a={CANARY};b"),
    ("ROUTER_SERVICE_NAMES", f"a={CANARY},A=x"),
    ("ROUTER_SWA_ENABLED", CANARY),
    ("POSTGRES_ENTRA_AUTH", CANARY),
    ("VERTEX_CREDENTIALS", CANARY),
    ("ROUTER_TELEMETRY_SAMPLING", "1.1"),
    ("ROUTER_TELEMETRY_SAMPLING", "nan"),
    ("ROUTER_TELEMETRY_SAMPLING", CANARY),
    ("ROUTER_REGISTRY_DIR", ","),
    ("ROUTER_MAX_BODY_BYTES", "1023"),
    ("ROUTER_MAX_BODY_BYTES", "104857601"),
    ("ROUTER_MAX_BODY_BYTES", CANARY),
    ("ROUTER_DEADLINE_S", "0"),
    ("ROUTER_DEADLINE_S", "230.1"),
    ("ROUTER_DEADLINE_S", "inf"),
    ("ROUTER_DEADLINE_S", CANARY),
    ("ROUTER_CORS_ORIGINS", "*"),
    ("ROUTER_NOTIFY_NETWORKS", CANARY),
    ("ROUTER_NOTIFY_NETWORKS", f"10.20.0.0/16,{CANARY}"),
    ("ROUTER_NOTIFY_NETWORKS", "10.20.1.0/16"),
    ("ROUTER_CORS_ORIGINS", f"https://{CANARY}/"),
    ("ROUTER_CORS_ORIGINS", CANARY),
    ("ROUTER_CORS_ORIGINS", f"https://{CANARY},null"),
]


@pytest.mark.parametrize(("variable", "text"), BAD)
def test_what_does_not_fit_is_refused_by_name_and_never_quoted(variable, text):
    message = refusal({**LOCAL, variable: text})
    assert variable in message
    assert CANARY not in message


def test_values_of_variables_that_fit_are_not_quoted_either():
    secrets = {name: f"https://{CANARY}" for name in LOCAL if name not in {"ROUTER_ENVIRONMENT", "ROUTER_TENANT_ID"}}
    assert CANARY not in refusal({**LOCAL, **secrets, "ROUTER_AUTH": "none"})
    assert CANARY not in refusal({**PRODUCTION, **secrets, "ROUTER_AUTH": "development"})


RULES = [
    ({"ROUTER_AUTH": "development"}, "ROUTER_AUTH"),
    ({"VERTEX_CREDENTIALS": "anonymous"}, "VERTEX_CREDENTIALS"),
    ({"VERTEX_GRPC_ENDPOINT": "vertex.example:443"}, "VERTEX_GRPC_ENDPOINT"),
    ({"VERTEX_HTTP_ENDPOINT": "http://vertex.example"}, "VERTEX_HTTP_ENDPOINT"),
    ({"GOOGLE_STS_URL": "http://sts.example/token"}, "GOOGLE_STS_URL"),
]


@pytest.mark.parametrize(("changes", "variable"), RULES, ids=[row[1] for row in RULES])
def test_production_refuses_what_only_a_developer_may_have(changes, variable):
    message = refusal({**PRODUCTION, **changes})
    assert message.startswith(variable)
    assert message.endswith("works only with ROUTER_ENVIRONMENT=local")
    assert Settings.from_env({**LOCAL, **changes}).environment == "local"


def test_production_may_reach_vertex_elsewhere_over_tls():
    settings = Settings.from_env({**PRODUCTION, "VERTEX_HTTP_ENDPOINT": "HTTPS://vertex.internal"})
    assert settings.vertex_http_endpoint == "HTTPS://vertex.internal"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ROUTER_AUTH": "entra"}, "ROUTER_AUTH=entra needs ROUTER_TENANT_ID and ROUTER_TOKEN_AUDIENCES"),
        ({"ROUTER_ENTRA_AUTHORITY": "http://127.0.0.1:1"}, "ROUTER_ENTRA_AUTHORITY without TLS works only"),
        ({"ROUTER_SIGNING_KEYS_FILE": "keys.json"}, "ROUTER_SIGNING_KEYS_FILE works only"),
        ({"ROUTER_SECRETS_FILE": "secrets.json"}, "ROUTER_SECRETS_FILE works only"),
        ({"ROUTER_CONTENT_KEY_FILE": "content.key"}, "ROUTER_CONTENT_KEY_FILE works only"),
        (
            {"ROUTER_SIGNING_KEYS_FILE": "keys.json", "ROUTER_KEY_VAULT_URL": "https://v.vault.azure.net"},
            "set ROUTER_KEY_VAULT_URL or ROUTER_SIGNING_KEYS_FILE, not both",
        ),
    ],
)
def test_settings_of_identity_fit_each_other(changes, words):
    assert words in refusal({**without(PRODUCTION, "ROUTER_TENANT_ID"), "ROUTER_TENANT_ID": "", **changes})


def test_easy_auth_needs_to_know_whose_tokens_count():
    rule = "ROUTER_AUTH=easy_auth needs ROUTER_TENANT_ID"
    assert refusal(without(PRODUCTION, "ROUTER_TENANT_ID")) == rule
    assert refusal({**without(LOCAL, "ROUTER_TENANT_ID"), "WEBSITE_AUTH_ENABLED": "True"}) == rule
    # Off and local: every caller is refused, so no tenant is needed.
    assert Settings.from_env(without(LOCAL, "ROUTER_TENANT_ID")).tenant_id is None


@pytest.mark.parametrize("missing", ["GOOGLE_WIF_AUDIENCE", "GOOGLE_WIF_SCOPE"])
def test_entra_federation_needs_both_of_its_settings(missing):
    assert refusal(without(LOCAL, missing)) == "VERTEX_CREDENTIALS=entra needs GOOGLE_WIF_AUDIENCE and GOOGLE_WIF_SCOPE"
    assert Settings.from_env({**without(LOCAL, missing), "VERTEX_CREDENTIALS": "adc"}).vertex_credentials == "adc"


def test_storage_is_reached_one_way_or_the_other():
    nowhere = without(LOCAL, "AzureWebJobsStorage__accountName")
    assert refusal(nowhere) == "set AzureWebJobsStorage or AzureWebJobsStorage__accountName"
    settings = Settings.from_env({**nowhere, "AzureWebJobsStorage": "UseDevelopmentStorage=true"})
    assert settings.storage_connection_string == "UseDevelopmentStorage=true"


def test_all_broken_rules_are_said_at_once():
    message = refusal({**PRODUCTION, "ROUTER_AUTH": "development", "VERTEX_CREDENTIALS": "anonymous"})
    assert message == (
        "ROUTER_AUTH=development works only with ROUTER_ENVIRONMENT=local; "
        "VERTEX_CREDENTIALS=anonymous works only with ROUTER_ENVIRONMENT=local"
    )


def test_other_programs_variables_are_nothing_to_us():
    foreign = {"environment": "local", "auth": "development", "tenant_id": "x", "PATH": "/bin"}
    assert Settings.from_env({**PRODUCTION, **foreign}) == Settings.from_env(PRODUCTION)


def test_settings_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        Settings.from_env(PRODUCTION).auth = "development"


def test_the_key_of_the_cache_is_32_bytes_in_base64_and_never_shown():
    assert "ROUTER_CACHE_KEY" in refusal({**LOCAL, "ROUTER_CACHE_KEY": "c2hvcnQ="})
    assert "A" * 43 not in repr(Settings.from_env({**LOCAL, "ROUTER_CACHE_KEY": f"{'A' * 43}="}))
