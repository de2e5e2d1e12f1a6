"""llama.cpp's bindings alone, in a process of their own: this one may have imported the package already."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_they_are_the_packages_own() -> None:
    code = "import llama_cpp; print(llama_cpp.__version__, llama_cpp.__file__, llama_cpp.llama_cpp.__file__)"
    assert run(f"from janflask.engine import bindings; bindings.load(); {code}") == run(code)


def test_a_package_that_was_imported_is_left_alone() -> None:
    assert run("import llama_cpp; from janflask.engine import bindings; bindings.load(); print(llama_cpp.Llama)")


@pytest.mark.parametrize("broken", ["lib", "version"])
def test_what_is_wrong_with_them_is_told(broken: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """As an import of the package would, and each time anew."""
    package = tmp_path_factory.mktemp("site") / "llama_cpp"
    package.mkdir()
    (package / "__init__.py").write_text('__version__ = "1.0"\n' if broken == "lib" else "import nothing_like_this\n")
    (package / "llama_cpp.py").write_text("raise RuntimeError('no library')\n")
    code = (
        f"import sys; sys.path.insert(0, {str(package.parent)!r})\n"
        "from janflask.engine import bindings\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        bindings.load()\n"
        "    except Exception as error:\n"
        "        print(error)"
    )
    said = run(code).splitlines()
    assert said == ["no library" if broken == "lib" else "No module named 'nothing_like_this'"] * 2
