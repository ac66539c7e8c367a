"""Records to transactions: parsing, validation and duplicates, as pure functions over Arrow."""
