"""A tiny Llama as a GGUF file in float32, as converters write it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.models import read_config

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(base: Path, file: Path) -> Path:
    """Write the model of `make_tiny_base` in the directory `base` to `file`, without its chat template.

    It has one token more, of two blanks, since transformers reads no tokenizer without a merge.
    """
    import numpy as np
    from gguf import GGUFWriter, TokenType
    from safetensors.numpy import load_file

    config = read_config(base)
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    tokens = dict(tokenizer["model"]["vocab"]) | {
        added["content"]: added["id"] for added in tokenizer["added_tokens"]
    }
    ordered = [*sorted(tokens, key=lambda token: tokens[token]), "ĠĠ"]
    special = {added["content"] for added in tokenizer["added_tokens"]}
    writer = GGUFWriter(file, "llama")
    writer.add_block_count(int(str(config["num_hidden_layers"])))
    writer.add_context_length(int(str(config["max_position_embeddings"])))
    writer.add_embedding_length(int(str(config["hidden_size"])))
    writer.add_feed_forward_length(int(str(config["intermediate_size"])))
    writer.add_head_count(int(str(config["num_attention_heads"])))
    writer.add_head_count_kv(int(str(config["num_key_value_heads"])))
    writer.add_layer_norm_rms_eps(float(str(config["rms_norm_eps"])))
    writer.add_vocab_size(len(ordered))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(ordered)
    writer.add_token_types([TokenType.CONTROL if token in special else TokenType.NORMAL for token in ordered])
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_bos_token_id(tokens["<|end|>"])
    writer.add_eos_token_id(tokens["<|end|>"])
    heads = {
        "q_proj": int(str(config["num_attention_heads"])),
        "k_proj": int(str(config["num_key_value_heads"])),
    }
    for name, values in load_file(base / "model.safetensors").items():
        stem = name.removesuffix(".weight").removeprefix("model.")
        if stem.startswith("layers."):
            _, number, part = stem.split(".", 2)
            count = heads.get(part.rpartition(".")[2])
            if count:  # the two halves of a rotary pair lie beside each other
                size, ins = values.shape
                values = values.reshape(count, 2, size // count // 2, ins).swapaxes(1, 2).reshape(size, ins)
            stem = f"blk.{number}.{NAMES[part]}"
        else:
            if stem != "norm":
                values = np.pad(values, ((0, 1), (0, 0)))
            stem = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}[stem]
        writer.add_tensor(f"{stem}.weight", values.copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
