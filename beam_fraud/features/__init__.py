"""Features as pure functions: Arrow in, arrays out."""
