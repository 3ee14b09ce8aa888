import io
import os
import subprocess
import sys

import pytest
from parts.command_line import CommandLine, message_of, printable, run
from processes import EXAMPLES


def make_parser():
    parser = CommandLine("what it does")
    parser.add_argument("--batch-size", type=int)
    commands = parser.add_subparsers()
    commands.add_parser("train").add_argument("--learning-rate", type=float)
    return parser


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--batch=3"], "--batch-size"),
        (["--bath-size=3"], "--batch-size"),
        (["train", "--learnin-rate"], "--learning-rate"),
        (["train", "--lr"], "--learning-rate"),
    ],
)
def test_no_abbreviated_options_but_a_word_on_what_was_meant(words, meant, capsys):
    with pytest.raises(SystemExit):
        make_parser().parse_args(words)
    said = capsys.readouterr().err
    assert f"did you mean {meant}?" in said
    assert said.count("\n") == 1  # no usage of many lines before it


def test_a_data_set_without_its_option_is_told_the_option(capsys):
    with pytest.raises(SystemExit):
        CommandLine("").parse_args(["photos"])
    assert "--data" not in capsys.readouterr().err
    parser = CommandLine("")
    parser.add_argument("--data")
    with pytest.raises(SystemExit):
        parser.parse_args(["photos"])
    assert "photos; a data set goes after --data (" in capsys.readouterr().err


def test_streams_take_every_character(monkeypatch):
    strict = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", strict)
    make_parser().parse_args([])
    print("日\udcff")
    strict.flush()
    assert strict.buffer.getvalue() == b"\\u65e5\\udcff\n"


def test_names_cannot_steer_the_terminal():
    assert printable("a\nb\x1b[31m\udcff 日本") == r"a\nb\x1b[31m\udcff 日本"


def test_an_error_ends_with_one_whole_line():
    def fail():
        raise ValueError("new\nline.jpg: is wrong")

    with pytest.raises(SystemExit, match=r"^error: new\\nline.jpg: is wrong$"):
        run(fail, ValueError)
    told = ValueError(
        "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "x.py", line 1\nValueError: new\nline.jpg: is wrong'
    )
    assert message_of(told) == "new\nline.jpg: is wrong"
    with pytest.raises(KeyError):
        run(lambda: {}["a fault of the program"], ValueError)


@pytest.mark.parametrize(
    ("unbuffered", "lines", "end", "status", "said"),
    [
        ("", 100_000, "pass", 141, ""),
        ("1", 1, "pass", 141, ""),
        ("", 1, "raise ValueError('wrong')", 1, "error: wrong\n"),  # the line is still in the buffer
    ],
)
def test_a_script_ends_quietly_with_the_reader_of_its_output(unbuffered, lines, end, status, said):
    code = f"""
from parts.command_line import run
def main():
    for line in range({lines}):
        print(line)
    {end}
run(main, ValueError, OSError)
"""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=EXAMPLES,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (status, said)


def test_another_broken_pipe_is_an_error():
    def fail():
        raise BrokenPipeError("of a worker")

    with pytest.raises(SystemExit, match=r"^error: of a worker$"):
        run(fail, OSError)
