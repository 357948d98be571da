"""The one table of routes, and the blueprint made from it."""

import azure.functions as func

from functions import analysis, chat, health, receipts, routing
from functions._edge import Route, entry
from shared.domain.identity import Permission

OPEN = None
PREFIX = "v1"

ROUTES = (
    Route("route", "POST", "route", Permission.ROUTER_INVOKE, routing.route, "Choose a model, call it, say why."),
    Route(
        "chat_completions",
        "POST",
        "chat/completions",
        Permission.ROUTER_INVOKE,
        chat.chat_completions,
        "OpenAI-compatible chat completions.",
    ),
    Route("models", "GET", "models", Permission.ROUTER_INVOKE, chat.list_models, "The models of the registry."),
    Route("model", "GET", "models/{*model:minlength(1)}", Permission.ROUTER_INVOKE, chat.get_model, "One model."),
    Route("analyze", "POST", "analyze", Permission.ROUTER_INVOKE, analysis.analyze, "Read a request, with reasons."),
    Route("classify", "POST", "classify", Permission.ROUTER_INVOKE, analysis.classify, "The category of a request."),
    Route("categories", "GET", "categories", Permission.ROUTER_INVOKE, analysis.categories, "The taxonomy."),
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
