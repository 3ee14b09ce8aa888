"""The paper's experiments: models, costs, and tables of runs."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from parts.paper import runs
from parts.paper.costs import build_detector, config_of, count
from parts.paper.models import MODELS, SCALES, arguments_of, options_of
from parts.paper.peers import PEERS
from parts.paper.report import write_report
from parts.paper.runs import Run, train_missing
from parts.paper.tables import ABLATION, TABLES
from processes import EXAMPLES, TINY, Forked, failure_of, run_script

from sparse_rcnn.nn import ModelConfig

# In place of train.py: an AP of a tenth of the seed, and a run with seed 7 fails.
FAKE_TRAINER = f"""
import json, sys
from pathlib import Path
import torch
sys.path.insert(0, {str(EXAMPLES)!r})
from parts.training.arguments import parse_arguments, settings
from parts.training.model import model_config

arguments = parse_arguments(None)
if arguments.seed == 7:
    sys.exit("error: seed 7")
precision = None if arguments.seed == 8 else arguments.seed / 10  # nothing to find
output = Path(arguments.output)
output.mkdir(parents=True, exist_ok=True)
config = model_config(arguments, 3, None).to_dict()
checkpoint = dict(config=config, arguments=settings(arguments), optimizer=dict())
torch.save(checkpoint, output / "checkpoint.pth")
summary = dict(AP=precision, AP50=0.5, minutes=2.0)
(output / "summary.json").write_text(json.dumps(summary))
with (output.parent / "calls").open("a") as calls:
    calls.write(str(arguments.seed) + " ")
