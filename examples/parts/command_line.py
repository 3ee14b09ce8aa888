"""The command line of a script: strict options, and output that any terminal can show."""

import argparse
import difflib
import io
import os
import re
import select
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

NO_READER = 141  # the exit status of a program that SIGPIPE ended, such as git log in "git log | head"


class CommandLine(argparse.ArgumentParser):
    """A parser that takes no abbreviated options. For an unknown option, it suggests similar ones.

    Args:
        description: The description, usually the script's docstring. Its lines are not wrapped.
        options: Options of `argparse.ArgumentParser`.

    Attributes:
        command: The console command that runs the script, such as "sparse-rcnn train". None for the script
            itself.
    """

    command: str | None = None

    def __init__(self, description: str | None = None, **options: Any) -> None:
        options = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **options}
        if self.command is not None:
            options.setdefault("prog", self.command)
            description = re.sub(r"\bpython examples/(\w+)\.py", r"sparse-rcnn \1", description or "")
            description = re.sub(r"\bexamples/(\w+)\.py", r"--no-python sparse-rcnn \1", description)
        super().__init__(description=description, **options)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in `argparse`. After it, standard output and error accept every character."""
        take_every_character()
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Ends the script with one line. If an option is unknown, it names similar ones."""
        _, unknown, rest = message.partition("unrecognized arguments: ")
        words = [word.partition("=")[0] for word in rest.split() if unknown and word.startswith("--")]
        for word in words:
            if alike := self._alike(word):
                message += f"; for {word}, did you mean {' or '.join(alike)}?"
        if unknown and not rest.startswith("-") and "--data" in self._all_options():
            message += "; a data set goes after --data"
        if unknown or "are required" in message:
            message += f" ({self.prog} --help lists all options)"
        # argparse would print the usage before it: of train.py, 50 lines.
        self.exit(2, f"{self.prog}: error: {printable(message)}\n")

    def _alike(self, word: str) -> list[str]:
        """Options that begin with a word, have its initials (--lr: --learning-rate), or are spelled alike."""
        known = self._all_options()
        initials = {name: "--" + "".join(part[:1] for part in name[2:].split("-")) for name in known}
        found = [name for name in known if name.startswith(word)]
        found = found or [name for name in known if initials[name] == word]
        close = difflib.get_close_matches(word[2:], [name[2:] for name in known], n=2)
        return found or [f"--{name}" for name in close]

    def _all_options(self) -> list[str]:
        options = dict.fromkeys(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    options.update(dict.fromkeys(parser._option_string_actions))
        return [name for name in options if name.startswith("--")]


def take_every_character() -> None:
    """Lets a stream write characters that it cannot encode as backslash codes, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def printable(text: object) -> str:
    """The text on one line, without control characters. Names of files and classes may have some."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in str(text)
    )


def show_remark(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
) -> None:
    """For ``warnings.showwarning``: the library's remarks are for users, without a line of code."""
    if category.__module__.startswith("sparse_rcnn."):
        print(printable(message), file=sys.stderr)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))


def run(main: Callable[[], None], *expected: type[Exception], interrupted: str = "interrupted") -> None:
    """Runs a script; an error of the expected kinds ends it with one line, whole, and status 1."""
    warnings.showwarning = show_remark
    try:
        with ending_with_the_reader():
            main()
    except expected as error:
        sys.exit(f"error: {printable(message_of(error))}")
    except KeyboardInterrupt:
        sys.exit(interrupted)


@contextmanager
def ending_with_the_reader() -> Iterator[None]:
    """Ends a script quietly if nobody reads its output any more, as after ``| head``."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        if not is_reader_gone():  # another pipe
            raise
        sys.exit(NO_READER)
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BrokenPipeError:  # the interpreter would try it again, and complain
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def is_reader_gone() -> bool:
    """Whether standard output or error is a pipe without a reader."""
    try:
        streams = select.poll()
        for stream in (sys.stdout, sys.stderr):
            streams.register(stream, 0)  # errors are told without asking
        return bool(streams.poll(0))
    except (AttributeError, ValueError, OSError):  # Windows; a stream that is no file, as in a notebook
        return False


def message_of(error: Exception) -> str:
    """The message of an error. In an error of a DataLoader's worker, it comes after the traceback."""
    text = str(error).strip()
    if "Original Traceback" in text:
        text = re.split(r"\n[\w.]*(?:Error|Exception): ", text)[-1]
    return text or type(error).__name__
