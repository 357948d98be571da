"""Services of Azure that cannot run here, as a local server: the SDK believes to talk to Azure over TLS."""

from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

from aiohttp import web
from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import AioHttpTransport


class LocalTransport(AioHttpTransport):
    """Sends every request to one local address, whatever host it names."""

    def __init__(self, base):
        super().__init__()
        self._base = urlsplit(base)

    async def send(self, request, **options):
        asked = request.url
        _, _, path, query, _ = urlsplit(asked)
        request.url = urlunsplit((self._base.scheme, self._base.netloc, path, query, ""))
        try:
            return await super().send(request, **options)
        finally:
            request.url = asked


class StaticCredential:
    """An identity with one token."""

    async def get_token(self, *_scopes, **_options):
        return AccessToken("token", 2**33)

    async def close(self):
        """Nothing to close."""


@asynccontextmanager
async def serving(handle):
    """The address of a server that answers every request by `handle(request)`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
