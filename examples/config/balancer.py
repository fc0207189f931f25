"""The same configuration in Python: `lb run -c balancer.py`."""

from datetime import timedelta

from lb_core import LoadBalancer

balancer = LoadBalancer()
balancer.defaults(timeouts={"connect": "1s"})

with balancer.pool("v2") as pool:
    pool.backend("127.0.0.1:9003")

with balancer.route_domain("example.com") as route:
    route.container("web1", "127.0.0.1:9001")
    route.container("web2", "127.0.0.1:9002", weight=3)
    route.strategy("p2c")
    route.health_check("/health", interval=timedelta(seconds=10))
    route.match(path_prefix="/v2", use="v2")
