# llama.cpp as a peer for `cargo xtask bench engine`.
#
# Source it: it builds the bindings of llama-cpp-python with the llama.cpp in them (some minutes; it needs a
# C++ compiler) in a cache outside of the clone, and exports
#   GRISTMILL_LLAMA_PYTHON  the Python that can import llama_cpp

LLAMA_CPP_PYTHON_VERSION=0.3.36

gristmill_cache=${GRISTMILL_CI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gristmill-ci}

gristmill_llama() {
    local venv=$gristmill_cache/llama-cpp-$LLAMA_CPP_PYTHON_VERSION
    if [ ! -e "$venv/ready" ]; then
        echo "ci: building llama.cpp; this takes some minutes"
        rm -rf "$venv"
        python3 -m venv "$venv"
        CMAKE_ARGS="-DLLAVA_BUILD=OFF" "$venv/bin/python3" -m pip install --quiet \
            --disable-pip-version-check "llama-cpp-python==$LLAMA_CPP_PYTHON_VERSION"
        touch "$venv/ready"
    fi
    export GRISTMILL_LLAMA_PYTHON="$venv/bin/python3"
}

gristmill_llama
