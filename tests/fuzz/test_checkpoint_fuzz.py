"""Checkpoint files that someone damaged, edited or made to do harm: refused by name, or read as they are.

A few in CI. A long run by hand: FUZZ_CHECKPOINTS=400 pytest -n 0 -s tests/fuzz/test_checkpoint_fuzz.py
"""

import copy
import itertools
import json
import os
import pickle
import random
import signal
import struct
import warnings

import pytest
import torch
from parts.training.arguments import parse_arguments
from parts.training.resuming import read_run
from parts.training.training_state import TrainingState
from run_checkpoint import run_checkpoint

from sparse_rcnn.nn import build_from_checkpoint, load_checkpoint, read_checkpoint, save_checkpoint
from sparse_rcnn.nn.digest import content_digest

CASES = int(os.environ.get("FUZZ_CHECKPOINTS", "10"))
SECONDS = 60  # no file may take longer
ARGUMENTS = ["--ema", "0.9", "--backbone-norm", "batch"]
WRONG = [
    *(None, True, -1, 0, 1.5, 10**9, 10**30, -(2**63), float("nan"), float("inf"), "", "a", "\x00", b"bytes"),
    *([], {}, (), [None], {"a": 1}, [[[]]], ["a"] * 7, {1: 2}, {"state": {}}, 1j),
    *(
        torch.zeros(3),
        torch.zeros(()),
        torch.zeros(2, 0),
        torch.full((8,), float("nan")),
        torch.ones(2).int(),
    ),
    *(torch.zeros(1).expand(10**9), torch.zeros(4).to_sparse(), torch.zeros(8, dtype=torch.complex64)),
]


