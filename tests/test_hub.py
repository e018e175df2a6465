"""Resolution of names to files, against a hub on loopback: python -m pytest tests/test_hub.py"""

from __future__ import annotations

import io
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from gpt1.checkpoint.catalog import CATALOGUE, CONVERTED
from gpt1.checkpoint.hub import DatasetFiles, resolve_dataset
from gpt1.checkpoint.loading import resolve_model
from gpt1.data.dataset import Columns, read_examples
from gpt1.errors import UserError
from support.fake_hub import FakeHub

pytest.importorskip("huggingface_hub")
polars = pytest.importorskip("polars")

AT_ONCE_S = 5.0
"""Maximum seconds until the error without a network (measured: 0.1 s; with retries and back-off it would be 23 s)."""

IMDB = "stanfordnlp/imdb"
MODEL = {
    "config.json": b'{"model_type": "openai-gpt"}',
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "vocab.json": b"{}",
    "merges.txt": b"#version: 0.2",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub, an empty cache and an empty working directory; no other server is used, and no token is sent."""
    for variable in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(
        "huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True
    )  # otherwise the real endpoint is used
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with FakeHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def parquet(**columns: list[Any]) -> bytes:
    buffer = io.BytesIO()
    polars.DataFrame(columns).write_parquet(buffer)
    return buffer.getvalue()


def reviews(*texts: str) -> bytes:
    return parquet(text=list(texts), label=[index % 2 for index in range(len(texts))])


def imdb(hub: FakeHub, train: bytes | None = None) -> str:
    files = {
        f"plain_text/{split}-00000-of-00001.parquet": reviews(split) for split in ("train", "test", "unsupervised")
    }
    files["plain_text/train-00000-of-00001.parquet"] = train or reviews("Good.", "Bad.")
    return hub.commit(IMDB, {"README.md": b"# IMDB", **files}, repo_type="dataset")


def dataset(name: str) -> DatasetFiles:
    files = resolve_dataset(name)
    assert isinstance(files, DatasetFiles)
    return files


def texts(files: DatasetFiles, split: str = "train") -> list[str]:
    return [text for path in files.splits[split] for text in polars.read_parquet(path)["text"].to_list()]


def downloads(hub: FakeHub) -> list[str]:
    return [request.rpartition("/")[2] for request in hub.requests if re.match(r"GET .*/resolve/", request)]


def message(name: str, *, model: bool = False) -> str:
    """Return the line of the error."""
    with pytest.raises(UserError) as error:
        (resolve_model if model else resolve_dataset)(name)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- data sets ------------------------------------------------------------------------------------------------------


def test_catalogue_name_gives_the_labelled_splits_and_the_meaning_of_their_columns(hub: FakeHub) -> None:
    commit = imdb(hub)
    files = dataset("imdb")
    assert texts(files) == ["Good.", "Bad."] and texts(files, "test") == ["test"]
    assert (files.task, files.columns) == ("classification", {"text": "text", "label": "label"})
    assert (files.label_names, files.drop_label) == (("neg", "pos"), None)
    assert files.origin == f"{IMDB}:plain_text@{commit}"
    assert sorted(downloads(hub)) == ["test-00000-of-00001.parquet", "train-00000-of-00001.parquet"]


@pytest.mark.parametrize("layout", ["{}/{}-00000-of-00001.parquet", "{}/{}/0000.parquet"])
@pytest.mark.parametrize("name", CATALOGUE)
def test_every_catalogue_row_resolves_in_both_layouts_of_the_hub(hub: FakeHub, name: str, layout: str) -> None:
    row = CATALOGUE[name]
    contents = {
        layout.format(config, split): f"{config}/{split}".encode()
        for config in ({row.config, "another"} if row.config else {"data"})
        for split in ("train", "validation", "test", "unsupervised")
    }
    branch = CONVERTED if layout.endswith("0000.parquet") else row.revision
    hub.commit(row.repo, {"README.md": b"a script"}, repo_type="dataset")
    hub.commit(row.repo, contents, repo_type="dataset", revision=branch)
    files = dataset(name)
    expected = {ours: f"{row.config or 'data'}/{theirs}".encode() for ours, theirs in row.splits.items()}
    assert {split: path.read_bytes() for split, [path] in files.splits.items()} == expected
    assert "train" in expected and files.columns.keys() >= {"label"}


@pytest.mark.parametrize(
    ("name", "rows", "parts", "choices", "label"),
    [
        ("ag_news", {"text": ["Rain."], "label": [3]}, ("Rain.",), (), 3),
        (
            "rte",
            {"sentence1": ["It rains."], "sentence2": ["It is wet."], "label": [0]},
            ("It rains.", "It is wet."),
            (),
            0,
        ),
        (
            "race",
            {"article": ["It rains."], "question": ["Why?"], "options": [["a", "b", "c", "d"]], "answer": ["C"]},
            ("It rains.", "Why?"),
            ("a", "b", "c", "d"),
            2,
        ),
        (
            "copa",
            {"premise": ["It rains."], "choice1": ["a"], "choice2": ["b"], "question": ["effect"], "label": [1]},
            ("It rains.", "effect"),
            ("a", "b"),
            1,
        ),
    ],
)
def test_columns_of_the_catalogue_are_those_that_the_tables_are_read_by(
    hub: FakeHub, name: str, rows: dict[str, list[Any]], parts: tuple[str], choices: tuple[str], label: int
) -> None:
    row = CATALOGUE[name]
    contents = {f"{row.config or 'data'}/{split}.parquet": parquet(**rows) for split in row.splits.values()}
    hub.commit(row.repo, contents, repo_type="dataset")
    files = dataset(name)
    [example] = read_examples(files.splits["train"], Columns(**files.columns))
    assert (example.parts, example.choices, example.label) == (parts, choices, label)


def test_catalogue_row_without_one_of_its_splits_is_refused(hub: FakeHub) -> None:
    hub.commit(IMDB, {"plain_text/train-00000-of-00001.parquet": reviews("Good.")}, repo_type="dataset")
    assert f"{IMDB}:plain_text has no parquet files for the splits (train, test) at main or" in message("imdb")
    assert downloads(hub) == []


def test_snli_says_which_rows_to_drop() -> None:
    assert CATALOGUE["snli"].drop_label == -1


def test_repository_outside_the_catalogue_is_read_by_its_split_names_in_the_order_of_its_shards(hub: FakeHub) -> None:
    shards = {f"data/train-0000{i}-of-00002.parquet": reviews(f"part {i}") for i in (1, 0)}
    others = {"data/dev.parquet": reviews("dev"), "data/training_notes.parquet": reviews("no split")}
    commit = hub.commit("me/notes", {**shards, **others}, repo_type="dataset")
    files = dataset("me/notes")
    assert texts(files) == ["part 0", "part 1"] and texts(files, "valid") == ["dev"]
    assert files.splits.keys() == {"train", "valid"}
    assert (files.task, files.columns, files.label_names) == (None, {}, None)
    assert files.origin == f"me/notes@{commit}"


def test_one_of_several_configurations_must_be_named(hub: FakeHub) -> None:
    contents = {f"{config}/train.parquet": reviews(config) for config in ("en", "fr")}
    hub.commit("me/many", contents, repo_type="dataset")
    assert "several configurations (en, fr); select one, for example me/many:fr" in message("me/many")
    assert texts(dataset("me/many:fr")) == ["fr"]
    assert "me/many:de has no parquet files for the splits" in message("me/many:de")


def test_csv_repository_is_read_from_the_hubs_parquet_branch(hub: FakeHub) -> None:
    hub.commit("me/csv", {"train.csv": b"text,label\na,0\n"}, repo_type="dataset")
    assert f"no parquet files for the splits (train, valid, test) at main or {CONVERTED}" in message("me/csv")
    commit = hub.commit("me/csv", {"default/train/0000.parquet": reviews("a")}, repo_type="dataset", revision=CONVERTED)
    assert dataset("me/csv").origin == f"me/csv@{commit}"
    hub.stop()
    assert texts(dataset("me/csv")) == ["a"]


def test_path_that_exists_wins_over_a_name_and_has_no_revision(hub: FakeHub) -> None:
    Path("imdb").mkdir()
    assert resolve_dataset("imdb") == Path("imdb")
    assert "--data imdb@main: imdb is a local path and has no revisions" in message("imdb@main")
    assert hub.requests == []


@pytest.mark.parametrize(
    "name", ["imbd", "data/reviews.csv", "../reviews", "a/b/c", "reviews.jsonl.xz", "C:\\data", ""]
)
def test_name_that_is_nothing_lists_what_there_is(hub: FakeHub, name: str) -> None:
    error = message(name)
    assert error.startswith(f"--data {name}: no such file or folder") and "imdb, sst2, cola" in error
    assert hub.requests == []


def test_storycloze_says_whom_to_ask_and_how_to_pass_the_files(hub: FakeHub) -> None:
    error = message("storycloze")
    assert "request it from its authors" in error and "gpt1 finetune --data DIR --task multiple-choice" in error


# ---- models ---------------------------------------------------------------------------------------------------------


def test_model_name_fetches_the_needed_files_and_no_pickle(hub: FakeHub) -> None:
    extra = {"pytorch_model.bin": b"pickle", "tf_model.h5": b"", "README.md": b""}
    hub.commit("openai-community/openai-gpt", MODEL | extra)
    folder = resolve_model("openai-gpt")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == MODEL
    hub.stop()
    assert resolve_model("openai-gpt") == folder


def test_model_without_safetensors_is_refused(hub: FakeHub) -> None:
    hub.commit("me/old", {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    assert "safetensors only" in message("me/old", model=True)
    assert downloads(hub) == []


def test_directory_wins_over_a_model_name(hub: FakeHub) -> None:
    Path("openai-gpt").mkdir()
    assert resolve_model("openai-gpt") == Path("openai-gpt")
    assert "openai-gpt is a local path and has no revisions" in message("openai-gpt@main", model=True)


@pytest.mark.parametrize("name", ["opnai-gpt", "./run/model", "me/model:config"])
def test_model_name_that_is_nothing_lists_what_there_is(hub: FakeHub, name: str) -> None:
    error = message(name, model=True)
    assert "no such directory" in error and "mini, openai-gpt, or a model on the hub as OWNER/NAME" in error


def test_file_is_no_model(hub: FakeHub) -> None:
    Path("model.safetensors").touch()
    assert "is a file" in message("model.safetensors", model=True)


# ---- revisions and the cache ----------------------------------------------------------------------------------------


def test_revision_pins_the_content(hub: FakeHub) -> None:
    first = imdb(hub, reviews("first"))
    imdb(hub, reviews("second"))
    assert texts(dataset("imdb")) == ["second"]
    pinned = dataset(f"imdb@{first}")
    assert texts(pinned) == ["first"] and pinned.origin.endswith(first)
    assert message("imdb@v9").startswith("--data imdb@v9: v9 is not a branch, tag or full commit of")


def test_second_call_downloads_nothing_and_needs_no_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    imdb(hub)
    first = dataset("imdb")
    hub.requests.clear()
    assert dataset("imdb") == first and downloads(hub) == []
    hub.down = HTTPStatus.SERVICE_UNAVAILABLE
    assert dataset("imdb") == first
    hub.stop()
    assert dataset("imdb") == first
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert dataset("imdb") == first


def test_half_finished_download_is_not_taken_for_the_whole(hub: FakeHub) -> None:
    hub.commit("me/shards", {f"train-0000{i}-of-00002.parquet": reviews("x") for i in (0, 1)}, repo_type="dataset")
    dataset("me/shards").splits["train"][1].unlink()
    hub.stop()
    assert "not in the cache" in message("me/shards")


def test_offline_mode_asks_nobody(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    imdb(hub)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "not in the cache, and HF_HUB_OFFLINE is set" in message("imdb")
    assert hub.requests == []


# ---- damage ---------------------------------------------------------------------------------------------------------


def test_damaged_download_is_fetched_again(hub: FakeHub) -> None:
    imdb(hub)
    hub.repos["dataset", IMDB].damaged["plain_text/test-00000-of-00001.parquet"] = 1
    assert texts(dataset("imdb"), "test") == ["test"]
    assert len(downloads(hub)) == 3


@pytest.mark.parametrize("file", ["model.safetensors", "merges.txt"])  # one in LFS, the other in git
def test_download_that_stays_damaged_names_the_file_and_how_to_delete_it(hub: FakeHub, file: str) -> None:
    hub.commit("me/model", MODEL)
    hub.repos["model", "me/model"].damaged[file] = 9
    error = message("me/model", model=True)
    assert (
        f"{file}: checksum mismatch, the download is damaged" in error and "`hf cache rm model/me/model --yes`" in error
    )


def test_damage_in_the_cache_is_seen_offline_and_mended_online(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    imdb(hub)
    path = dataset("imdb").splits["train"][0]
    if not path.is_symlink():
        pytest.skip("no symbolic links here: offline, nothing is known about the content")
    path.resolve().write_bytes(path.read_bytes()[:-1] + b"?")
    with monkeypatch.context() as offline:
        offline.setenv("HF_HUB_OFFLINE", "1")
        assert f"{path}: checksum mismatch" in message("imdb")
    assert texts(dataset("imdb")) == ["Good.", "Bad."]


# ---- no ------------------------------------------------------------------------------------------------------------


def test_unknown_repository_is_reported_as_such(hub: FakeHub) -> None:
    error = message("me/typo")
    assert f"there is no public dataset {hub.url}/datasets/me/typo (404), and no local path of this name" in error
    assert "there is no public model" in message("me/typo", model=True)


def test_private_repository_asks_for_a_login(hub: FakeHub) -> None:
    hub.commit("me/secret", MODEL)
    hub.repos["model", "me/secret"].private = True
    error = message("me/secret", model=True)
    assert "(401)" in error and "`hf auth login`" in error


def test_gated_repository_says_where_to_ask(hub: FakeHub) -> None:
    hub.commit("me/gated", MODEL)
    hub.repos["model", "me/gated"].gated = True
    assert f"{hub.url}/me/gated is gated (403): request access" in message("me/gated", model=True)


def test_name_that_the_hub_could_not_have_is_reported_as_such(hub: FakeHub) -> None:
    assert "me/a--b: not a valid repository name" in message("me/a--b")


def test_hub_that_is_down_is_reported_at_once(hub: FakeHub) -> None:
    hub.down = HTTPStatus.SERVICE_UNAVAILABLE
    start = time.monotonic()
    assert f"{hub.url} currently responds with status 503" in message("imdb")
    assert time.monotonic() - start < AT_ONCE_S


def test_without_a_network_the_error_comes_at_once(hub: FakeHub) -> None:
    hub.stop()
    start = time.monotonic()
    error = message("race")
    assert time.monotonic() - start < AT_ONCE_S
    assert f"not in the cache, and {hub.url} cannot be reached (ConnectError" in error
    assert "DIR/train.jsonl and DIR/valid.jsonl (fields context, question, choices, label)" in error


def test_hub_that_never_answers_is_given_up(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall that drops packets: without a timeout, huggingface_hub waits forever."""
    monkeypatch.setattr("gpt1.checkpoint.hub_download.TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "cannot be reached (ReadTimeout" in message("imdb")


# ---- the commands in the errors -------------------------------------------------------------------------------------


def run_first_command(error: str) -> None:
    """Run the first `command` of a message in the working directory."""
    found = re.search(r"`hf ([^`]+)`", error)
    assert found is not None
    code = "import sys; from huggingface_hub.cli.hf import main; sys.argv[0] = 'hf'; main()"
    process = subprocess.run([sys.executable, "-c", code, *shlex.split(found[1])], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_offline_commands_for_a_data_set_work(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of the error: download with network access, copy the folder, set HF_HUB_CACHE."""
    imdb(hub)
    with monkeypatch.context() as offline:
        offline.setenv("HF_HUB_OFFLINE", "1")
        error = message("imdb")
    run_first_command(error)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", "hf-cache")
    assert "set HF_HUB_CACHE=hf-cache" in error and texts(dataset("imdb")) == ["Good.", "Bad."]


def test_offline_commands_for_a_model_work(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.commit("openai-community/openai-gpt", MODEL)
    with monkeypatch.context() as offline:
        offline.setenv("HF_HUB_OFFLINE", "1")
        error = message("openai-gpt", model=True)
    run_first_command(error)
    assert "pass ./openai-gpt instead of openai-gpt" in error
    assert {name: (resolve_model("openai-gpt") / name).read_bytes() for name in MODEL} == MODEL


def test_command_that_deletes_a_damaged_download_works(hub: FakeHub) -> None:
    imdb(hub)
    hub.repos["dataset", IMDB].damaged["plain_text/test-00000-of-00001.parquet"] = 2
    run_first_command(message("imdb"))
    assert not (Path(os.environ["HF_HOME"]) / "hub" / "datasets--stanfordnlp--imdb").exists()
    assert texts(dataset("imdb"), "test") == ["test"]


def test_importing_the_module_imports_no_hub_library() -> None:
    code = (
        "import sys, gpt1.checkpoint.hub; "
        "print([m for m in ('huggingface_hub', 'polars', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
