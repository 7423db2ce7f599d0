"""From a bank and a question to evidence: retrievers, the token budget, rendering and retrieval metrics."""
