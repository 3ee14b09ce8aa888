"""A large JSON object, read piece by piece: a long list comes as many short lists of entries.

`json.load` of Objects365 (2 million images, 25 million boxes) makes Python objects of over 20 GB. Here the
text is cut between two entries of a list, each piece is parsed by the same parser, and the caller keeps
columns. A wrong cut, inside an entry, cannot pass: the piece is not valid JSON then, and another is tried.
"""

import gc
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

__all__ = ["CUTS", "PIECE", "Consume", "Consumed", "read_sections"]

try:
    import orjson
except ImportError:  # it parses two to three times as fast, but may not be installed
    orjson = None  # type: ignore[assignment,unused-ignore]

PIECE = 1 << 16  # characters parsed at a time: the result fits in the processor's cache
CUTS = 8  # places to cut at that are tried before more is read
Consume = Callable[[list[Any], int], None]
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def read_sections(file: Path, consumers: Mapping[str, Consume]) -> dict[str, Any]:
    """Reads a JSON object and gives its lists away in pieces.

    Args:
        file: The JSON.
        consumers: By name of a list: called with some entries and the number of the first.

    Returns:
        All other members of the object, parsed. A list that was given away stands there as `Consumed`.

    Raises:
        ValueError: If the file cannot be read, or is not a JSON object; with the place of the fault.
    """
    collecting = gc.isenabled()
    gc.disable()  # there is no garbage, and to look for it would take half the time
    try:
        with open(file, "rb") as head:
            encoding = json.detect_encoding(head.read(4))
        with open(file, encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="") as stream:
            return _Sections(stream, consumers).read()
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error}") from error
    except _Fault as error:
        raise ValueError(f"{file}: {error}") from error
    except (UnicodeError, RecursionError) as error:
        raise ValueError(f"{file}: is not valid JSON: {error}") from error
    except ValueError as error:  # of int(): a number of thousands of digits
        if str(file) in str(error):
            raise
        raise ValueError(f"{file}: is not valid JSON: {error}") from error
    finally:
        if collecting:
            gc.enable()


class Consumed(int):
    """The number of entries of a list that was given away."""


class _Fault(Exception):
    pass


class _Sections:
    """The text read so far and not yet parsed, and the place in it."""

    def __init__(self, stream: TextIO, consumers: Mapping[str, Consume]) -> None:
        self.stream = stream
        self.consumers = consumers
        self.text = ""
        self.at = 0
        self.passed = 0  # characters before the text
        self.ended = False  # the text reaches to the end of the file

    def read(self) -> dict[str, Any]:
        if self._next() != "{":
            self._refuse_value()
        self.at += 1
        members: dict[str, Any] = {}
        while (sign := self._next()) != "}":
            if members:
                self._expect(",")
                sign = self._next()
            if sign != '"':
                raise self._fault("a name in double quotes is expected", self.at)
            name = self._value()
            self._expect(":")
            if self._next() == "[" and name in self.consumers:
                if name in members:
                    raise _Fault(f"is not valid: {name!r} occurs twice")
                members[name] = Consumed(self._list(self.consumers[name]))
            else:
                members[name] = self._value()
        self.at += 1
        if self._next():
            raise self._fault("extra text after the object", self.at)
        return members

    def _refuse_value(self) -> None:
        value = self._value()
        raise _Fault(f"expected a JSON object, got {type(value).__name__}")

    def _list(self, consume: Consume) -> int:
        self.at += 1
        count = 0
        while self._next() != "]":
            if count:
                self._expect(",")
                self._next()
            entries, closed = self._entries()
            consume(entries, count)
            count += len(entries)
            if closed:
                return count
        self.at += 1
        return count

    def _entries(self) -> tuple[list[Any], bool]:
        """The entries of the next piece, and whether the list ends with them."""
        while True:
            cut = len(self.text) if self.ended else self._cut_before(len(self.text))
            for _ in range(CUTS):
                if cut <= self.at:
                    break
                found = self._parse(cut)
                if found is not None:
                    return found
                cut = self._cut_before(cut)
            self._more(2 * len(self.text) - 2 * self.at)

    def _cut_before(self, end: int) -> int:
        """Where the list can be cut: after the last `}` before `end` that `, {` follows. -1 if nowhere."""
        while (brace := self.text.rfind("{", self.at + 1, end)) > 0:
            before = self.text[max(self.at, brace - 200) : brace].rstrip(" \t\n\r")
            if before.endswith(",") and before[:-1].rstrip(" \t\n\r").endswith("}"):
                return self.text.rindex("}", self.at, brace) + 1
            end = brace
        return -1

    def _parse(self, cut: int) -> tuple[list[Any], bool] | None:
        piece = f"[{self.text[self.at : cut]}]"
        if orjson is not None and not (self.ended and cut == len(self.text)):
            try:
                entries = orjson.loads(piece)
            except ValueError:
                pass  # NaN, a wrong cut, or the end of the list: judged below
            else:
                self.at = cut
                return entries, False
        try:
            entries, end = _DECODER.raw_decode(piece)
        except json.JSONDecodeError as error:
            wrong_cut = error.pos >= len(piece) - 1 or error.msg.startswith("Unterminated string")
            if wrong_cut and not (self.ended and cut == len(self.text)):
                return None
            raise self._fault(error.msg, self.at + error.pos - 1) from error
        if end == len(piece):
            if self.ended and cut == len(self.text):
                raise self._fault("the list does not end", cut)
            self.at = cut
            return entries, False
        self.at += end - 1
        return entries, True

    def _value(self) -> Any:
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                if self.ended:
                    raise self._fault(error.msg, error.pos) from error
            else:
                if end < len(self.text) or self.ended:  # else a number may go on
                    self.at = end
                    return value
            self._more(len(self.text))

    def _next(self) -> str:
        """The next character that is no space. "" at the end."""
        while True:
            match = _SPACE.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if self.ended:
                return ""
            self._more(0)

    def _expect(self, sign: str) -> None:
        if self._next() != sign:
            raise self._fault(f"{sign!r} is expected", self.at)
        self.at += 1

    def _more(self, least: int) -> None:
        wanted = max(PIECE, least)
        more = self.stream.read(wanted)
        self.passed += self.at
        self.text, self.at = self.text[self.at :] + more, 0
        self.ended = len(more) < wanted

    def _fault(self, reason: str, at: int) -> _Fault:
        shown = self.text[at : at + 20]
        got = f"got {shown!r}" if shown else "the file ends"
        return _Fault(f"is not valid JSON: character {self.passed + at}: {reason}, {got}")
