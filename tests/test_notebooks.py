"""The notebooks as files: clean, with the present set-up cell, and able to run alone in an empty folder."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import nbformat
import pytest
import small_book
from nbclient import NotebookClient
from small_book import ROOT

import exercise_cells
import repository
import setup_cell
import sources

NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
GIT = ["git", "-c", "user.name=A test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"]


def git(folder, *arguments):
    return subprocess.run([*GIT, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


# ------------------------------------------------------------------ as files

def test_every_notebook_opens_with_the_present_set_up_cell():
    assert [path.name for path in setup_cell.stale()] == [], "run `python tools/setup_cell.py`"


def test_every_exercise_reads_as_nemlib_defines_it():
    stale = [path.name for path in NOTEBOOKS
             if exercise_cells.update(nbformat.read(path, as_version=4), exercise_cells.module_of(path))]
    assert stale == [], "run `python tools/exercise_cells.py`"


def test_a_new_exercise_is_written_from_its_label_and_an_edited_one_is_noticed():
    opening = "Words.\n\n```{exercise-start} Any title\n:label: ex-gibbs-standard-error\n```"
    notebook = small_book.notebook(nbformat.v4.new_markdown_cell(opening))
    assert exercise_cells.update(notebook, "gibbs") and not exercise_cells.update(notebook, "gibbs")
    assert [cell.metadata.get("tags", []) for cell in notebook.cells] == [[], ["stub"], ["check"], [], ["solution"], []]
    assert notebook.cells[0].source.startswith("Words.\n\n```{exercise-start} The standard error")
    notebook.cells[4].source += "\n# an edit"
    assert exercise_cells.update(notebook, "gibbs") and not exercise_cells.update(notebook, "gibbs")


def untidy(notebook) -> list[str]:
    """What does not belong into a notebook that is committed."""
    found = []
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("its kernel is not python3")
    if "widgets" in notebook.metadata:
        found.append("it holds the state of widgets")
    ids = [cell.get("id") for cell in notebook.cells]
    if None in ids or len(set(ids)) < len(ids):
        found.append("its cells lack ids of their own")
    for number, cell in enumerate(notebook.cells, start=1):
        kept = "nbval-check-output" in cell.metadata.get("tags", [])
        if cell.cell_type == "code" and cell.outputs and not kept:
            found.append(f"cell {number} holds outputs")
        if cell.cell_type == "code" and cell.execution_count is not None and not kept:
            found.append(f"cell {number} holds a count")
        if re.search(
            r"/(?:home|Users|root)/|[A-Z]:\\\\Users", cell.source + json.dumps(cell.get("outputs", []))
        ):
            found.append(f"cell {number} names a folder of one machine")
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_clean(path):
    assert untidy(nbformat.read(path, as_version=4)) == []


def test_an_untidy_notebook_is_noticed():
    cell = small_book.code(f"open('/{'home'}/me/data')")
    cell.outputs, cell.execution_count = [nbformat.v4.new_output("stream", text="hello")], 3
    notebook = small_book.notebook(cell, small_book.code("1"))
    notebook.metadata["widgets"] = {}
    notebook.cells[1]["id"] = notebook.cells[0]["id"]
    assert len(untidy(notebook)) == 5
    cell.metadata["tags"] = ["nbval-check-output"]
    assert len(untidy(notebook)) == 3
    assert untidy(small_book.notebook(small_book.code("1"))) == []


# ------------------------------------------------------------------ the set-up cell

@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """A Python that has everything the book needs, except nemlib."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    script = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = subprocess.run(
        [script, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    base = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (Path(site) / "base.pth").write_text("\n".join(base))  # their own .pth files, nemlib's too, are not read
    return script


def environment(repository: Path | str, **more) -> dict[str, str]:
    address = repository.as_uri() if isinstance(repository, Path) else repository
    kept = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "MPLBACKEND"}}
    # pip reads PIP_NO_BUILD_ISOLATION=0 as "no isolation": nothing is fetched
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_ROOT_USER_ACTION": "ignore"}
    return kept | offline | {"NEMLIB_REPOSITORY": address, "BUDGET": "smoke", **more}


@pytest.fixture
def small_clone(tmp_path):
    """A repository with a nemlib that has only what the set-up cell asks for."""
    folder = tmp_path / "repository"
    (folder / "nemlib").mkdir(parents=True)
    (folder / "nemlib" / "__init__.py").write_text('__version__ = "tagged"\n')
    (folder / "nemlib" / "training.py").write_text("device = lambda name: name\nbudget = lambda: 'smoke'\n")
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "nemlib"\nversion = "0"\ndependencies = ["torch"]\n'
        '[tool.setuptools]\npackages = ["nemlib"]\n')
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "The version of the book")
    git(folder, "tag", f"v{setup_cell.version()}")
    (folder / "nemlib" / "__init__.py").write_text('__version__ = "newest"\n')
    git(folder, "commit", "--quiet", "--all", "--message", "A later version")
    return folder


def run_cell(python, folder, repository, **more):
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [python, "-c", setup_cell.source()],
        cwd=folder,
        env=environment(repository, **more),
        capture_output=True,
        text=True,
        timeout=120,
    )


def uninstall(python):
    site = next(Path(python).parents[1].glob("**/base.pth")).parent
    for left in [*site.glob("__editable__*"), *site.glob("nemlib*")]:
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def test_in_an_empty_folder_the_cell_fetches_the_books_version_and_leaves_torch_alone(
    python, small_clone, tmp_path
):
    try:
        done = run_cell(python, tmp_path / "empty", small_clone)
        assert done.stdout.startswith("nemlib tagged · PyTorch "), done.stderr
        assert "device auto · budget smoke" in done.stdout
        again = run_cell(python, tmp_path / "elsewhere", "file:///nowhere")  # installed: nothing is fetched
        assert again.stdout.startswith("nemlib tagged"), again.stderr
    finally:
        uninstall(python)


