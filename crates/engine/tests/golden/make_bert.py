"""Makes the numbers that the embedder's vectors are compared with.

Run where sentence-transformers is installed (PyPI; made with torch 2.15.0, transformers 5.23.0,
sentence-transformers 6.2.0):

    python make_bert.py                     # writes the folders bert-mean and bert-cls beside this file
    python make_bert.py MODEL VECTORS.json  # vectors of a whole model, for `tests/minilm.rs`

A folder holds a small BERT with random weights as sentence-transformers saves it, and vectors.json:
texts, their token ids, and the vectors that sentence-transformers makes of them on the CPU in f32, one
text at a time. The weights are drawn with a fixed seed and larger than at the start of training, so
that attention is far from uniform.
"""

import json
import pathlib
import sys
import tempfile

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
TEXTS = [
    "a",
    "",
    "The mill grinds corn.",
    "the MILL grinds, and grinds; and grinds!",
    "Mühle und Wasser 2026",
    "water under the mill " * 12,
    "水車",
    "unknown ☃ word",
]
VARIANTS = {
    "bert-mean": dict(pooling="mean", normalise=True, hidden_act="gelu"),
    "bert-cls": dict(pooling="cls", normalise=False, hidden_act="gelu_new"),
}


def tokenizer():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += list("abcdefghijklmnopqrstuvwxyz0123456789.,;!水車")
    words += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789"]
    words += ["the", "mill", "grind", "##s", "water", "und", "under", "corn"]
    vocab = {word: number for number, word in enumerate(dict.fromkeys(words))}
    made = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    cls, sep = ("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])
    made.post_processor = processors.BertProcessing(sep, cls)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def make(name, pooling, normalise, hidden_act):
    words = tokenizer()
    torch.manual_seed(20_26)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        hidden_act=hidden_act,
        max_position_embeddings=80,
        layer_norm_eps=1e-12,
    )
    model = BertModel(config, add_pooling_layer=False).eval().float()
    generator = torch.Generator().manual_seed(20_26)
    with torch.no_grad():
        for parameter_name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter_name.endswith("LayerNorm.weight"):
                parameter.copy_(1 + 0.2 * noise)
            elif parameter.dim() == 1:
                parameter.copy_(0.3 * noise)
            else:
                parameter.copy_(noise * (2.0 / parameter.shape[-1]) ** 0.5)
    with tempfile.TemporaryDirectory() as plain:
        model.save_pretrained(plain)
        words.save_pretrained(plain)
        transformer = Transformer(plain, max_seq_length=64)
        modules = [transformer, Pooling(config.hidden_size, pooling_mode=pooling)]
        sentences = SentenceTransformer(modules=modules + ([Normalize()] if normalise else []), device="cpu")
    folder = HERE / name
    sentences.save_pretrained(str(folder), create_model_card=False)
    write(sentences, TEXTS, folder / "vectors.json")


def write(sentences, texts, path):
    vectors = [sentences.encode(text).tolist() for text in texts]
    ids = [sentences.tokenizer(text)["input_ids"] for text in texts]
    rounded = [[float(f"{x:.8g}") for x in vector] for vector in vectors]
    numbers = {"texts": texts, "ids": ids, "vectors": rounded}
    path.write_text(json.dumps(numbers, separators=(",", ":")) + "\n")
    print(path, len(ids), "texts, tokens:", [len(each) for each in ids])


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) == 3:
        write(SentenceTransformer(sys.argv[1], device="cpu"), TEXTS, pathlib.Path(sys.argv[2]))
    else:
        for name, settings in VARIANTS.items():
            make(name, **settings)
