"""From the words of a command line to one verb: help, version, errors and exit codes.

Both console scripts, `critic-jax` and `critic-data`, are a table of verbs given to `dispatch`.
Exit codes: 0 done, 1 the work failed, 2 the command or an input is wrong, 130 interrupted.
"""

import atexit
import dataclasses
import difflib
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from critic_jax import __version__
from critic_jax.errors import InputError, Stopped, WorkError
from critic_jax.files import told_if_full


@dataclass(frozen=True)
class Verb:
    """One verb of a console script.

    Attributes:
        summary: one line for the table of verbs.
        options: a dataclass; its docstring and its fields' docstrings are the verb's `--help`.
        run: does the work; gets an instance of `options`, and may return an exit code. Heavy
            imports belong inside it.
        rest: the field of `options` that takes, as a tuple of words, whatever the other fields do
            not know (`train` hands `--field value` on to its config); None refuses such words.
        verbs: of a family of verbs, those that its second word chooses among; `options` then only
            says what they have in common, and nothing is run but one of them.
    """

    summary: str
    options: type[Any]
    run: Callable[[Any], int | None]
    rest: str | None = None
    verbs: Mapping[str, "Verb"] | None = None


def family(summary: str, about: type[Any], verbs: Mapping[str, Verb]) -> Verb:
    """A verb that is followed by one of `verbs`, as `evaluate` is by `agreement`."""
    return Verb(summary, about, lambda options: None, verbs=verbs)


def dispatch(
    program: str, about: str, verbs: Mapping[str, Verb], argv: Sequence[str] | None = None
) -> int:
    """Run the verb that `argv` (by default the process's own arguments) begins with.

    Returns the exit code. An `InputError` becomes one line on stderr and code 2, a `WorkError` one
    line and code 1, `Stopped` one line and code 0. Any other exception is a fault of the program:
    it passes through, and Python leaves with a trace and 1. Where whoever reads the output has left
    (`| head`), it ends quietly, with a shell's code for that.
    """
    codes: list[int] = []
    if argv is None:
        atexit.register(_end_at_once, codes)
    try:
        codes.append(_dispatch(program, about, verbs, argv))
        sys.stdout.flush()
        return codes[0]
    except BrokenPipeError:
        if not _reader_has_left():
            raise
        # Or Python would fail again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _reader_has_left() -> bool:
    """Whether stdout is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _dispatch(
    program: str, about: str, verbs: Mapping[str, Verb], argv: Sequence[str] | None
) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview(program, about, verbs))
        return 0
    if words[0] == "--version":
        print(f"{program} {__version__}")
        return 0
    name, *arguments = words
    verb = verbs.get(name)
    try:
        if verb is None:
            raise InputError(_unknown(name, verbs, program))
        if verb.verbs is not None:
            return dispatch(f"{program} {name}", verb.options.__doc__ or "", verb.verbs, arguments)
        options = _read_options(f"{program} {name}", verb, arguments)
        _check_output(options)
        with told_if_full(getattr(options, "output", None) or Path()):
            return verb.run(options) or 0
    except InputError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return 2
    except WorkError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        print(f"{program}: {stopped}", file=sys.stderr)
        return 0
    except SystemExit as leave:  # tyro: 0 after --help, 2 after a usage error
        return leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130


def _end_at_once(codes: list[int]) -> None:
    """End an interrupted process when all that was registered later is through: what JAX still
    computes then would crash while the interpreter is taken down."""
    if codes == [130]:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)


def _read_options(program: str, verb: Verb, arguments: list[str]) -> Any:
    config = (tyro.conf.FlagCreatePairsOff,)
    if verb.rest is None:
        return tyro.cli(verb.options, prog=program, args=arguments, config=config)
    options, rest = tyro.cli(
        verb.options, prog=program, args=arguments, config=config, return_unknown_args=True
    )
    return dataclasses.replace(options, **{verb.rest: tuple(rest)})


_OUTPUTS = ("output", "out", "dst")
"""The fields of options that say where a verb writes."""


def _check_output(options: Any) -> None:
    """A path that is a URL would become a folder called `gs:`; verbs that take one read a string.

    Raises InputError for such a path, and for one where nothing can be written.
    """
    from critic_jax.remote import url_of  # not before a verb runs: it loads fsspec

    for output in (getattr(options, name, None) for name in _OUTPUTS):
        if not isinstance(output, Path):
            continue
        if url_of(output) is not None and not output.exists():
            raise InputError(
                f"--output {output}: is a URL; this verb writes to a folder, here or of a bucket "
                "that is mounted"
            )
        there = next(path for path in output.absolute().parents if os.path.lexists(path))
        if not there.is_dir():
            raise InputError(f"{output}: {there} is no folder; name another place to write to")
        if not os.access(there, os.W_OK | os.X_OK):
            raise InputError(f"{output}: {there} may not be written to; name another place")


def _overview(program: str, about: str, verbs: Mapping[str, Verb]) -> str:
    width = max(map(len, verbs))
    lines = [f"  {name:<{width}}  {verb.summary}" for name, verb in verbs.items()]
    head = [f"usage: {program} VERB [options]", "", about, ""]
    foot = ["", f"{program} VERB --help tells a verb's options; {program} --version the version."]
    return "\n".join([*head, *lines, *foot])


def _unknown(name: str, verbs: Mapping[str, Verb], program: str) -> str:
    if close := difflib.get_close_matches(name, verbs, n=1):
        return f"no verb {name!r}; did you mean {close[0]!r}?"
    return f"no verb {name!r}; the verbs are {', '.join(verbs)} ({program} --help)"
