"""Runners: launch, checks before a launch, Flink, Dataflow, Prism and workers."""
