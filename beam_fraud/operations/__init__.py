"""Operations: dead letters, erasure and checks of a machine."""
