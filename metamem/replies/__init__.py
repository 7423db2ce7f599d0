"""What models write, read once: reasoning, JSON inside text, tool calls, verdicts."""
