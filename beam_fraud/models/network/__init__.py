"""Neural networks: fitted by Keras, which is not needed any more to score."""
