"""Banks and indexes on disk, addressed by content."""
