"""The errors that a command tells in one line."""


class InputError(Exception):
    """A command or an input is wrong.

    The message is one line: which file, record or field, what is wrong, and what would be right.
    The command line prints it without a stack trace and leaves with exit code 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class Stopped(Exception):
    """The work was asked to stop, is saved and can go on: no error.

    One line that says where it stands; the command line prints it and leaves with exit code 0.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class WorkError(Exception):
    """The command and its input are right, but the work could not be finished: a full disk.

    One line, as `InputError`; the command line leaves with exit code 1.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
