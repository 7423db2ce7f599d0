"""Data sets and splits: files on disk to typed conversations and questions."""
