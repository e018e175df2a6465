"""HTTP server of a model: `server` runs it, `app` defines the routes, `worker` is the compute thread."""
