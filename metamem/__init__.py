"""metamem: learn and study meta-memory, the guidelines that teach a frozen LLM to use what its memory retrieves."""

__version__ = "0.1.0"
