"""Files are whole or absent, and what is wrong with one is said in a sentence."""

import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nemlib import files
from nemlib.files import load_tensors, read_json, save_tensors, write_atomically, write_json

TENSORS = {"w": torch.arange(6.0).view(2, 3), "step": torch.tensor(7), "empty": torch.zeros(0, 4)}


def only_file(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "new folder" / "a.bin"
    with write_atomically(path) as temporary:
        temporary.write_bytes(b"1234")
        assert not path.exists() and temporary.parent == path.parent
    assert path.read_bytes() == b"1234" and only_file(path.parent) == ["a.bin"]


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), write_atomically(path) as temporary:
        temporary.write_bytes(b"half of the n")
        raise KeyError("interrupted")
    assert path.read_bytes() == b"old" and only_file(tmp_path) == ["a.bin"]


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    script = ("import os, signal, sys; from nemlib.files import write_atomically\n"
              "with write_atomically(sys.argv[1]) as temporary:\n"
              "    temporary.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)")
    command = [sys.executable, "-c", script, str(path)]
    assert subprocess.run(command, cwd=Path(files.__file__).parents[1]).returncode == -9
    assert path.read_bytes() == b"old"
    with write_atomically(path) as temporary:   # what the killed one left is in nobody's way
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"


def test_several_writers_of_one_file_do_no_harm(tmp_path):
    path = tmp_path / "a.json"
    values = [[number] * 2000 for number in range(4)]

    def write(value):
        for _ in range(10):
            write_json(path, value)
            assert read_json(path) in values

    threads = [threading.Thread(target=write, args=(value,)) for value in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_json(path) in values and only_file(tmp_path) == ["a.json"]


def test_an_ordinary_write_into_the_target_is_caught_by_the_same_check(tmp_path):
    """The mutant: without the temporary file, the interrupted write is seen."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), open(path, "wb") as file:
        file.write(b"half of the n")
        raise KeyError("interrupted")
    assert path.read_bytes() != b"old"


def test_json_keeps_numbers_to_the_last_bit(tmp_path):
    value = {"rows": [0.1, 1 / 3, 5e-324, 2**53, "ψ"], "none": None}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize("value", [math.nan, {"a": math.inf}, {"a": torch.zeros(1)}, {1, 2}])
def test_json_refuses_what_it_cannot_hold(tmp_path, value):
    with pytest.raises(ValueError, match="a.json was not written"):
        write_json(tmp_path / "a.json", value)
    assert only_file(tmp_path) == []


def test_json_that_is_truncated_foreign_or_missing_is_refused(tmp_path):
    path = tmp_path / "a.json"
    for content in (b'{"rows": [1, 2', b"", b"\xff\xfe\x00binary"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="a.json is not a complete JSON file"):
            read_json(path)
    with pytest.raises(FileNotFoundError, match="There is no file .*b.json"):
        read_json(tmp_path / "b.json")


def test_tensors_and_metadata_come_back(tmp_path):
    path = tmp_path / "w.safetensors"
    tied = {"again": TENSORS["w"], "transposed": TENSORS["w"].T}   # share memory, and one is not contiguous
    save_tensors(path, TENSORS | tied, {"model": "RBM", "epochs": 3, "rates": [0.1, 1 / 3]})
    tensors, metadata = load_tensors(path, expect=TENSORS | tied, model="RBM")
    assert metadata == {"model": "RBM", "epochs": 3, "rates": [0.1, 1 / 3]}
    for name, tensor in (TENSORS | tied).items():
        assert tensors[name].dtype == tensor.dtype and torch.equal(tensors[name], tensor)


def test_a_foreign_safetensors_file_keeps_its_plain_metadata(tmp_path):
    save_file({"w": torch.zeros(2)}, tmp_path / "w.safetensors", metadata={"format": "pt"})
    assert load_tensors(tmp_path / "w.safetensors")[1] == {"format": "pt"}


def test_damaged_tensor_files_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save_tensors(path, TENSORS, {"model": "RBM"})
    whole = path.read_bytes()
    for content in (whole[:-5], whole[:20], b"", b"PK\x03\x04 something else", os.urandom(200)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="w.safetensors is truncated or foreign"):
            load_tensors(path)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_tensors(tmp_path / "v.safetensors")


@pytest.mark.parametrize("expect, model, message", [
    (None, "VAE", "is of another model, RBM, but VAE was expected"),
    ({"w": (2, 3), "step": (), "empty": (0, 4), "bias": (3,)}, "RBM", "lacks the tensor 'bias'"),
    ({"w": (2, 3), "step": ()}, "RBM", "the unexpected tensor 'empty'"),
    ({"w": (3, 2), "step": (), "empty": (0, 4)}, "RBM", r"'w' of shape \(2, 3\), but \(3, 2\) was expected"),
])
def test_tensors_of_another_model_are_refused(tmp_path, expect, model, message):
    save_tensors(tmp_path / "w.safetensors", TENSORS, {"model": "RBM"})
    with pytest.raises(ValueError, match=message):
        load_tensors(tmp_path / "w.safetensors", expect=expect, model=model)


def test_nan_is_refused_and_infinity_is_not(tmp_path):
    path = tmp_path / "w.safetensors"
    save_tensors(path, {"mask": torch.tensor([0.0, -math.inf])})
    assert load_tensors(path)[0]["mask"][1] == -math.inf
    save_tensors(path, {"mask": torch.tensor([0.0, math.nan])})
    with pytest.raises(ValueError, match="holds NaN in 'mask'"):
        load_tensors(path)
