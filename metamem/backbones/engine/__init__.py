"""Engines that run inside the experiment's process tree: started, asked, rebuilt when they die, and ended."""
