"""The one table of routes, and the blueprint made from it."""

import azure.functions as func

from functions import analysis, audit, auth, chat, embeddings, health, limits, receipts, responses, routing
from functions._edge import Route, entry
from functions._idempotency import once
from shared.domain.identity import Permission, SignedIn
from shared.domain.limits import EndpointClass

OPEN = None
PREFIX = "v1"

ROUTES = (
    Route(
        "route",
        "POST",
        "route",
        Permission.ROUTER_INVOKE,
        once(routing.route),
        "Choose a model, call it, say why.",
        limits=EndpointClass.GENERATE,
    ),
    Route(
        "chat_completions",
        "POST",
        "chat/completions",
        Permission.ROUTER_INVOKE,
        once(chat.chat_completions),
        "OpenAI-compatible chat completions.",
        limits=EndpointClass.GENERATE,
    ),
    Route(
        "responses",
        "POST",
        "responses",
        Permission.ROUTER_INVOKE,
        once(responses.responses),
        "OpenAI-compatible responses.",
        limits=EndpointClass.GENERATE,
    ),
    Route(
        "embeddings",
        "POST",
        "embeddings",
        Permission.ROUTER_INVOKE,
        once(embeddings.embeddings),
        "OpenAI-compatible embeddings.",
        limits=EndpointClass.EMBED,
    ),
    Route("models", "GET", "models", Permission.ROUTER_INVOKE, chat.list_models, "The models of the registry."),
    Route("model", "GET", "models/{*model:minlength(1)}", Permission.ROUTER_INVOKE, chat.get_model, "One model."),
    Route(
        "analyze",
        "POST",
        "analyze",
        Permission.ROUTER_INVOKE,
        analysis.analyze,
        "Read a request, with reasons.",
        limits=EndpointClass.ANALYZE,
    ),
    Route(
        "classify",
        "POST",
        "classify",
        Permission.ROUTER_INVOKE,
        analysis.classify,
        "The category of a request.",
        limits=EndpointClass.ANALYZE,
    ),
    Route("categories", "GET", "categories", Permission.ROUTER_INVOKE, analysis.categories, "The taxonomy."),
    Route("limits", "GET", "limits", Permission.ROUTER_INVOKE, limits.show, "The caller's limits and budgets."),
    Route(
        "receipt",
        "GET",
        "receipts/{request_id}",
        Permission.ANALYTICS_READ,
        receipts.show,
        "The receipt of a decision, decided again.",
    ),
    Route(
        "verify_receipt",
        "POST",
        "receipts/{request_id}/verify",
        Permission.ANALYTICS_READ,
        receipts.verify,
        "Decide again, compare, and check the chain.",
    ),
    Route(
        "login",
        "POST",
        "auth/login",
        OPEN,
        auth.login,
        "Client credentials or an Entra token become a session.",
        audited="auth.login",
    ),
    Route(
        "refresh",
        "POST",
        "auth/refresh",
        OPEN,
        auth.refresh,
        "A refresh token becomes new tokens, once.",
        audited="auth.refresh",
    ),
    Route(
        "logout",
        "POST",
        "auth/logout",
        SignedIn.ANYBODY,
        auth.logout,
        "End the caller's session.",
        audited="auth.logout",
    ),
    Route("validate", "GET", "auth/validate", SignedIn.ANYBODY, auth.validate, "Who the caller is proven to be."),
    Route("jwks", "GET", "auth/jwks", OPEN, auth.jwks, "Public keys of session tokens."),
    Route("audit", "GET", "audit", Permission.AUDIT_READ, audit.audit, "The audit trail.", audited="audit.read"),
    Route("health", "GET", "health", OPEN, health.health, "Liveness."),
    Route("health_ready", "GET", "health/ready", OPEN, health.ready, "Readiness, by dependency."),
)

blueprint = func.Blueprint()
for _route in ROUTES:
    blueprint.function_name(_route.name)(
        blueprint.route(route=f"{PREFIX}/{_route.path}", methods=[_route.method], auth_level=func.AuthLevel.ANONYMOUS)(
            entry(_route)
        )
    )
