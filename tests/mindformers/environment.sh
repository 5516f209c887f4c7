#!/bin/sh
# Makes .judges/: MindFormers 0.8.0 with what it needs, on the Python and MindSpore of its time.
set -eu
cd "$(dirname "$0")/../.."
. tests/environments.sh

begin .judges tests/mindformers/environment.sh

python=
# A python3.9 on the PATH may be pyenv's shim for a version that isn't selected: only running tells.
for candidate in python3.9 "${HOME:-}"/.pyenv/versions/3.9*/bin/python3.9; do
    if "$candidate" -c 'import venv, ensurepip' >/dev/null 2>&1; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "MindFormers 0.8.0 needs Python 3.9: there's none on PATH nor under ~/.pyenv/versions" >&2
    exit 3
fi

create "$python"
# requests is imported by MindFormers 0.8.0 though its metadata doesn't name it.
install --no-warn-conflicts mindspore==2.0.0 mindpet==1.0.2 "numpy<1.25" "pillow<10" \
    "protobuf<3.21" "setuptools<70" pydantic==1.10.11 pyyaml sentencepiece ftfy regex tqdm jieba \
    rouge-chinese nltk opencv-python-headless requests
# Its metadata asks for gradio and mdtex2html too: a web page that no judge opens.
install --no-warn-conflicts --no-deps mindformers==0.8.0
finish
