"""An OpenAI-style endpoint over a critic: what asks GPT-4o to judge can ask it instead."""
