"""Runs on disk: directories, identities, systems, sweeps, and who has read a test part."""
