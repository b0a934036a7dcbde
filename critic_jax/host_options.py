"""The options of verbs that several processes may run as one."""

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class HostOptions:
    """Which process of a run this is."""

    coordinator: str | None = None
    """HOST:PORT of process 0, where this is one of several; a TPU pod is joined without it."""
    processes: int | None = None
    """How many processes there are."""
    process: int | None = None
    """Which of them this is, from 0."""

    def join(self) -> dict[str, Any]:
        """Become one of the run's processes, if there are several; returns the other options."""
        from critic_jax.hosts import join_hosts

        join_hosts(self.coordinator, self.processes, self.process)
        own = {field.name for field in fields(HostOptions)}
        return {name: value for name, value in vars(self).items() if name not in own}

    @property
    def leads(self) -> bool:
        """Whether this process prints what all of them came to."""
        from critic_jax.hosts import is_first

        return is_first()
