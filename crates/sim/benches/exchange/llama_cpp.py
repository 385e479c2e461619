"""llama.cpp's side of the measurements: loads a GGUF file and measures what it is told to.

    python llama_cpp.py MODEL.gguf THREADS

Reads lines `prefill TOKENS` and `decode BATCH TOKENS` and answers each with tokens per second; first it
says its version. It calls llama.cpp's C API through the bindings of llama-cpp-python, with the settings
of llama.cpp's own benchmark: whole prompts, all sequences of a step in one call.
"""

import ctypes
import sys
import time

import llama_cpp as c

# Of each sequence.
CONTEXT = 1280
BATCH = 2048
PROMPT = 16
SEQUENCES = 8


@c.llama_log_callback
def silent(level, text, data):
    pass


def fill(batch, tokens):
    """Tokens as (id, position, sequence, whether its logits are wanted)."""
    batch.n_tokens = len(tokens)
    for index, (token, position, sequence, wanted) in enumerate(tokens):
        batch.token[index] = token
        batch.pos[index] = position
        batch.n_seq_id[index] = 1
        batch.seq_id[index][0] = sequence
        batch.logits[index] = wanted


def compute(context, batch):
    if c.llama_decode(context, batch) != 0:
        raise SystemExit("llama_decode failed")
    c.llama_synchronize(context)


def prefill(context, batch, count):
    c.llama_memory_clear(c.llama_get_memory(context), True)
    fill(batch, [(40 + index % 50, index, 0, index == count - 1) for index in range(count)])
    begun = time.perf_counter()
    compute(context, batch)
    return count / (time.perf_counter() - begun)


def decode(context, batch, sequences, count):
    c.llama_memory_clear(c.llama_get_memory(context), True)
    prompts = [(40 + at, at, sequence, at == PROMPT - 1) for sequence in range(sequences) for at in range(PROMPT)]
    fill(batch, prompts)
    compute(context, batch)
    begun = time.perf_counter()
    for step in range(count):
        fill(batch, [(40 + step % 50, PROMPT + step, sequence, True) for sequence in range(sequences)])
        compute(context, batch)
    return sequences * count / (time.perf_counter() - begun)


def main(path, threads):
    c.llama_log_set(silent, ctypes.c_void_p(0))
    c.llama_backend_init()
    model_settings = c.llama_model_default_params()
    model_settings.n_gpu_layers = 0
    model = c.llama_model_load_from_file(path.encode(), model_settings)
    settings = c.llama_context_default_params()
    settings.n_ctx = CONTEXT * SEQUENCES
    settings.n_batch = BATCH
    settings.n_seq_max = SEQUENCES
    settings.n_threads = settings.n_threads_batch = threads
    context = c.llama_init_from_model(model, settings) if model else None
    if not context:
        raise SystemExit(f"llama.cpp does not load {path}")
    batch = c.llama_batch_init(BATCH, 0, 1)
    print(c.__version__, flush=True)
    for line in sys.stdin:
        what, *numbers = line.split()
        work = {"prefill": prefill, "decode": decode}[what]
        print(work(context, batch, *map(int, numbers)), flush=True)


main(sys.argv[1], int(sys.argv[2]))
