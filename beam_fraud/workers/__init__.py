"""Python workers for runners elsewhere: Flink asks a pool of them for one, and it is there."""
