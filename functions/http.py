"""The one table of routes, joined from its halves, and the blueprint made from it."""

import azure.functions as func

from functions._edge import entry
from functions.routes_admin import ADMINISTRATION
from functions.routes_serving import SERVING

PREFIX = "v1"

ROUTES = (*SERVING, *ADMINISTRATION)

blueprint = func.Blueprint()
for _route in ROUTES:
    blueprint.function_name(_route.name)(
        blueprint.route(route=f"{PREFIX}/{_route.path}", methods=[_route.method], auth_level=func.AuthLevel.ANONYMOUS)(
            entry(_route)
        )
    )
