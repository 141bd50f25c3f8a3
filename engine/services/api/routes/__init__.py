"""The endpoints, one file for each resource. `ROUTERS` has those below `/api/v1`, `ROOT_ROUTERS` those at the root.

To add an endpoint, write its function into the file of its resource: `route_spec` says who may call it, what it is sent
and how it may fail, and the document, the checks and the security middleware go by that. A new resource is a file here,
with a `router`, and an entry in `ROUTERS`. Of two paths that agree with a request the first one is taken.
"""

from engine.services.api.routes import batches, events, prometheus, queues, scheduler, tasks, webhooks, workers

ROUTERS = tuple(resource.router for resource in (batches, tasks, events, queues, scheduler, workers, webhooks))
ROOT_ROUTERS = (prometheus.router,)
