"""Makes the numbers that the engine's logits are compared with.

Run where torch and transformers are installed (PyPI; made with torch 2.15.0, transformers 5.23.0):

    python make.py

For each variant it writes NAME/config.json, NAME/model.safetensors (small random weights) and
NAME/logits.json: token ids and, for every position, the logits of transformers on the CPU in f32.
The weights are drawn with a fixed seed and larger than at the start of training, so that attention
is far from uniform and an error in rope, masking or grouping moves logits well above the tolerance.
"""

import json
import pathlib

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

HERE = pathlib.Path(__file__).parent
COMMON = dict(hidden_act="silu", bos_token_id=1, eos_token_id=2)
LLAMA = dict(attention_bias=False, mlp_bias=False)
FAMILIES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}
SMALL = dict(
    vocab_size=64,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    rms_norm_eps=1e-6,
)
ROPE = {"rope_type": "default", "rope_theta": 1000.0}
VARIANTS = {
    # Grouped-query attention, separate output matrix.
    "plain": dict(
        family="llama",
        **LLAMA,
        vocab_size=96,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=False,
    ),
    # Llama 3's rope scaling, head size that is not hidden / heads, tied embeddings, one KV head.
    "scaled": dict(
        family="llama",
        **LLAMA,
        vocab_size=80,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=256,
        rms_norm_eps=1e-6,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        tie_word_embeddings=True,
    ),
    # Biases everywhere.
    "biased": dict(
        family="llama", **SMALL, attention_bias=True, mlp_bias=True, rope_parameters=ROPE, tie_word_embeddings=False
    ),
    # A window shorter than the text, in all layers; heads narrower than hidden / heads.
    "mistral": dict(
        family="mistral", **SMALL, head_dim=8, sliding_window=20, rope_parameters=ROPE, tie_word_embeddings=False
    ),
    # Biases of q, k and v, tied embeddings, a window in the second layer only.
    "qwen2": dict(
        family="qwen2",
        **SMALL,
        use_sliding_window=True,
        sliding_window=20,
        max_window_layers=1,
        rope_parameters=ROPE,
        tie_word_embeddings=True,
    ),
    # Norms of q and k, heads wider than hidden / heads.
    "qwen3": dict(family="qwen3", **SMALL, head_dim=32, rope_parameters=ROPE, tie_word_embeddings=False),
}
POSITIONS = 72


def make(name, settings):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    settings = dict(settings)
    make_config, make_model = FAMILIES[settings.pop("family")]
    config = make_config(**COMMON, **settings)
    config._attn_implementation = "eager"
    generator = torch.Generator().manual_seed(20_26)
    model = make_model(config).eval().float()
    with torch.no_grad():
        for parameter_name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter_name.endswith("norm.weight"):
                parameter.copy_(1 + 0.2 * noise)
            elif parameter.dim() == 1:
                parameter.copy_(0.5 * noise)
            else:
                parameter.copy_(noise * (2.0 / parameter.shape[-1]) ** 0.5)
        ids = torch.randint(0, config.vocab_size, (1, POSITIONS), generator=generator)
        logits = model(ids).logits[0]
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "generation_config.json").unlink(missing_ok=True)
    numbers = {"ids": ids[0].tolist(), "logits": [[float(f"{x:.7g}") for x in row] for row in logits.tolist()]}
    (folder / "logits.json").write_text(json.dumps(numbers, separators=(",", ":")) + "\n")
    print(name, "max |logit|", logits.abs().max().item(), "std", logits.std().item())


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, settings in VARIANTS.items():
        make(name, settings)
