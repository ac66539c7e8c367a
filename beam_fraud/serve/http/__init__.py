"""The HTTP side of `serve`: server, routes, tokens, limits, problems, access log."""
