"""Templates, verdicts, and the judge. Templates and verdicts import no jax."""
