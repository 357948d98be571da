"""Settings, read once from the environment and checked as a whole before anything is built."""

import os
from collections.abc import Mapping
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

REGISTRY_DIRECTORY = Path(__file__).parent / "registry"


class SettingsError(ValueError):
    """The environment does not make a working configuration; the message names every variable at fault."""


def _words(value: object) -> object:
    return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value


def _network(value: str) -> str:
    try:
        return str(ip_network(value))
    except ValueError:
        raise ValueError("must be networks such as 10.20.0.0/16") from None


_IDENTIFIER = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_Origin = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+$")]
_ServiceName = Annotated[str, Field(pattern=rf"^{_IDENTIFIER}={_IDENTIFIER}$")]
_FormerModel = Annotated[str, Field(pattern=rf"^{_IDENTIFIER}=[A-Za-z0-9][A-Za-z0-9._/@-]{{0,127}}$")]
_Network = Annotated[str, AfterValidator(_network)]
_TagKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


def _is_plain(url: str | None) -> bool:
    return url is not None and not url.lower().startswith("https://")


_ONLY_LOCAL = "works only with ROUTER_ENVIRONMENT=local"


class Settings(BaseModel):
    """What the environment decides. Field aliases are the variables' names; empty variables count as unset."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    environment: Annotated[Literal["local", "production"], Field(alias="ROUTER_ENVIRONMENT")] = "production"
    auth: Annotated[Literal["easy_auth", "entra", "development"], Field(alias="ROUTER_AUTH")] = "easy_auth"
    """``easy_auth``: what App Service proves, and Entra tokens too where audiences are set; ``entra``: only those."""
    easy_auth_enabled: Annotated[bool, Field(alias="WEBSITE_AUTH_ENABLED")] = False
    tenant_id: Annotated[str | None, Field(alias="ROUTER_TENANT_ID", pattern=rf"^{_IDENTIFIER}$")] = None
    service_pairs: Annotated[
        tuple[_ServiceName, ...], Field(alias="ROUTER_SERVICE_NAMES"), BeforeValidator(_words)
    ] = ()
    """Callers' names by application id: ``APPLICATION_ID=NAME``, several separated by commas."""
    token_audiences: Annotated[tuple[str, ...], Field(alias="ROUTER_TOKEN_AUDIENCES"), BeforeValidator(_words)] = ()
    """This app as Entra tokens name it. The first is asked for at sign-in: the ``api://`` URI."""
    token_scopes: Annotated[
        tuple[str, ...], Field(alias="ROUTER_TOKEN_SCOPES", min_length=1), BeforeValidator(_words)
    ] = ("access_as_user", "user_impersonation")
    entra_authority: Annotated[str, Field(alias="ROUTER_ENTRA_AUTHORITY", pattern=r"^https?://[A-Za-z0-9.:-]+/?$")] = (
        "https://login.microsoftonline.com"
    )
    key_vault_url: Annotated[str | None, Field(alias="ROUTER_KEY_VAULT_URL", pattern=r"^https://[A-Za-z0-9.-]+/?$")] = (
        None
    )
    signing_keys_file: Annotated[Path | None, Field(alias="ROUTER_SIGNING_KEYS_FILE")] = None
    content_key_file: Annotated[Path | None, Field(alias="ROUTER_CONTENT_KEY_FILE")] = None
    """What seals kept content, in place of a secret in the vault."""
    secrets_file: Annotated[Path | None, Field(alias="ROUTER_SECRETS_FILE")] = None
    """A JSON object of secrets by name, in place of the key vault: local only."""
    notify_networks: Annotated[
        tuple[_Network, ...], Field(alias="ROUTER_NOTIFY_NETWORKS"), BeforeValidator(_words)
    ] = ()
    """Networks that are not public and that notifications may be sent to nevertheless, such as ``10.20.0.0/16``."""
    swa_enabled: Annotated[bool, Field(alias="ROUTER_SWA_ENABLED")] = False
    postgres_dsn: Annotated[str, Field(alias="POSTGRES_DSN", min_length=1)]
    postgres_entra: Annotated[bool, Field(alias="POSTGRES_ENTRA_AUTH")] = False
    redis_url: Annotated[str, Field(alias="REDIS_URL", min_length=1)]
    cache_redis_url: Annotated[str | None, Field(alias="ROUTER_CACHE_REDIS_URL")] = None
    """Where kept answers are; by default with everything else, where they could crowd out limits and budgets."""
    cache_key: Annotated[str | None, Field(alias="ROUTER_CACHE_KEY", pattern=r"^[A-Za-z0-9+/]{43}=$", repr=False)] = (
        None
    )
    """32 bytes in Base64 that seal kept answers; give it as a Key Vault reference."""
    fingerprint_key: Annotated[
        str | None, Field(alias="ROUTER_FINGERPRINT_KEY", pattern=r"^[A-Za-z0-9+/]{43}=$", repr=False)
    ] = None
    """32 bytes in Base64 that messages are known again by, to notice retries; give it as a Key Vault reference. Without
    it each process notices those of its own only."""
    retry_window_s: Annotated[float, Field(alias="ROUTER_RETRY_WINDOW_S", ge=10, le=3600)] = 600.0
    """So soon the same message is a retry."""
    idempotency_without_store: Annotated[Literal["refuse", "run"], Field(alias="ROUTER_IDEMPOTENCY_WITHOUT_STORE")] = (
        "refuse"
    )
    """What becomes of a request with an Idempotency-Key while Redis is away."""
    storage_connection_string: Annotated[str | None, Field(alias="AzureWebJobsStorage")] = None
    storage_account: Annotated[str | None, Field(alias="AzureWebJobsStorage__accountName")] = None
    vertex_project: Annotated[str, Field(alias="VERTEX_PROJECT", min_length=1)]
    vertex_grpc_endpoint: Annotated[str | None, Field(alias="VERTEX_GRPC_ENDPOINT")] = None
    vertex_http_endpoint: Annotated[str | None, Field(alias="VERTEX_HTTP_ENDPOINT")] = None
    vertex_credentials: Annotated[Literal["anonymous", "adc", "entra"], Field(alias="VERTEX_CREDENTIALS")] = "entra"
    wif_audience: Annotated[str | None, Field(alias="GOOGLE_WIF_AUDIENCE")] = None
    wif_scope: Annotated[str | None, Field(alias="GOOGLE_WIF_SCOPE")] = None
    wif_service_account: Annotated[str | None, Field(alias="GOOGLE_WIF_SERVICE_ACCOUNT")] = None
    sts_url: Annotated[str, Field(alias="GOOGLE_STS_URL")] = "https://sts.googleapis.com/v1/token"
    telemetry_connection_string: Annotated[str | None, Field(alias="APPLICATIONINSIGHTS_CONNECTION_STRING")] = None
    telemetry_sampling: Annotated[float, Field(alias="ROUTER_TELEMETRY_SAMPLING", ge=0, le=1)] = 1.0
    region: Annotated[str, Field(alias="REGION_NAME", max_length=64)] = ""
    """Where this instance runs; App Service sets it."""
    journal_directory: Annotated[Path | None, Field(alias="ROUTER_JOURNAL_DIR")] = None
    registry_directories: Annotated[
        tuple[Path, ...], Field(alias="ROUTER_REGISTRY_DIR", min_length=1), BeforeValidator(_words)
    ] = (REGISTRY_DIRECTORY,)
    max_body_bytes: Annotated[int, Field(alias="ROUTER_MAX_BODY_BYTES", ge=1024, le=100 * 2**20)] = 20 * 2**20
    deadline_s: Annotated[float, Field(alias="ROUTER_DEADLINE_S", gt=0, le=230)] = 120.0
    heartbeat_s: Annotated[float, Field(alias="ROUTER_HEARTBEAT_S", gt=0, le=60)] = 15.0
    cors_origins: Annotated[tuple[_Origin, ...], Field(alias="ROUTER_CORS_ORIGINS"), BeforeValidator(_words)] = ()
    analytics_tags: Annotated[
        tuple[_TagKey, ...], Field(alias="ROUTER_ANALYTICS_TAGS", max_length=8), BeforeValidator(_words)
    ] = ("team", "feature", "environment")
    """Tags that requests are also counted by, `docs/analytics.md`. Each adds rows, so tags of persons do not belong."""
    former_model_pairs: Annotated[
        tuple[_FormerModel, ...], Field(alias="ROUTER_FORMER_MODELS"), BeforeValidator(_words)
    ] = ()
    """What services used before the router, to compare costs with: ``SERVICE=MODEL``, several separated by commas."""

    running_usd_per_month: Annotated[
        Decimal | None, Field(alias="ROUTER_RUNNING_COST_USD_PER_MONTH", ge=0, le=10_000_000)
    ] = None
    """What running the router costs besides models, to hold against what it saves."""

    @property
    def former_models(self) -> Mapping[str, str]:
        """The model that a service used before the router."""
        return {service: model for service, _, model in (pair.partition("=") for pair in self.former_model_pairs)}

    @property
    def service_names(self) -> Mapping[str, str]:
        """Callers' names by application id, in lower case."""
        return {application.lower(): name for application, _, name in (p.partition("=") for p in self.service_pairs)}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        is_production = self.environment == "production"
        uses_easy_auth = self.auth == "easy_auth" and (is_production or self.easy_auth_enabled)
        has_federation = bool(self.wif_audience and self.wif_scope)
        rules = (
            (is_production and self.auth == "development", f"ROUTER_AUTH=development {_ONLY_LOCAL}"),
            (is_production and self.vertex_credentials == "anonymous", f"VERTEX_CREDENTIALS=anonymous {_ONLY_LOCAL}"),
            # Tokens must not travel in the clear, and the gRPC override has no TLS.
            (is_production and self.vertex_grpc_endpoint is not None, f"VERTEX_GRPC_ENDPOINT {_ONLY_LOCAL}"),
            (is_production and _is_plain(self.vertex_http_endpoint), f"VERTEX_HTTP_ENDPOINT without TLS {_ONLY_LOCAL}"),
            (is_production and _is_plain(self.sts_url), f"GOOGLE_STS_URL without TLS {_ONLY_LOCAL}"),
            (uses_easy_auth and self.tenant_id is None, "ROUTER_AUTH=easy_auth needs ROUTER_TENANT_ID"),
            (
                self.auth == "entra" and not (self.tenant_id and self.token_audiences),
                "ROUTER_AUTH=entra needs ROUTER_TENANT_ID and ROUTER_TOKEN_AUDIENCES",
            ),
            (is_production and _is_plain(self.entra_authority), f"ROUTER_ENTRA_AUTHORITY without TLS {_ONLY_LOCAL}"),
            (is_production and self.signing_keys_file is not None, f"ROUTER_SIGNING_KEYS_FILE {_ONLY_LOCAL}"),
            (is_production and self.content_key_file is not None, f"ROUTER_CONTENT_KEY_FILE {_ONLY_LOCAL}"),
            (is_production and self.secrets_file is not None, f"ROUTER_SECRETS_FILE {_ONLY_LOCAL}"),
            (
                self.key_vault_url is not None and self.signing_keys_file is not None,
                "set ROUTER_KEY_VAULT_URL or ROUTER_SIGNING_KEYS_FILE, not both",
            ),
            (
                self.vertex_credentials == "entra" and not has_federation,
                "VERTEX_CREDENTIALS=entra needs GOOGLE_WIF_AUDIENCE and GOOGLE_WIF_SCOPE",
            ),
            (
                not (self.storage_connection_string or self.storage_account),
                "set AzureWebJobsStorage or AzureWebJobsStorage__accountName",
            ),
            (len(self.service_names) != len(self.service_pairs), "ROUTER_SERVICE_NAMES names an application twice"),
            (len(self.former_models) != len(self.former_model_pairs), "ROUTER_FORMER_MODELS names a service twice"),
        )
        if broken := [rule for is_broken, rule in rules if is_broken]:
            raise ValueError("; ".join(broken))
        return self

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read the environment.

        Raises:
            SettingsError: naming every variable that is missing or does not fit, without their values.
        """
        # Only the variables that are ours: an `environment` of somebody else's must not be taken for the field.
        names = [str(field.alias) for field in cls.model_fields.values()]
        try:
            return cls.model_validate({name: environ[name] for name in names if environ.get(name)})
        except ValidationError as error:
            faults = (
                f"{'.'.join(str(step) for step in detail['loc'])}: {detail['msg']}" if detail["loc"] else detail["msg"]
                for detail in error.errors(include_input=False, include_context=False, include_url=False)
            )
            raise SettingsError("; ".join(fault.replace("Value error, ", "") for fault in faults)) from None
