"""The generated world: conversations and questions in LongMemEval's types, drawn by a seed."""
