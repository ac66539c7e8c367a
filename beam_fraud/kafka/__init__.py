"""How a Kafka broker is reached, and what it says when it cannot be."""
