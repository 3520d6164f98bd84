"""The hand-off: graphs, bundles, and adapting to a user's own tasks."""
