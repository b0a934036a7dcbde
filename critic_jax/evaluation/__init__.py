"""Agreement of judgments with labels."""
