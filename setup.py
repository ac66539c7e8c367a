"""Lets Beam's `--setup_file` build a source distribution; the metadata is in pyproject.toml."""

from setuptools import setup

setup()
