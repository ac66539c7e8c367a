"""Work on what runs have left: dead letters, erasure and checks of a machine."""
