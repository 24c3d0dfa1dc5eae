"""The project's own tasks: rows, their source, prompts' parts and scores."""
