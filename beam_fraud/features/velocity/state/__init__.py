"""The velocity engine for streams: rows in order of arrival, and the state they need."""
