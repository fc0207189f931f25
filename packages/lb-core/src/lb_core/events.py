"""What happens outside the request path, as told to `on_event`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth telling a person or another system.

    `kind` is one of `backend_up`, `backend_down`, `backend_starting`, `backend_ejected`, `backend_restored`,
    `backend_draining`, `backend_maintenance`, `backend_active`, `config_loaded`, `config_refused`, `listener_open`,
    `listener_failed`, `connections_refused`, `proxy_header_refused`, `name_unresolved`, `name_resolved`,
    `reopen_logs`, `restart_needed`, `node_draining`, `node_resumed`, `upgrading`, `upgraded`, `upgrade_failed`,
    `leaving`, `shutdown`, and, where there are workers, `worker_started`, `worker_died`, `worker_hung`,
    `worker_failed`, `worker_crash_loop`, `workers_restarting`, `workers_restarted`, `workers_restart_failed`,
    `nursery_lost`; plugins add their own. `time` is seconds since the epoch.
    """

    kind: str
    message: str
    route: str = ""
    backend: str = ""
    details: Mapping[str, object] = field(default_factory=dict)
    time: float = field(default_factory=time.time)

    def __str__(self) -> str:
        subject = self.backend or self.route
        return f"{self.kind}: {subject}: {self.message}" if subject else f"{self.kind}: {self.message}"


Notify = Callable[[Event], None]
