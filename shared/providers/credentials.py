"""Bearer tokens for Vertex AI: fetched ahead of need, by one call at a time, never on the event loop.

google-auth refreshes synchronously and lazily: two hundred cold requests made thirty-five calls to the token service,
and each token's last second stalled whoever came next. `GoogleTokens` keeps one refresh in flight for everybody, in a
thread, and starts it while the old token still works.
"""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any, Protocol

from shared.domain.errors import DependencyUnavailable, ProviderAuthError, RouterError
from shared.ports import Clock

CLOUD_PLATFORM_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
GOOGLE_STS_URL = "https://sts.googleapis.com/v1/token"
IMPERSONATION_URL = (
    "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{service_account}:generateAccessToken"
)

_SKEW_S = 10.0
"""A token this close to its end may be refused by a server whose clock is ahead."""
_RETRY_PAUSE_S = 5.0
"""After a failed refresh ahead of time; the old token still works meanwhile."""

_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})

_log = logging.getLogger(__name__)


class TokenSource(Protocol):
    """Where a transport gets its bearer token."""

    async def token(self) -> str | None:
        """A token that is valid now, or None when calls carry none.

        Raises:
            ProviderAuthError: the identity was refused.
            DependencyUnavailable: the token service did not answer in time.
        """
        ...

    async def aclose(self) -> None:
        """Stop refreshing."""
        ...


class GoogleCredentials(Protocol):
    """The part of `google.auth.credentials.Credentials` that is used here."""

    token: str | None
    expiry: datetime | None
    """Naive, UTC; None: the token never ends."""

    def refresh(self, request: Any) -> None:
        """Fetch a new token, blocking."""
        ...


class EntraCredential(Protocol):
    """The part of `azure.core.credentials.TokenCredential` that is used here."""

    def get_token(self, *scopes: str) -> Any:
        """An access token whose text is in `.token`."""
        ...


class AnonymousTokens:
    """No token: for endpoints that ask for none."""

    async def token(self) -> str | None:
        """Always None."""
        return None

    async def aclose(self) -> None:
        """Nothing to stop."""


