"""Prompt templates and the renderer that keeps data inside its section."""
