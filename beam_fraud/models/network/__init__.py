"""Neural networks: fitted by Keras, scored without it."""
