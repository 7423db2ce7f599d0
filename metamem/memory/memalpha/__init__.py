"""Mem-α (arXiv 2509.25911): a memory of three parts that a language model writes by tool calls, chunk by chunk."""
