"""Serving the page to this machine alone."""

import socket
from typing import Any

from flask import Flask, abort, request
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from .page import make_app
from .session import Session

HOST = "127.0.0.1"
_LARGEST = 1 << 20
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; worker-src 'self' blob:; frame-ancestors 'none'; form-action 'none'; base-uri 'none'"
)


class _Quiet(WSGIRequestHandler):
    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Says nothing."""


def serve(session: Session, port: int) -> BaseWSGIServer:
    """A server on 127.0.0.1, not running yet: ``serve_forever`` runs it, and ``port`` is its port.

    It answers only requests that name this machine as their host, so no other page can reach it by a name of its own,
    and allows the page to load nothing from elsewhere.

    Args:
        session: of the subject.
        port: the port; 0 for any that is free.

    Raises:
        OSError: if the port is taken.
    """
    app: Flask = make_app(session).server  # pyright: ignore[reportAssignmentType]
    app.config["MAX_CONTENT_LENGTH"] = _LARGEST
    with socket.create_server((HOST, port)) as bound:  # raises where make_server would end the process
        server = make_server(HOST, bound.getsockname()[1], app, True, request_handler=_Quiet, fd=bound.fileno())
    names = {f"{name}:{server.port}" for name in (HOST, "localhost")}

    @app.before_request
    def refuse_others() -> None:
        origin = request.headers.get("Origin")
        if request.host not in names or (origin is not None and origin.removeprefix("http://") not in names):
            abort(403)

    @app.after_request
    def restrict(response: Any) -> Any:
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    return server
