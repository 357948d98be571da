"""POST /auth/login, /auth/refresh, /auth/logout; GET /auth/validate, /auth/jwks: router sessions."""

from functions._edge import AuditDetail, Call, Reply
from functions._headers import caller_address
from functions._wire.auth import LoginBody, RefreshBody, grant_body, validation_body
from functions._wire.parsing import parse
from shared.domain.errors import NotFound
from shared.services.sessions import SessionService


async def login(call: Call) -> Reply:
    """Turn client credentials or an Entra token into a session."""
    body, sessions, address = parse(call.body, LoginBody), _sessions(call), caller_address(call.headers)
    if body.token is not None:
        grant = await sessions.login_with_token(body.token, address=address)
    else:
        grant = await sessions.login_with_secret(body.client_id or "", body.client_secret or "", address=address)
    detail = AuditDetail(actor=grant.principal)
    return Reply(grant_body(grant, call.container.clock.now()), audit=detail)


async def refresh(call: Call) -> Reply:
    """Turn a refresh token into new tokens; it is spent then."""
    grant = await _sessions(call).refresh(parse(call.body, RefreshBody).refresh_token)
    return Reply(grant_body(grant, call.container.clock.now()), audit=AuditDetail(actor=grant.principal))


async def logout(call: Call) -> Reply:
    """End the session that the caller's token belongs to."""
    return Reply({"ended": await _sessions(call).logout(call.caller)})


async def validate(call: Call) -> Reply:
    """Say who the caller is proven to be, by what, and what that permits."""
    return Reply(validation_body(call.caller))


async def jwks(call: Call) -> Reply:
    """The public keys of session tokens, for whoever wants to check them too."""
    tokens = call.container.identity.tokens
    if tokens is None:
        raise NotFound("this router issues no session tokens")
    return Reply(await tokens.public_keys(), headers={"cache-control": "public, max-age=300"})


def _sessions(call: Call) -> SessionService:
    sessions = call.container.identity.sessions
    if sessions is None:
        raise NotFound("this router gives no sessions: its settings name no signing keys or no token audience")
    return sessions
