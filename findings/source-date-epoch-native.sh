#!/usr/bin/env bash
# llama.cpp (as llama-cpp-python 0.3.36 vendors it): SOURCE_DATE_EPOCH in the environment builds it for a CPU of 20 years ago.
#
# Packagers and CI images set SOURCE_DATE_EPOCH so that archives get the same time stamps everywhere. ggml takes it as a wish
# for a build that runs on any machine: GGML_NATIVE, which is on otherwise, is off then, and with it AVX2 and AVX-512 and most of
# the speed on a CPU. Only CMake's cache shows it; -DGGML_NATIVE=ON puts it right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "cmake==4.1.0" "ninja==1.13.0" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat > "$folder/fetch.py" <<'PYTHON'
import re
import sys
import tarfile
from io import BytesIO
from urllib.parse import urljoin
from urllib.request import urlopen

INDEX = "https://pypi.org/simple/llama-cpp-python/"
with urlopen(INDEX) as answer:
    (source,) = re.findall(r'href="([^"#]*llama_cpp_python-0\.3\.36\.tar\.gz)', answer.read().decode())
with urlopen(urljoin(INDEX, source)) as answer, tarfile.open(fileobj=BytesIO(answer.read())) as archive:
    archive.extractall(sys.argv[1], filter="data")
PYTHON
"$folder/venv/bin/python" "$folder/fetch.py" "$folder/source"
PATH="$folder/venv/bin:$PATH"
native() {
    env "$@" cmake -G Ninja -S "$folder"/source/*/vendor/llama.cpp -B "$folder/build" --fresh >"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
    grep '^GGML_NATIVE:' "$folder/build/CMakeCache.txt"
}
{
    echo "without SOURCE_DATE_EPOCH: $(native -u SOURCE_DATE_EPOCH)"
    echo "with it: $(native SOURCE_DATE_EPOCH=1700000000)"
} | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
without SOURCE_DATE_EPOCH: GGML_NATIVE:BOOL=ON
with it: GGML_NATIVE:BOOL=OFF
SEEN