class Code:
    """Unpickling this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture(scope="module")
def content():
    return run_checkpoint(parse_arguments(None, ARGUMENTS), step=True)


@pytest.fixture(scope="module")
def model(content):
    return build_from_checkpoint(content)


def places(value, path=()):
    """Every place in nested data, as the keys that lead to it."""
    yield path
    if isinstance(value, dict):
        for key, part in value.items():
            yield from places(part, (*path, key))
    elif isinstance(value, list) and len(value) < 20:
        for index, part in enumerate(value):
            yield from places(part, (*path, index))


def changed(content, generator):
    """A copy with one entry replaced, removed, added or stretched, and the name of the change."""
    # Each field at the top is equally likely. Otherwise nearly all changes would be in single tensors.
    top = generator.choice(list(content))
    path = (top, *generator.choice(list(places(content[top]))))
    copied = shallow = dict(content)
    for key in path[:-1]:
        shallow[key] = copy.copy(shallow[key])
        shallow = shallow[key]
    old = shallow[path[-1]]
    kind = generator.choice(["replace", "replace", "replace", "remove", "add", "shape", "value"])
    if kind == "remove":
        del shallow[path[-1]]
    elif kind == "add" and isinstance(old, dict):
        shallow[path[-1]] = {**old, generator.choice(["x", 7, "optimizer", "step"]): generator.choice(WRONG)}
    elif kind == "shape" and isinstance(old, torch.Tensor):
        shallow[path[-1]] = old.flatten()[: generator.randrange(5)] if old.dim() else old.expand(3)
    elif kind == "value" and isinstance(old, torch.Tensor) and old.is_floating_point() and old.numel():
        shallow[path[-1]] = old.clone()
        wrong = generator.choice([float("nan"), float("inf"), -1.0])
        shallow[path[-1]].view(-1)[generator.randrange(old.numel())] = wrong
    else:
        shallow[path[-1]] = generator.choice(WRONG)
    return copied, f"{kind} {path}"


def flipped(data, generator):
    data = bytearray(data)
    # Half of them in the first or last 4 KB, where the structure is.
    edge = generator.choice([len(data), 4096])
    place = generator.choice([generator.randrange(edge), len(data) - 1 - generator.randrange(edge)])
    data[place] ^= 1 << generator.randrange(8)
    return bytes(data), f"bit flipped at {place} of {len(data)}"


def mutate(kind, content, model, path, generator):
    """Writes a file of that kind. Returns the content that it must have if it can be read, and the change."""
    if kind in ("flip .pth", "cut .pth", "bytes .pth"):
        torch.save({**content, "digest": content_digest(content)}, path)
    elif kind in ("flip .safetensors", "cut .safetensors", "header .safetensors"):
        save_checkpoint(path, model, ["a"])
    elif kind == "field .pth":
        edited, what = changed(content, generator)
        if generator.random() < 0.5:
            edited.pop("digest", None)
        torch.save(edited, path)
        return None, what
    elif kind == "code .pth":
        proof = str(path.parent / "proof")
        edited, what = changed(content, generator)
        edited[generator.choice(["config", "class_names", "extra"])] = Code(proof)
        if generator.random() < 0.5:
            torch.save(edited, path)
        else:
            path.write_bytes(pickle.dumps(Code(proof), protocol=generator.choice([0, 2, 4])))
        return None, "code"
    data = path.read_bytes()
    before = content_digest(read_checkpoint(path))
    if kind.startswith("flip"):
        data, what = flipped(data, generator)
    elif kind.startswith("cut"):
        length = generator.choice([0, 1, 100, len(data) // 2, len(data) - 1, generator.randrange(len(data))])
        data, what = data[:length], f"cut to {length}"
    elif kind.startswith("bytes"):
        start = generator.randrange(len(data))
        noise = generator.randbytes(generator.choice([1, 8, 64]))
        data, what = data[:start] + noise + data[start + len(noise) :], f"noise at {start}"
    else:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        fields = json.loads(header["__metadata__"]["sparse_rcnn"])
        where = generator.choice(["fields", "config", "tensor", "length"])
        plain = [w for w in WRONG if not isinstance(w, (torch.Tensor, bytes, complex, tuple))]
        if where == "tensor":
            header[generator.choice([*header])] = generator.choice([w for w in plain if w != {1: 2}])
        elif where == "fields":
            fields[generator.choice([*fields])] = generator.choice(plain)
        elif where == "config":
            fields["config"][generator.choice([*fields["config"]])] = generator.choice(plain)
        if where != "tensor":
            header["__metadata__"]["sparse_rcnn"] = json.dumps(fields)
        written = json.dumps(header).encode()
        claimed = generator.choice([0, 2**63, len(written) + 1]) if where == "length" else len(written)
        data, what = struct.pack("<Q", claimed) + written + data[8 + length :], f"header: {where}"
    path.write_bytes(data)
    return before, what


def outcome(path, before, content):
    """The error of a reader, "" if the file was read and works. Errors must name the file."""
    said = ""
    for read in (load_checkpoint, read_run) if path.suffix == ".pth" else (load_checkpoint,):
        try:
            found = read(path)
        except ValueError as error:
            text = str(error)
        else:
            text = ""
        if text:
            assert text.startswith(str(path)), text
            assert len(text) < 2500, f"{len(text)} characters: {text[:200]}"
            said += f"{read.__name__}{text[len(str(path)) :]}; "
            continue
        if before is not None:  # the file is damaged but was read, so its content must be whole
            same = content_digest(read_checkpoint(path)) == before
            # The change may be in the name of the digest. Then there is a remark.
            noticed = any("has no digest" in remark for remark in load_checkpoint(path).remarks)
            assert same or noticed, "a changed content passed silently"
        if read is load_checkpoint:
            with torch.no_grad():
                model = build_from_checkpoint(found)
                predictions = model(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.tensor([[64, 64]]))
            assert predictions.logits.isfinite().all()
            assert predictions.boxes.isfinite().all()
        else:
            resumed = build_from_checkpoint(content)
            state = TrainingState(resumed, parse_arguments(None, ARGUMENTS), torch.device("cpu"))
            state.load(dict(found))
            for parameter in state.parameters:
                parameter.grad = torch.ones_like(parameter)
            state.advance()
            assert all(parameter.isfinite().all() for parameter in state.parameters)
    return said


KINDS = [
    *("field .pth", "flip .pth", "field .pth", "flip .safetensors", "field .pth", "cut .pth", "code .pth"),
    *("header .safetensors", "bytes .pth", "cut .safetensors"),
]


def too_long(*arguments):
    raise TimeoutError(f"a file took more than {SECONDS} s")


@pytest.mark.slow
def test_changed_checkpoints_are_refused_by_name_or_read_as_they_are(tmp_path, content, model):
    generator = random.Random(int(os.environ.get("FUZZ_SEED", "0")))
    refused, total, failures = {}, {}, []
    signal.signal(signal.SIGALRM, too_long)
    for number, kind in zip(range(CASES), itertools.cycle(KINDS), strict=False):
        path = tmp_path / f"fuzz{kind.split()[1]}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about sparse tensors
            before, what = mutate(kind, content, model, path, generator)
        signal.alarm(SECONDS)
        try:
            said = outcome(path, before, content)
            assert not (tmp_path / "proof").exists(), "code of a file was run"
            assert said or kind != "code .pth", "a file with code was read"
        except Exception as error:
            failures.append(f"case {number}, {kind}, {what}: {error!r}")
            said = f"FAILURE {error!r}"
        finally:
            signal.alarm(0)
        print(f"{number} {kind}, {what}: {said[:160] or 'read'}", flush=True)
        total[kind] = total.get(kind, 0) + 1
        refused[kind] = refused.get(kind, 0) + bool(said)
    print({kind: f"{refused[kind]} of {total[kind]} refused" for kind in total})
    assert failures == []
    assert sum(refused.values()) > CASES / 3  # otherwise the damage has no effect