def test_without_a_tag_the_cell_fetches_what_is_there(python, small_clone, tmp_path):
    git(small_clone, "tag", "--delete", f"v{setup_cell.version()}")
    try:
        assert run_cell(python, tmp_path / "empty", small_clone).stdout.startswith("nemlib newest")
    finally:
        uninstall(python)


def test_inside_a_clone_the_cell_uses_it_and_installs_nothing(python, small_clone):
    done = run_cell(python, small_clone / "book" / "deeper", "file:///nowhere")
    assert done.stdout.startswith("nemlib newest"), done.stderr
    assert run_cell(python, small_clone.parent / "outside", "file:///nowhere").returncode == 1


def test_where_nemlib_imports_the_cell_fetches_nothing(tmp_path):
    done = run_cell(sys.executable, tmp_path / "empty", "file:///nowhere")
    assert re.fullmatch(r"nemlib [\d.]+ · PyTorch \S+ · device \w+ · budget smoke\n", done.stdout), (
        done.stderr
    )
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("change, words", [
    ({"repository": "file:///nowhere/at-all"}, "check the network and that git is installed"),
    ({"PATH": ""}, "git failed"),
    ({"pyproject": "torch==0.0.1"}, "pip failed"),
])
def test_a_failure_says_what_to_do_in_a_sentence(python, small_clone, tmp_path, change, words):
    if "pyproject" in change:      # asks for another torch than the one that is there
        git(small_clone, "tag", "--delete", f"v{setup_cell.version()}")
        text = (small_clone / "pyproject.toml").read_text().replace('"torch"', f'"{change["pyproject"]}"')
        (small_clone / "pyproject.toml").write_text(text)
        git(small_clone, "commit", "--quiet", "--all", "--message", "Another torch")
    more = {"PATH": change["PATH"]} if "PATH" in change else {}
    done = run_cell(python, tmp_path / "empty", change.get("repository", small_clone), **more)
    assert done.returncode == 1 and words in done.stderr
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------ each notebook, alone

@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    """A repository that holds what a commit of this tree would hold."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("a snapshot of the tree needs git and the clone's history")
    folder = tmp_path_factory.mktemp("snapshot") / "repository"
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in dict.fromkeys(filter(None, listed)):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--message", "A snapshot")
    return folder


@pytest.fixture
def kernel(python, tmp_path, monkeypatch):
    """A kernel of that Python, by name."""
    folder = tmp_path / "jupyter" / "kernels" / "alone"
    folder.mkdir(parents=True)
    command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(
        json.dumps({"argv": command, "display_name": "alone", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    yield "alone"
    uninstall(python)


SMALLEST = """import pathlib
import nemlib
from nemlib.data import mnist
print(len(mnist("test").images), pathlib.Path(nemlib.__file__).parents[1])"""


@pytest.mark.parametrize("path", [None, *NOTEBOOKS], ids=lambda path: path.stem if path else "smallest")
def test_a_notebook_alone_in_an_empty_folder_runs(path, snapshot, kernel, tmp_path):
    notebook = nbformat.read(path, as_version=4) if path else small_book.notebook(setup_cell.cell())
    notebook.cells.append(nbformat.v4.new_code_cell(SMALLEST))
    folder = tmp_path / "empty"
    folder.mkdir()
    client = NotebookClient(
        notebook, timeout=300, kernel_name=kernel, resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=environment(snapshot, OMP_NUM_THREADS="1", NEMLIB_QUIET="1"))
    assert notebook.cells[-1].outputs[0].text.split() == ["10000", str(folder / "nemlib-book")]


# ------------------------------------------------------------------ the repository's address

@pytest.fixture
def tree(tmp_path):
    """A copy of the files that may name the repository."""
    for path in repository.texts(ROOT):
        target = tmp_path / "tree" / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return tmp_path / "tree"


def test_the_address_is_set_everywhere_and_back(tree):
    present = sources.repository()[0]
    name = "/".join(present.split("/")[-2:])
    before = {path: path.read_bytes() for path in repository.texts(tree)}
    other = "https://github.com/" + "Some-One/a.fork_2"      # in two parts, or this file would hold it too
    changed = repository.set_address(f"{other}.git/", tree)
    assert {"_config.yml", "README.md", "CITATION.cff"} <= {path.name for path in changed}
    assert sources.repository(tree)[0] == other
    left = [path for path in repository.texts(tree) if name in path.read_text(encoding="utf-8")]
    assert left == []
    assert setup_cell.stale(tree) == []
    repository.set_address(present, tree)
    assert {path: path.read_bytes() for path in repository.texts(tree)} == before


@pytest.mark.parametrize(
    "url",
    [
        "",
        "github.com/a/b",
        "https://example.org/a/b",
        "https://github.com/a",
        "https://github.com/a/b/c",
        "https://github.com/a b/c",
        "https://github.com/-a/b",
        "https://github.com/a/..",
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(SystemExit, match="write https://github.com/OWNER/NAME"):
        repository.parse(url)


def test_no_tool_has_the_name_of_an_extension():
    """Both folders stand on the import path, so one would hide the other."""
    names = [{path.stem for path in (ROOT / folder).glob("*.py")} for folder in ("tools", "book/_ext", "tests")]
    assert names[0] & names[1] == names[0] & names[2] == names[1] & names[2] == set()
