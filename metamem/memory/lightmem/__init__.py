"""LightMem: facts that a builder extracts from topics of compressed messages."""
