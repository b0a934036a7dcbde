"""Making critic data: answers, judgments and reasons, asked of models within a budget."""
