"""The modules of whole networks."""