class GoogleTokens:
    """Access tokens of google-auth credentials.

    Args:
        credentials: google-auth credentials with the cloud-platform scope.
        clock: time.
        refresh_ahead_s: how long before its end a token is replaced, while callers go on using it.
        deadline_s: longest wait for the token service.
    """

    def __init__(
        self, credentials: GoogleCredentials, *, clock: Clock, refresh_ahead_s: float = 300.0, deadline_s: float = 10.0
    ) -> None:
        self._credentials = credentials
        self._clock = clock
        self._refresh_ahead_s = refresh_ahead_s
        self._deadline_s = deadline_s
        self._token: str | None = None
        self._ends_at = 0.0
        self._paused_until = 0.0
        self._refreshing: asyncio.Task[None] | None = None

    async def token(self) -> str | None:
        """A valid token: at once while there is one, else after the one refresh that all callers share.

        Raises:
            ProviderAuthError: the identity was refused.
            DependencyUnavailable: the token service did not answer in time.
        """
        now = self._clock.monotonic()
        if self._token is not None and now < self._ends_at - _SKEW_S:
            if now >= self._ends_at - self._refresh_ahead_s and now >= self._paused_until:
                self._refresh()
            return self._token
        # Shielded: a caller who goes away must not take the refresh from the others.
        await asyncio.shield(self._refresh())
        return self._token

    async def aclose(self) -> None:
        """Stop waiting for a refresh; its thread ends by itself within the deadline."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)

    def _refresh(self) -> "asyncio.Task[None]":
        if self._refreshing is None:
            self._refreshing = asyncio.get_running_loop().create_task(self._refreshed(), name="google-token")
            self._refreshing.add_done_callback(self._settle)
        return self._refreshing

    def _settle(self, task: "asyncio.Task[None]") -> None:
        self._refreshing = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._paused_until = self._clock.monotonic() + _RETRY_PAUSE_S
            _log.warning("token refresh failed: %s", error.code if isinstance(error, RouterError) else type(error))

    async def _refreshed(self) -> None:
        try:
            async with asyncio.timeout(self._deadline_s):
                await asyncio.to_thread(_refresh_in_thread, self._credentials, self._deadline_s)
        except TimeoutError:
            raise DependencyUnavailable("the Google token service did not answer in time") from None
        self._token = self._credentials.token
        expiry = self._credentials.expiry
        if expiry is None:
            self._ends_at = float("inf")
        else:
            lifetime = expiry.replace(tzinfo=UTC) - self._clock.now()
            self._ends_at = self._clock.monotonic() + lifetime.total_seconds()


def adc_tokens(*, clock: Clock) -> GoogleTokens:
    """Tokens of the Application Default Credentials: a key file, a workload identity file or the metadata server.

    They are looked for when the first token is asked for, since looking can mean asking the network; when there are
    none, that is when `ProviderAuthError` says so.
    """
    return GoogleTokens(_DefaultCredentials(), clock=clock)


def entra_federated_tokens(
    audience: str,
    scope: str,
    service_account: str | None,
    token_url: str,
    entra_credential: EntraCredential,
    *,
    clock: Clock,
    impersonation_url: str = IMPERSONATION_URL,
) -> GoogleTokens:
    """Google tokens for an Entra identity, without keys (workload identity federation).

    Args:
        audience: ``//iam.googleapis.com/projects/N/locations/global/workloadIdentityPools/P/providers/X``.
        scope: what the Entra token is asked for, e.g. ``api://gcp/.default``.
        service_account: account to impersonate, or None when the pool's principal has the roles itself.
        token_url: Google's security token service (RFC 8693).
        entra_credential: an `azure.identity` credential, synchronous; it is only called in a thread.
        clock: time.
        impersonation_url: template of the IAM Credentials endpoint.
    """
    from google.auth import identity_pool  # noqa: PLC0415 - 70 ms that only this choice of credentials needs

    impersonation = impersonation_url.format(service_account=service_account) if service_account else None
    credentials = identity_pool.Credentials(  # type: ignore[no-untyped-call]  # google-auth has no annotations
        audience=audience,
        subject_token_type="urn:ietf:params:oauth:token-type:jwt",  # noqa: S106 - the name of a token type
        token_url=token_url,
        subject_token_supplier=_entra_supplier(entra_credential, scope),
        service_account_impersonation_url=impersonation,
        scopes=[CLOUD_PLATFORM_SCOPE],
    )
    return GoogleTokens(credentials, clock=clock)


def _entra_supplier(credential: EntraCredential, scope: str) -> Any:
    from azure.core.exceptions import AzureError, ClientAuthenticationError  # noqa: PLC0415 - lazily, as above
    from google.auth import identity_pool  # noqa: PLC0415 - lazily, as above

    class EntraSupplier(identity_pool.SubjectTokenSupplier):
        """Hands the workload's Entra token to google-auth."""

        def get_subject_token(self, context: object, request: object) -> str:  # noqa: ARG002 - google-auth's signature
            try:
                return str(credential.get_token(scope).token)
            except ClientAuthenticationError:
                raise ProviderAuthError("Entra refused the router's identity", vendor_status="entra") from None
            except AzureError:
                raise DependencyUnavailable("Entra did not answer") from None

    return EntraSupplier()


class _DefaultCredentials:
    """Application Default Credentials, found at the first refresh."""

    def __init__(self) -> None:
        self.token: str | None = None
        self.expiry: datetime | None = None
        self._found: GoogleCredentials | None = None

    def refresh(self, request: Any) -> None:
        import google.auth  # noqa: PLC0415 - 70 ms that only this choice of credentials needs

        if self._found is None:
            self._found, _ = google.auth.default(scopes=[CLOUD_PLATFORM_SCOPE], request=request)
        self._found.refresh(request)
        self.token, self.expiry = self._found.token, self._found.expiry


class _Request:
    """google-auth's transport with a deadline, and the last status, which google-auth's own errors leave out."""

    def __init__(self, transport: Any, deadline_s: float) -> None:
        self._transport = transport
        self._deadline_s = deadline_s
        self.last_status = 0

    def __call__(self, url: str, method: str = "GET", **fields: Any) -> Any:
        response = self._transport(url=url, method=method, **{**fields, "timeout": self._deadline_s})
        self.last_status = response.status
        return response


def _refresh_in_thread(credentials: GoogleCredentials, deadline_s: float) -> None:
    """One synchronous refresh.

    Raises:
        ProviderAuthError: the identity was refused, or there is none.
        DependencyUnavailable: the token service is away.
    """
    import requests  # noqa: PLC0415 - google-auth's transport, needed only when a token is fetched
    from google.auth.exceptions import GoogleAuthError, TransportError  # noqa: PLC0415 - the same
    from google.auth.transport.requests import Request  # noqa: PLC0415 - the same

    with requests.Session() as session:
        request = _Request(Request(session=session), deadline_s)
        try:
            credentials.refresh(request)
        except TransportError:
            raise DependencyUnavailable("the Google token service could not be reached") from None
        except GoogleAuthError as error:
            if error.retryable or request.last_status in _TRANSIENT:
                raise DependencyUnavailable("the Google token service failed") from None
            raise ProviderAuthError("Google refused the router's identity", vendor_status="token refresh") from None
