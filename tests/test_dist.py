"""Distributed training equals training in one process: losses, gradients, runs, and the loss of a process.

Run: pytest tests/test_dist.py
"""

from __future__ import annotations

import json
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpt1 import backends, cli
from gpt1.backends import dist
from gpt1.backends.parameters import initialise
from gpt1.checkpoint.run_dir import RunDirectory
from gpt1.config import DeviceConfig, DropoutConfig, Head, LoopConfig, ModelConfig, PretrainConfig
from gpt1.data.corpus.windows import TrainingWindows, ValidationWindows
from gpt1.errors import PeerLost, UserError
from gpt1.tokenization.tokenizer import Tokenizer
from gpt1.training import pretrain
from support import rank_process
from support.launchers import AFTER_STEPS, PATIENCE, SAME, assert_same_run, call, call_two, dies_at_step, events

FLAGS = [
    "--size", "tiny", "--vocab-size", "90", "--context", "16", "--max-steps", "12", "--warmup", "3", "--lr", "0.003",
    "--batch-size", "4", "--micro-batch-size", "2", "--embd-pdrop", "0.1", "--attn-pdrop", "0", "--resid-pdrop", "0",
    "--eval-every", "6", "--save-every", "2", "--log-every", "2", "--valid-fraction", "0.1", "--dtype", "float32",
    "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = random.Random(0)
    words = ["the", "fox", "ran", "over", "a", "hill", "and", "hen", "sat", "still", "by", "its", "warm", "red", "nest"]
    books = ("\n".join(" ".join(draw.choices(words, k=9)) + "." for _ in range(150)) for _ in range(3))
    path = tmp_path_factory.mktemp("text") / "books.txt"
    path.write_text("\n<|endofbook|>\n".join(books), encoding="utf-8")
    return path


# ---- one step


def assert_close(found: Any, expected: Any) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert np.abs(found - expected).max() <= SAME * max(1e-3, np.abs(expected).max())


def test_losses_and_gradients_of_unequal_lengths_are_those_of_one_process(backend: str, tmp_path: Path) -> None:
    """Each rank has half of a step, or one has all of it; dropout depends on the micro-batch, not on the rank."""
    words = [str(Path(rank_process.__file__)), backend]
    for done in (
        call([*words, str(tmp_path / "one")]),
        call_two(backend, [*words, str(tmp_path / "two")], tmp_path / "logs"),
    ):
        assert done.returncode == 0, done.said
    one, first, second = (json.loads((tmp_path / name).read_text()) for name in ("one.0", "two.0", "two.1"))
    assert first == second  # bit for bit the same on each rank, otherwise the ranks would diverge
    assert one.keys() == first.keys()
    for case, expected in one.items():
        assert first[case]["losses"].keys() == expected["losses"].keys()
        for part in ("losses", "grads", "losses of one micro-batch"):
            for name, value in expected[part].items():
                assert_close(first[case][part][name], value)
        for found, wanted in zip(first[case]["steps"], expected["steps"], strict=True):
            assert found == pytest.approx(wanted, rel=AFTER_STEPS)
        largest = max((np.abs(grad).max() for grad in expected["gradients after the steps"].values()), default=0.0)
        for name, value in expected["gradients after the steps"].items():
            difference = np.subtract(first[case]["gradients after the steps"][name], value)
            assert np.abs(difference).max() <= AFTER_STEPS * largest, name
        assert_close(
            first[case]["largest gradient of one micro-batch"], expected["largest gradient of one micro-batch"]
        )


class SameOnTheOtherRank:
    """Stands in for `torch.distributed`: the other rank has the same tensors, and no message arrives before `wait`."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def all_reduce(self, tensor: Any, async_op: bool = False) -> Any:
        self.sent.append(tensor.numel())
        if not async_op:
            tensor.mul_(2)
            return None
        work, before = SimpleNamespace(), tensor.clone()
        work.wait = lambda: tensor.copy_(2 * before)
        tensor.fill_(float("nan"))
        return work


def test_gradients_are_summed_while_the_backward_pass_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the last layers are sent first, in the last of a step's micro-batches, each exactly once."""
    torch = pytest.importorskip("torch")
    from gpt1.backends.torch import distributed

    config = ModelConfig(n_layer=3, n_head=2, n_embd=16, n_ctx=16, vocab_size=40, head=Head("classification", 2))
    hardware = DeviceConfig(backend="torch", device="cpu", dtype="float32")
    settings: dict[str, Any] = {"hardware": hardware, "dropout": DropoutConfig.none()}
    batches = rank_process.step("classifier", 40, 2)[:2]
    expected = backends.get(config, initialise(config, 0), **settings).gradients(batches, step=3)
    other = SameOnTheOtherRank()
    monkeypatch.setattr(distributed.dist, "all_reduce", other.all_reduce)
    monkeypatch.setattr(distributed, "OVERLAPPED_ELEMENTS", 1_000)
    ranks = object.__new__(distributed.TorchRanks)
    ranks.rank, ranks.size = 0, 2
    engine = backends.get(config, initialise(config, 0), ranks=ranks, **settings)
    sent_before = []
    backward = torch.autograd.backward

    def timed(*args: Any) -> None:
        before = len(other.sent)
        backward(*args)
        sent_before.append(len(other.sent) - before)

    monkeypatch.setattr(torch.autograd, "backward", timed)
    losses, grads = engine.gradients(batches, step=3)
    n_buckets = len(engine._gradient_sum._buckets)
    assert n_buckets > config.n_layer
    assert sent_before == [0, n_buckets]
    assert other.sent[1] >= config.n_embd * 2  # the head's, after the denominators
    assert sum(other.sent[1:]) == 2 + sum(grad.size for grad in grads.values())
    assert losses == pytest.approx(expected[0], rel=SAME)
    for name, value in expected[1].items():
        assert_close(grads[name], value)


# ---- what each rank reads


class Counting:
    def tokens(self, start: int, stop: int) -> np.ndarray[Any, np.dtype[np.int32]]:
        return np.arange(start, stop, dtype=np.int32)


@pytest.mark.parametrize("n_ranks", [2, 3, 8])
@pytest.mark.parametrize("micro", [None, 1, 2])
def test_ranks_read_the_windows_of_one_process_each_once(n_ranks: int, micro: int | None) -> None:
    config = LoopConfig(batch_size=6, micro_batch_size=micro)
    alone = TrainingWindows(Counting(), 300, 8, config)
    shared = [TrainingWindows(Counting(), 300, 8, config, rank, n_ranks) for rank in range(n_ranks)]
    for step in range(alone.steps_per_epoch):  # the last one has fewer windows than ranks
        expected = [row.tolist() for batch in alone.micro_batches(step) for row in batch.tokens]
        found = [row.tolist() for each in shared for batch in each.micro_batches(step) for row in batch.tokens]
        assert sorted(found) == sorted(expected)
    if micro != 2:
        sizes = [sum(len(batch.tokens) for batch in each.micro_batches(0)) for each in shared]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("most", [None, 5])
def test_ranks_validate_the_windows_of_one_process_each_once(most: int | None) -> None:
    def rows(rank: int, n_ranks: int) -> list[list[int]]:
        windows = ValidationWindows(Counting(), 3, 90, 8, 0, rank, n_ranks)
        return [[int(first)] for batch in windows.batches(16, most) for first in batch.tokens[:, 0]]

    assert sorted(rows(0, 3) + rows(1, 3) + rows(2, 3)) == sorted(rows(0, 1))


# ---- whole runs


def pretraining(backend: str, text: Path, out: Path) -> list[str]:
    return ["pretrain", "--backend", backend, "--corpus", str(text), "--out", str(out), *FLAGS]


@pytest.fixture(scope="module")
def alone(backend: str, text: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    out = tmp_path_factory.mktemp("alone") / "run"
    assert cli.main(pretraining(backend, text, out)) == 0
    return RunDirectory(out)


def test_run_of_two_processes_is_the_run_of_one(backend: str, text: Path, alone: RunDirectory, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    done = call_two(backend, ["-m", "gpt1", *pretraining(backend, text, run.path), "--json"], tmp_path / "logs")
    assert done.returncode == 0, done.said
    assert_same_run(run, alone)
    assert len(events(run, "start")) == 1  # only rank 0 writes
    assert len(events(run, "sample")) == len(events(run, "evaluate"))
    assert done.said.count("Best model") == 1
    (results,) = [json.loads(line) for line in done.said.splitlines() if line.startswith("{")]  # and only rank 0 prints
    assert results["training"]["tokens"] == 12 * 4 * 16
    assert len(run.checkpoints.paths()) == 2


def test_a_handler_gets_the_notices_of_its_process(text: Path, tmp_path: Path) -> None:
    """Rank 0 reports the run, as it does on stderr."""
    script = tmp_path / "logged.py"
    script.write_text(
        "import logging, sys\n"
        "from gpt1 import cli\n"
        "from gpt1.backends.dist import process_rank\n"
        f"handler = logging.FileHandler({str(tmp_path)!r} + f'/rank-{{process_rank().rank}}.log')\n"
        "logging.getLogger('gpt1').addHandler(handler)\n"
        "sys.exit(cli.main(sys.argv[1:]))\n",
        encoding="utf-8",
    )
    pytest.importorskip("torch")
    done = call_two("torch", [str(script), *pretraining("torch", text, tmp_path / "run")], tmp_path / "logs")
    assert done.returncode == 0, done.said
    assert "Best model" in (tmp_path / "rank-0.log").read_text()
    assert (tmp_path / "rank-1.log").read_text() == ""
    assert "Best model" not in done.said


def test_rank_0_alone_prepares_the_text(
    text: Path, alone: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait: several processes that write the same files at once would conflict."""
    monkeypatch.setattr(pretrain, "prepare", lambda *_, **__: pytest.fail("prepared again"))
    run = RunDirectory(alone.path, read_only=True)
    run.require_seen()
    tokenizer = Tokenizer.load(run.tokenizer)
    assert len(pretrain._load_corpus(PretrainConfig(), (text,), "train", tokenizer, run)) > 0
    with pytest.raises(UserError, match="the run of rank 0 is not visible here; all ranks need a shared file system"):
        RunDirectory(tmp_path / "elsewhere", read_only=True).require_seen()


def test_run_that_lost_a_process_ends_and_goes_on_in_one(
    backend: str, text: Path, alone: RunDirectory, tmp_path: Path
) -> None:
    """The killed process is not the one that writes; the other neither hangs nor loses the last checkpoint."""
    run = RunDirectory(tmp_path / "run")
    words = pretraining(backend, text, run.path)
    script = dies_at_step(7, backend, tmp_path)
    started = time.monotonic()
    done = call_two(backend, [str(script), *words], tmp_path / "logs")
    assert time.monotonic() - started < PATIENCE
    assert done.returncode != 0
    if backend == "torch":  # msrun may kill the other one before it prints the error
        assert "gpt1: another process of this run has exited or cannot be reached" in done.said
    assert run.checkpoints.paths()[0].name == "step-6"
    assert not run.finished
    assert cli.main(words) == 0
    assert [event["step"] for event in events(run, "resume")] == [6]
    assert_same_run(run, alone)


# ---- how MindSpore's ranks meet


def test_ranks_add_numbers_of_their_hosts_in_one_order() -> None:
    pytest.importorskip("mindspore")
    from gpt1.backends.mindspore.distributed import HostSockets

    values = [1e16, 1.0, -1e16]  # the sum is 0 in this order and 1 in reverse
    pairs = [socket.socketpair() for _ in values[1:]]
    hub = HostSockets(0, [ours for ours, _ in pairs])
    lines = [hub, *(HostSockets(rank, [theirs]) for rank, (_, theirs) in enumerate(pairs, 1))]
    with ThreadPoolExecutor(len(lines)) as pool:
        found = list(pool.map(lambda line, value: line.total(value, 1.0), lines, values))
        nothing = list(pool.map(lambda line: line.total(), lines))
    for line in lines:
        line.close()
    assert found == [[sum(values), 3.0]] * 3
    assert nothing == [[]] * 3


@pytest.mark.parametrize("rank", [0, 1])
def test_the_end_of_another_rank_is_noticed_at_once(rank: int) -> None:
    pytest.importorskip("mindspore")
    from gpt1.backends.mindspore.distributed import HostSockets

    ours, theirs = socket.socketpair()
    theirs.shutdown(socket.SHUT_WR)  # what is sent to it is discarded without an error
    with ours, theirs, pytest.raises(PeerLost, match="another process of this run has exited or cannot be reached"):
        HostSockets(rank, [ours]).total(1.0)


# ---- what the launchers say


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Environment of a process that no launcher started."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MS_ROLE", "MS_NODE_ID", "MS_WORKER_NUM", "DEVICE_ID"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_a_process_that_no_launcher_started_is_alone(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DEVICE_ID", "3")  # some users set it for an Ascend device
    assert dist.process_rank() == dist.ProcessRank(0, 1, 0)


TORCHRUN = "RANK=1 WORLD_SIZE=2 LOCAL_RANK=1"
MSRUN = "MS_ROLE=MS_WORKER MS_NODE_ID=1 MS_WORKER_NUM=2 DEVICE_ID=1"
SCHEDULER = "MS_ROLE=MS_SCHED MS_WORKER_NUM=2"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (TORCHRUN, dist.ProcessRank(1, 2, 1, "torchrun")),
        (MSRUN, dist.ProcessRank(1, 2, 1, "msrun")),
        (SCHEDULER, dist.ProcessRank(0, 2, 0, "msrun")),
    ],
)
def test_process_rank_is_read_from_the_environment_of_the_launcher(
    said: str, expected: dist.ProcessRank, environment: pytest.MonkeyPatch
) -> None:
    for word in said.split():
        environment.setenv(*word.split("="))
    assert dist.process_rank() == expected


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ("RANK=2 WORLD_SIZE=2 LOCAL_RANK=0", r"RANK=2 .* in the environment: not values that torchrun sets"),
        ("RANK=0 WORLD_SIZE= LOCAL_RANK=0", r"WORLD_SIZE= .* in the environment: not values that torchrun sets"),
        ("RANK=a", r"RANK=a .* in the environment: not values that torchrun sets"),
        ("MS_ROLE=MS_WORKER MS_WORKER_NUM=2 DEVICE_ID=1", r"MS_NODE_ID= .* not values that msrun sets; .* --node_rank"),
        ("MS_ROLE=MS_WORKER MS_NODE_ID=0 MS_WORKER_NUM=1 DEVICE_ID=0", "msrun --worker_num 1: .*; run without msrun"),
    ],
)
def test_contradictions_in_the_environment_are_named(
    said: str, complaint: str, environment: pytest.MonkeyPatch
) -> None:
    for word in said.split():
        environment.setenv(*word.split("="))
    with pytest.raises(UserError, match=complaint):
        dist.process_rank()


@pytest.mark.parametrize(("launcher", "said"), [("torchrun", TORCHRUN), ("msrun", MSRUN)])
def test_commands_of_one_process_refuse_several(
    launcher: str, said: str, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for word in said.split():
        environment.setenv(*word.split("="))
    assert cli.main(["doctor"]) == 2
    complaint = capsys.readouterr().err
    assert (
        complaint
        == f"gpt1 (rank 1): {launcher} started 2 processes; run gpt1 doctor as one process, without {launcher}\n"
    )


@pytest.mark.parametrize(("name", "other", "said"), [("torch", "msrun", MSRUN), ("mindspore", "torchrun", TORCHRUN)])
def test_a_backend_refuses_the_launcher_of_another(
    name: str, other: str, said: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setattr(backends, "chosen", lambda hardware: name)
    for word in said.split():
        environment.setenv(*word.split("="))
    expected = f"--backend {name}: {other} started 2 processes; start .* with {backends.LAUNCHERS[name]}"
    with pytest.raises(UserError, match=expected):
        backends.init_distributed(DeviceConfig()).__enter__()
