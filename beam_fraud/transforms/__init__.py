"""PTransforms that wire pure functions into the graph; they hold no logic."""
