"""Many devices: what they exchange, and where arrays lie on them."""
