"""Checks of this machine and of runners."""
