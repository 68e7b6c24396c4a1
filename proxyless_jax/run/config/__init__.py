"""A config: its options, how they are parsed and checked."""
