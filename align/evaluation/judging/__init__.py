"""The judge: its prompt, its verdicts and what it measures."""
