"""What runners of Beam need, and what they lack."""
