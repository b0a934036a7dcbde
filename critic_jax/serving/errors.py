"""What a client is told when a request cannot be answered."""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """A request is not answered: its HTTP status and one line that says what would be right.

    param: the field that is wrong. code: a word for programs. retry_after: seconds.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        # What is quoted from a request may hold what no encoding takes.
        said = " ".join(message.split()).encode(errors="replace").decode()
        super().__init__(said)
        self.status, self.code, self.retry_after = status, code, retry_after
        self.param = param and param.encode(errors="replace").decode()

    def body(self) -> dict[str, Any]:
        """The error as OpenAI's clients read it."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(self.status, kind)
        said = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return {"error": said}