"""
# examples/, and the user's own PYTHONPATH.
EXAMPLES_FIRST = os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")])


@pytest.fixture
def fake_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "fake_trainer.py"
    script.write_text(FAKE_TRAINER)
    monkeypatch.setattr(runs, "TRAIN", script)
    monkeypatch.setattr(runs, "subprocess", SimpleNamespace(Popen=Forked, STDOUT=None))


def make_run(output: Path, name: str, seed: int) -> Run:
    options = options_of(name, SCALES["shapes"], None)
    return Run(arguments_of({**options, "seed": seed}), output / name / f"seed-{seed}")


def test_tables_and_models_know_each_other() -> None:
    named = {row.model for table in TABLES.values() for row in table.rows if row.model}
    assert named == set(MODELS)
    peers = [row.title for row in TABLES[1].rows if not row.model]
    assert set(peers) - set(PEERS) == {"Cascade R-CNN-R50"}
    assert all(row.model for number, table in TABLES.items() if number != 1 for row in table.rows)


def test_a_model_has_the_same_figures_in_all_ablations() -> None:
    figures: dict[str, set[tuple[float, ...]]] = {}
    for number, table in TABLES.items():
        for row in table.rows:
            if number == 11:  # not the paper's: AP alone, of other lengths
                assert len(row.figures) in (0, 1, 3)
                continue
            assert len(row.figures) in ((0,) if row.model == "no-interaction" else (3, 6))
            if number != 1:
                figures.setdefault(row.model, set()).add(row.figures[:3])
    assert all(len(found) == 1 for found in figures.values())
    assert figures["sparse-rcnn"] == {ABLATION[:3]}


def test_sparse_rcnn_at_the_papers_scale_is_what_the_library_builds() -> None:
    assert config_of(arguments_of(options_of("sparse-rcnn", SCALES["paper"], "coco")), 80) == ModelConfig()


@pytest.mark.parametrize(
    "scale", [pytest.param(scale, marks=[pytest.mark.slow] * (scale == "paper")) for scale in SCALES]
)
def test_every_model_is_what_its_options_say(scale: str) -> None:
    data = None if scale == "shapes" else "anything"
    seen = set()
    for name, changes in MODELS.items():
        options = options_of(name, SCALES[scale], data)
        built = config_of(arguments_of(options), 3)
        config = built.to_dict()
        assert all(
            config[k] == v
            for k, v in changes.items()
            if k not in ("num_proposals", "backbone", "crop", "iterations")
        )
        assert config["num_proposals"] == round(changes.get("num_proposals", 100) * SCALES[scale].proposals)
        assert options.get("crop", False) == (data is not None and changes.get("crop", False))
        if scale == "paper":
            with torch.device("meta"):
                build_detector(built)
        seen.add(str((sorted(config.items()), options.get("crop"), options.get("iterations"))))
    # Only the built-in shapes have no crop. Only photos have one backbone in the place of the paper's two.
    assert len(MODELS) - len(seen) == {"paper": 0, "shapes": 1, "photos": 2}[scale]


def convolution(channels: int, out: int, side: int, cells: int) -> tuple[int, int]:
    """Weights, and a multiplication and an addition for each at every cell."""
    weights = channels * out * side**2
    return weights, 2 * weights * cells


def linear(channels: int, out: int, rows: int, bias: bool = True) -> tuple[int, int]:
    return channels * out + out * bias, 2 * channels * out * rows


def resnet50_fpn(height: int, width: int) -> tuple[int, int]:
    """Parameters and FLOPs by the published table (He et al. 2016, table 1), norms frozen."""
    parts = [convolution(3, 64, 7, height * width // 4)]
    channels, cells = 64, height * width // 16
    for stage, (inner, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(blocks):
            before = cells
            if block == 0 and stage > 0:
                cells //= 4
            parts.append(convolution(channels, inner, 1, before))
            parts.append(convolution(inner, inner, 3, cells))
            parts.append(convolution(inner, 4 * inner, 1, cells))
            if block == 0:
                parts.append(convolution(channels, 4 * inner, 1, cells))
            channels = 4 * inner
        parts.append(convolution(channels, 256, 1, cells))  # FPN: lateral and output, with biases
        parts.append(convolution(256, 256, 3, cells))
        parts.append((2 * 256, 0))
    return sum(p for p, _ in parts), sum(f for _, f in parts)


def dynamic_stage(n: int, c: int, d: int, f: int, k: int) -> tuple[int, int]:
    """Parameters and FLOPs of a stage of Sparse R-CNN with pooling 7."""
    norms = 2 * (3 * c + d + 2 * c + 4 * c)  # three of the stage, three of the interaction, four of towers
    parts = [
        linear(c, 3 * c, n),  # attention
        linear(c, c, n),
        (0, 2 * 2 * n * n * c),
        linear(c, 2 * c * d, n),  # interaction
        (0, 2 * 2 * n * 49 * c * d),
        linear(49 * c, c, n),
        linear(c, f, n),
        linear(f, c, n),
        *[linear(c, c, n, bias=False)] * 4,
        linear(c, k, n),
        linear(c, 4, n),
    ]
    return norms + sum(p for p, _ in parts), sum(f for _, f in parts)


def box_head_stage(n: int, c: int, f: int, k: int, reused: bool) -> tuple[int, int]:
    parts = [linear(49 * c, f, n), linear(f + c * reused, c, n), linear(c, k, n), linear(c, 4, n)]
    return sum(p for p, _ in parts), sum(f for _, f in parts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stage", "stages", "proposal"),
    [
        ("sparse-rcnn", dynamic_stage(100, 256, 64, 2048, 80), 6, 4 + 256),
        ("learned-boxes", box_head_stage(100, 256, 1024, 80, False), 1, 4),
        ("iterative", box_head_stage(100, 256, 1024, 80, True), 6, 4 + 256),
    ],
)
def test_costs_by_hand(name: str, stage: tuple[int, int], stages: int, proposal: int) -> None:
    height, width = 64, 96
    config = config_of(arguments_of(options_of(name, SCALES["paper"], "coco")), 80)
    parameters, flops = resnet50_fpn(height, width)
    cost = count(lambda: build_detector(config), (height, width))
    assert cost.parameters == parameters + stages * stage[0] + 100 * proposal
    assert cost.flops == flops + stages * stage[1]


@pytest.mark.slow
@pytest.mark.usefixtures("fake_trainer")
def test_table_trains_what_is_missing_and_tells_what_came_of_it(tmp_path: Path) -> None:
    output = tmp_path / "runs"
    names = {"positional-encoding": (2,), "sparse-rcnn": (2, 4)}
    runs = {name: [make_run(output, name, seed) for seed in seeds] for name, seeds in names.items()}
    everything = [run for seeds in runs.values() for run in seeds]
    assert train_missing(everything, jobs=2) == []
    assert train_missing(everything, jobs=2) == []
    assert sorted((output / "sparse-rcnn" / "calls").read_text().split()) == ["2", "4"]  # once each
    assert "seed-2.log" in {path.name for path in (output / "sparse-rcnn").iterdir()}
    first = everything[0]
    assert first.result() is not None
    assert first._replace(words=[*first.words, "--learning-rate", "1e-5"]).result() is None
    longer = first._replace(words=[*first.words, "--resume", "--iterations", "2000"])
    assert longer.result() is None
    found = longer.found()
    assert found is not None
    assert "--iterations was 900, not 2000" in found[1]
    assert first._replace(words=[*first.words, "--workers", "3"]).result() is not None  # changes nothing

    # A failed run causes a message. The table has the other runs.
    failing = make_run(output, "sparse-rcnn", 7)
    (problem,) = train_missing([*everything, failing], 1)
    assert problem.startswith("sparse-rcnn, seed-7: train.py ended with 1: error: seed 7; see ")
    runs["sparse-rcnn"].append(failing)
    write_report(10, runs, SCALES["shapes"], output, 1, torch.device("cpu"))
    with_, without = json.loads((output / "table10.json").read_text())["rows"]
    assert [run["AP"] for run in with_["runs"]] == [0.2]
    config = config_of(everything[0].words, 3)
    assert with_["parameters"] == count(lambda: build_detector(config), (128, 128)).parameters
    assert with_["flops"] == without["flops"] > 1e8
    lines = (output / "table10.md").read_text().splitlines()
    row = [cell.strip() for cell in next(line for line in lines if line.startswith("| without")).split("|")]
    assert row[2:7] == ["42.3", "+0.4", "30.0 ± 14.1", "+10.0", "50.0"]
    assert row[7] == f"{without['parameters'] / 1e6:.3g} (×1.00)"
    assert row[10] == "2 (×1.00)"
    assert (output / "table10.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.usefixtures("fake_trainer")
def test_a_table_tells_of_runs_that_it_cannot_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = make_run(Path("runs"), "sparse-rcnn", 8)
    assert train_missing([run], 1) == []
    assert "sparse-rcnn, seed-8: AP none in 2.0 min" in capsys.readouterr().out
    table = ("table", "10", "--seeds", "8", "--output", "runs")
    with pytest.raises(ValueError, match=r"seed-8 is complete, but --precision was fp32, not bf16: give"):
        run_here(monkeypatch, *table, "--", "--precision", "bf16")
    assert (run.output / "summary.json").is_file()
    (run.output / "summary.json").write_text("")
    with pytest.raises(ValueError, match=r"seed-8/summary\.json: damaged"):
        run_here(monkeypatch, *table)
    (run.output / "checkpoint.pth").unlink()
    with pytest.raises(ValueError, match=r"seed-8/checkpoint\.pth"):
        run_here(monkeypatch, *table, "--collect")


@pytest.mark.slow
def test_train_is_train_py(tmp_path: Path) -> None:
    done = run_script(
        *("experiments.py", "train", "self-attention", "--seed", "3", "--output", "runs", "--"),
        *TINY,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    output = tmp_path / "runs" / "self-attention" / "seed-3"
    checkpoint = torch.load(output / "checkpoint.pth", weights_only=True)
    assert checkpoint["arguments"]["seed"] == 3
    assert checkpoint["config"]["interaction"] == "fully_connected"
    assert checkpoint["config"]["num_proposals"] == 5
    assert "head.stages.1.interaction.fc2.weight" in checkpoint["model"]
    words = arguments_of({**options_of("self-attention", SCALES["shapes"], None), "seed": 3})
    assert Run([*words, *TINY], output).result() is not None
    found = Run(words, output).found()
    assert found is not None
    assert "--num-proposals was 5, not 12" in found[1]
    done = run_script(
        "detect.py", output / "checkpoint.pth", "data/shapes-2000/val2017", "--threshold", "0", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


# In place of train.py: when it is interrupted, it needs a second to save its state.
SLOW_TO_SAVE = """
import signal, sys, time
from pathlib import Path

