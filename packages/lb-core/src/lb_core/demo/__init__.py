"""`lb demo`: three real backends, the balancer in front of them, real requests, and a view of what happens.

backend    one backend: a small HTTP server, a process of its own
processes  starts the backends, and starts one again when it was killed
scene      the configuration file, and the edits the demo suggests
traffic    the client: a steady trickle of requests over real connections
figures    what the plugin hooks tell about it, the same hooks every plugin has
view       the live picture for a terminal
tour       the three things to try, done by the demo itself where there is no terminal
show       puts it together
"""
