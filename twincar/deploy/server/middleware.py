"""Two small layers around the routes: responses to errors, and the prefix of a proxy."""

from __future__ import annotations

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ServerErrors:
    """Responds to an error within the other middleware, which adds its headers, and raises it again for the log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception:
            if scope["type"] == "http" and not started:
                message = "Something went wrong inside the server; see its log."
                error = {"error": message, "code": "internal_error"}
                await JSONResponse(error, 500)(scope, receive, send)
            raise


class Prefix:
    """Sets the prefix under which a proxy publishes the server, whether the proxy strips it from paths or not."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app = app
        self.root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        scope["root_path"] = self.root_path
        await self.app(scope, receive, send)
