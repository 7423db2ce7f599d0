"""Memory systems: constructors that turn a conversation into a bank of units, and the store that keeps banks."""
