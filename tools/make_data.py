"""Rebuild the embedded data sets in data/, and the facts about them in data/README.md.

    python tools/make_data.py                    # all of them; MNIST's originals are fetched if need be
    python tools/make_data.py --mnist FOLDER     # with the four original idx files of that folder
    python tools/make_data.py shapes glyphs      # only these
    python tools/make_data.py --check            # write nothing; say whether a rebuild holds the same numbers

With the locked versions of h5py and of the compression library in it, a rebuild gives the same bytes.
Other versions may pack them otherwise; what is packed stays the same, and --check compares that.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nemlib.data.alphadigits import PUBLISHED as ALPHADIGITS  # noqa: E402  (below the path to the package)
from nemlib.data.binarized import SIZES as BINARIZED_SPLITS  # noqa: E402
from nemlib.data.binarized import published  # noqa: E402
from nemlib.data.checks import sha256  # noqa: E402
from nemlib.data.download import RemoteFile  # noqa: E402
from nemlib.data.glyphs import write_glyphs  # noqa: E402
from nemlib.data.mnist import CONTENT_SHA256, original, read_originals, write_mnist  # noqa: E402
from nemlib.data.shapes import write_shapes  # noqa: E402
from nemlib.files import write_atomically  # noqa: E402

NAMES = ("mnist", "shapes", "glyphs")
BEGIN, END = "<!-- written by tools/make_data.py: begin -->", "<!-- written by tools/make_data.py: end -->"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(NAMES)}; all by default")
    parser.add_argument("--mnist", type=Path, metavar="FOLDER", help="folder of the original idx files")
    parser.add_argument("--check", action="store_true", help="write nothing, compare a rebuild")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(NAMES)
    if unknown:
        parser.error(f"there is no data set {', '.join(sorted(unknown))}: choose from {', '.join(NAMES)}")
    writers = {name: writer(name, arguments.mnist) for name in arguments.names or NAMES}
    return check(writers) if arguments.check else rebuild(writers)


def writer(name: str, originals: Path | None) -> Callable[[Path], None]:
    """What writes the embedded file of a data set to a path."""
    if name == "mnist":
        return lambda path: write_mnist(path, read_originals(originals))
    return {"shapes": write_shapes, "glyphs": write_glyphs}[name]


def rebuild(writers: dict[str, Callable[[Path], None]]) -> int:
    for name, write in writers.items():
        path, start = ROOT / "data" / f"{name}.h5", time.perf_counter()
        with write_atomically(path) as temporary:
            write(temporary)
        seconds = time.perf_counter() - start
        print(f"{path.name}: {path.stat().st_size:,} bytes in {seconds:.1f} s, SHA-256 {file_sha256(path)}")
    readme = ROOT / "data" / "README.md"
    text = readme.read_text(encoding="utf-8")
    with write_atomically(readme) as temporary:
        temporary.write_text(with_facts(text, facts(ROOT / "data")), encoding="utf-8")
    return 0


def check(writers: dict[str, Callable[[Path], None]]) -> int:
    differing = []
    for name, write in writers.items():
        with tempfile.TemporaryDirectory() as folder:
            anew = Path(folder, f"{name}.h5")
            write(anew)
            same = same_numbers(anew, ROOT / "data" / f"{name}.h5")
        print(f"{name}.h5: a rebuild holds {'the same' if same else 'OTHER'} numbers")
        differing += [] if same else [name]
    return 1 if differing else 0


def same_numbers(one: Path, other: Path) -> bool:
    """Whether two HDF5 files hold the same arrays under the same names."""
    with h5py.File(one) as first, h5py.File(other) as second:
        names = array_names(first)
        if names != array_names(second):
            return False
        return all(np.array_equal(first[name][...], second[name][...]) for name in names)


def array_names(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return sorted(names)


def file_sha256(path: Path) -> str:
    return sha256(path.read_bytes())


def with_facts(readme: str, block: str) -> str:
    """The README with the text between its two marks replaced."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n\n{block}\n{END}{rest.split(END)[1]}"


def facts(folder: Path) -> str:
    """Markdown: what the files, and the code that reads and fetches them, say about themselves."""
    sections = [embedded(folder / f"{name}.h5") for name in NAMES]
    fetched = [ALPHADIGITS, *map(published, BINARIZED_SPLITS), *map(original, CONTENT_SHA256)]
    sections.append("### Fetched on demand\n\n| file | first address | SHA-256 of the file |\n|---|---|---|\n"
                    + "".join(map(remote_row, fetched)))
    sections.append("### MNIST's original files, without compression\n\n| file | SHA-256 |\n|---|---|\n"
                    + "".join(f"| `{name}` | `{digest}` |\n" for name, digest in CONTENT_SHA256.items()))
    return "\n".join(sections)


def embedded(path: Path) -> str:
    """The facts about one embedded file, as Markdown."""
    with h5py.File(path) as file:
        rows = [f"| `{name}` | {file[name].shape} | {file[name].dtype} |\n" for name in array_names(file)]
        about = {key: file.attrs[key] for key in ("name", "source", "licence")}
    return (
        f"### `{path.name}`: {about['name']}\n\n"
        f"- Source: {about['source']}\n- Licence: {about['licence']}\n"
        f"- SHA-256: `{file_sha256(path)}` ({path.stat().st_size:,} bytes)\n\n"
        "| array | shape | type |\n|---|---|---|\n" + "".join(rows)
    )


def remote_row(remote: RemoteFile) -> str:
    return f"| `{remote.name}` | <{remote.addresses[0]}> | `{remote.sha256}` |\n"


if __name__ == "__main__":
    sys.exit(main())
