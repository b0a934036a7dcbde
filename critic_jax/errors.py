"""The one error that a user's input can raise."""


class InputError(Exception):
    """A command or an input is wrong.

    The message is one line: which file, record or field, what is wrong, and what would be right.
    The command line prints it without a stack trace and leaves with exit code 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
