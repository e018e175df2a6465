"""A model behind HTTP: `server` runs it, `app` has the routes, `worker` is the thread that computes."""
