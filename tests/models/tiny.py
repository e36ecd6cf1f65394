"""Writes a model of random weights: llama's architecture, a few hundred tokens, well under a megabyte.

It says nothing that means anything. It is there so that a server of real models has one to serve without a download.
"""
import sys

import gguf
import numpy as np

LAYERS, WIDTH, HEADS, INNER, CONTEXT = 2, 64, 4, 128, 2048


def vocabulary():
    """SentencePiece's, of bytes and a few words: what any text can be cut into."""
    special = [("<unk>", gguf.TokenType.UNKNOWN), ("<s>", gguf.TokenType.CONTROL), ("</s>", gguf.TokenType.CONTROL)]
    byte = [(f"<0x{n:02X}>", gguf.TokenType.BYTE) for n in range(256)]
    words = ["▁", "▁the", "▁a", "▁cat", "▁sat", "▁on", "▁mat", "▁and", "▁then", "▁it", "▁was", "▁blue", ".", ",", "e", "t", "a", "o", "i", "n"]
    return special + byte + [(word, gguf.TokenType.NORMAL) for word in words]


def write(path):
    """Writes the model."""
    random = np.random.default_rng(7)
    tokens = vocabulary()
    out = gguf.GGUFWriter(path, "llama")
    out.add_name("random")
    out.add_context_length(CONTEXT)
    out.add_embedding_length(WIDTH)
    out.add_block_count(LAYERS)
    out.add_feed_forward_length(INNER)
    out.add_head_count(HEADS)
    out.add_head_count_kv(HEADS)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(WIDTH // HEADS)
    out.add_vocab_size(len(tokens))
    out.add_tokenizer_model("llama")
    out.add_token_list([token.encode() for token, _ in tokens])
    out.add_token_scores([-float(n) for n in range(len(tokens))])
    out.add_token_types([kind for _, kind in tokens])
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    out.add_unk_token_id(0)
    out.add_chat_template("{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:")

    def tensor(name, *shape):
        out.add_tensor(name, random.normal(0, 0.2, shape).astype(np.float32))

    def ones(name):
        out.add_tensor(name, np.ones(WIDTH, dtype=np.float32))

    tensor("token_embd.weight", len(tokens), WIDTH)
    # Only words are likely: tokens of bytes would be no text.
    output = random.normal(0, 0.2, (len(tokens), WIDTH)).astype(np.float32)
    output[: 3 + 256] *= 0.01
    output[3 + 256 :] *= 20
    out.add_tensor("output.weight", output)
    ones("output_norm.weight")
    for n in range(LAYERS):
        ones(f"blk.{n}.attn_norm.weight")
        ones(f"blk.{n}.ffn_norm.weight")
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensor(f"blk.{n}.{part}.weight", WIDTH, WIDTH)
        tensor(f"blk.{n}.ffn_gate.weight", INNER, WIDTH)
        tensor(f"blk.{n}.ffn_up.weight", INNER, WIDTH)
        tensor(f"blk.{n}.ffn_down.weight", WIDTH, INNER)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


if __name__ == "__main__":
    write(sys.argv[1])
