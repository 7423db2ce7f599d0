"""How the simulated backbone reads, answers and reviews: plain functions over prompt text, without a language model."""
