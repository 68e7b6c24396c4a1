"""Layers that know no network."""
