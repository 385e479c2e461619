"""Writes a small Llama of a Hugging Face folder as GGUF: gguf_of.py FOLDER FILE

For character-level models like the starter model; what public models need is llama.cpp's own converter's.
"""
import json
import struct
import sys
from pathlib import Path

import gguf
import numpy as np

folder, file = Path(sys.argv[1]), sys.argv[2]
config = json.loads((folder / "config.json").read_text())
tokenizer = json.loads((folder / "tokenizer.json").read_text())
chat = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]

raw = (folder / "model.safetensors").read_bytes()
(length,) = struct.unpack("<Q", raw[:8])
header = json.loads(raw[8 : 8 + length])


def tensor(name):
    entry = header[name]
    assert entry["dtype"] == "F32", entry
    start, end = (8 + length + offset for offset in entry["data_offsets"])
    return np.frombuffer(raw[start:end], dtype=np.float32).reshape(entry["shape"])


def interleaved(weights, heads):
    """llama.cpp turns pairs of neighbours, Hugging Face pairs of halves."""
    rows, columns = weights.shape
    return weights.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


# A byte for what no character stands for: the library wants one for each.
vocab = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
special = {token["content"] for token in tokenizer["added_tokens"]}
tokens, scores, types = [], [], []
for text, id in vocab:
    kind = gguf.TokenType.NORMAL
    if text in special:
        kind = gguf.TokenType.UNKNOWN if text == "<unk>" else gguf.TokenType.CONTROL
    tokens.append(text.replace(" ", "\u2581").encode())
    scores.append(-float(id))
    types.append(kind)
for byte in range(256):
    tokens.append(f"<0x{byte:02X}>".encode())
    scores.append(-1e6)
    types.append(gguf.TokenType.BYTE)
embedding = tensor("model.embed_tokens.weight")
padding = np.zeros((256, embedding.shape[1]), dtype=np.float32)
heads, groups = config["num_attention_heads"], config["num_key_value_heads"]

writer = gguf.GGUFWriter(file, "llama")
writer.add_name("starter")
writer.add_context_length(config["max_position_embeddings"])
writer.add_embedding_length(config["hidden_size"])
writer.add_block_count(config["num_hidden_layers"])
writer.add_feed_forward_length(config["intermediate_size"])
writer.add_head_count(heads)
writer.add_head_count_kv(groups)
writer.add_rope_dimension_count(config["head_dim"])
writer.add_rope_freq_base(config["rope_theta"])
writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
writer.add_vocab_size(len(tokens))
writer.add_file_type(gguf.LlamaFileType.ALL_F32)
writer.add_tokenizer_model("llama")
writer.add_token_list(tokens)
writer.add_token_scores(scores)
writer.add_token_types(types)
writer.add_bos_token_id(config["bos_token_id"])
writer.add_eos_token_id(config["eos_token_id"])
writer.add_unk_token_id(0)
writer.add_add_bos_token(False)
writer.add_add_eos_token(False)
writer.add_add_space_prefix(False)
writer.add_chat_template(chat)
writer.add_tensor("token_embd.weight", np.concatenate([embedding, padding]))
# Tied: the bytes of padding are given a head of their own that never wins.
writer.add_tensor("output.weight", np.concatenate([embedding, padding]))
writer.add_tensor("output_norm.weight", tensor("model.norm.weight"))
for layer in range(config["num_hidden_layers"]):
    of = lambda name: tensor(f"model.layers.{layer}.{name}.weight")
    add = lambda name, weights: writer.add_tensor(f"blk.{layer}.{name}.weight", np.ascontiguousarray(weights))
    add("attn_norm", of("input_layernorm"))
    add("attn_q", interleaved(of("self_attn.q_proj"), heads))
    add("attn_k", interleaved(of("self_attn.k_proj"), groups))
    add("attn_v", of("self_attn.v_proj"))
    add("attn_output", of("self_attn.o_proj"))
    add("ffn_norm", of("post_attention_layernorm"))
    add("ffn_gate", of("mlp.gate_proj"))
    add("ffn_up", of("mlp.up_proj"))
    add("ffn_down", of("mlp.down_proj"))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
