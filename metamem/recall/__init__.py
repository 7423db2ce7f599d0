"""What of a meta-memory one question's prompt is given."""
