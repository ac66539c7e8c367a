"""The analysts' pages over HTTP."""
