"""Rescore archives: partitions, manifest, resumption."""
