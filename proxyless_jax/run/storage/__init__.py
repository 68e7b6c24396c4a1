"""Storage: workdir, checkpoints, and the cache of compiled programs."""