def save(*_):
    time.sleep(1)
    Path("saved").touch()
    sys.exit()

signal.signal(signal.SIGINT, save)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_an_interrupted_training_is_given_the_time_to_save(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW_TO_SAVE)
    code = "import parts.paper.runs as r, pathlib, signal;"
    code += "signal.signal(signal.SIGINT, signal.default_int_handler);"
    code += "r.TRAIN = 'slow.py'; r.Run([], pathlib.Path('out/one')).train()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": EXAMPLES_FIRST},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: all of the group hear it
        assert process.wait(timeout=60) != 0
    assert (tmp_path / "saved").exists()


def run_here(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    import experiments

    monkeypatch.setattr(sys, "argv", ["experiments.py", *arguments])
    experiments.main()


def test_list_names_every_model(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run_here(monkeypatch, "list")
    said = capsys.readouterr().out
    assert all(name in said for name in [*MODELS, *PEERS])


@pytest.mark.slow
def test_show_tells_figures_costs_and_a_command_that_parses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here(monkeypatch, "show", "stages-1")
    said = capsys.readouterr().out
    assert "Table 8, 1: AP 21.7, AP50 36.7, AP75 22.3, 35 images/s on a V100, 12 h" in said
    assert "num_stages=1" in said
    assert "271.6 GFLOP at 800 x 1216" in said
    for line in said.splitlines():
        if line.startswith("  python examples/train.py "):
            assert config_of(line.split()[2:], 6).num_stages == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "stages-5"], "there is no model 'stages-5', but sparse-rcnn, "),
        (["train", "stages-5"], "there is no model 'stages-5'"),
        (["table", "2"], "invalid choice: 2"),
        (["table", "5", "--scale", "paper"], "--scale paper needs --data"),
        (["table", "5", "--scale", "shapes", "--data", "x"], "--scale shapes is for the built-in shapes"),
        (["table", "5", "--jobs", "0"], "--jobs must be at least 1"),
        (["table", "5", "--seeds", "1", "1"], "--seeds must differ"),
        (["table", "5", "--jobs", "2", "--processes", "2"], "--jobs and --processes do not go together"),
        (["train", "cascade", "--", "--seed", "1"], '--seed goes before "--"'),
        (["table", "5", "--", "--seed=1"], '--seed goes before "--"'),
        ([], "required: list, show, train or table"),
    ],
)
def test_errors(arguments: list[str], message: str) -> None:
    assert message in failure_of("experiments.py", *arguments)


def test_what_is_only_measured_is_shown_by_the_name_in_the_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here(monkeypatch, "list")
    assert "DETR-R50 " in capsys.readouterr().out
    run_here(monkeypatch, "show", "DETR-R50")
    said = capsys.readouterr().out
    assert "Table 1, DETR-R50: AP 42.0" in said
    assert "nothing to train" in said
