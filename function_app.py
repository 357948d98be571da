"""The Function App: every function it has, by blueprint."""

import azure.functions as func

from functions import http, queues, timers

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
for blueprint in (http.blueprint, queues.blueprint, timers.blueprint):
    app.register_functions(blueprint)
