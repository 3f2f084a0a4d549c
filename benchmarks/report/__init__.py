"""What is written: summaries, verdicts on the targets, the page."""
