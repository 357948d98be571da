"""Settings, read once from the environment and checked as a whole before anything is built."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

REGISTRY_DIRECTORY = Path(__file__).parent / "registry"


class SettingsError(ValueError):
    """The environment does not make a working configuration; the message names every variable at fault."""


def _words(value: object) -> object:
    return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value


class Settings(BaseModel):
    """What the environment decides. Field aliases are the variables' names; empty variables count as unset."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True)

    environment: Annotated[Literal["local", "production"], Field(alias="ROUTER_ENVIRONMENT")] = "production"
    auth: Annotated[Literal["easy_auth", "development"], Field(alias="ROUTER_AUTH")] = "easy_auth"
    easy_auth_enabled: Annotated[bool, Field(alias="WEBSITE_AUTH_ENABLED")] = False
    tenant_id: Annotated[str | None, Field(alias="ROUTER_TENANT_ID")] = None
    postgres_dsn: Annotated[str, Field(alias="POSTGRES_DSN", min_length=1)]
    postgres_entra: Annotated[bool, Field(alias="POSTGRES_ENTRA_AUTH")] = False
    redis_url: Annotated[str, Field(alias="REDIS_URL", min_length=1)]
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
    journal_directory: Annotated[Path | None, Field(alias="ROUTER_JOURNAL_DIR")] = None
    registry_directories: Annotated[
        tuple[Path, ...], Field(alias="ROUTER_REGISTRY_DIR", min_length=1), BeforeValidator(_words)
    ] = (REGISTRY_DIRECTORY,)
    max_body_bytes: Annotated[int, Field(alias="ROUTER_MAX_BODY_BYTES", ge=1024, le=100 * 2**20)] = 20 * 2**20
    deadline_s: Annotated[float, Field(alias="ROUTER_DEADLINE_S", gt=0, le=230)] = 120.0
    cors_origins: Annotated[tuple[str, ...], Field(alias="ROUTER_CORS_ORIGINS"), BeforeValidator(_words)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.environment == "production" and self.auth == "development":
            raise ValueError("ROUTER_AUTH=development works only with ROUTER_ENVIRONMENT=local")
        if self.environment == "production" and self.vertex_credentials == "anonymous":
            raise ValueError("VERTEX_CREDENTIALS=anonymous works only with ROUTER_ENVIRONMENT=local")
        if self.vertex_credentials == "entra" and not (self.wif_audience and self.wif_scope):
            raise ValueError("VERTEX_CREDENTIALS=entra needs GOOGLE_WIF_AUDIENCE and GOOGLE_WIF_SCOPE")
        if not (self.storage_connection_string or self.storage_account):
            raise ValueError("set AzureWebJobsStorage or AzureWebJobsStorage__accountName")
        return self

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read the environment.

        Raises:
            SettingsError: naming every variable that is missing or does not fit, without their values.
        """
        try:
            return cls.model_validate({name: value for name, value in environ.items() if value})
        except ValidationError as error:
            faults = (
                f"{'.'.join(str(step) for step in detail['loc'])}: {detail['msg']}" if detail["loc"] else detail["msg"]
                for detail in error.errors(include_input=False, include_context=False, include_url=False)
            )
            raise SettingsError("; ".join(fault.replace("Value error, ", "") for fault in faults)) from None
