"""From an attempt to a verdict: judges, rubrics, text metrics, and the reader of judges' replies."""
