"""Language models behind one contract, the roles they play, and the journal of their replies."""
