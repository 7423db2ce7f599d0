"""What is shown while a run goes on and kept when it ends."""
