"""lb measured beside nginx, HAProxy and Caddy on one machine. docs/performance.md tells how and why."""
