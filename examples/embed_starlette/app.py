"""A Starlette application with a page of its own; everything else goes to backends.

BACKENDS=127.0.0.1:9001,127.0.0.1:9002 uvicorn --app-dir examples/embed_starlette app:app
"""

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from lb_core import LoadBalancer

balancer = LoadBalancer()
balancer.set("access_log", False)
with balancer.route_domain("*") as route:
    for address in os.environ.get("BACKENDS", "127.0.0.1:9001,127.0.0.1:9002").split(","):
        route.container(address)
    route.health_check("/", interval="2s")


async def hello(request: Request) -> PlainTextResponse:
    """A page that no backend serves."""
    found = balancer.explain("GET", str(request.url_for("balanced", path="/")))
    names = ", ".join(f"{backend.name} ({backend.state})" for backend in found.backends)
    return PlainTextResponse(f"Hello. Behind me: {names}.\n")


app = Starlette(
    routes=[Route("/hello", hello), Mount("/", app=balancer, name="balanced")],
    lifespan=balancer.lifespan,
)
