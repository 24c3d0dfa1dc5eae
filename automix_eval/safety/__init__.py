"""What comes in from others and what goes out: errors, redaction, bounded reading, files, text."""
