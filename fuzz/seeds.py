#!/usr/bin/env python3
"""Makes what the fuzzers start from: seeds in fuzz/corpus/TARGET/, words in corpus/TARGET.dict.

Everything comes from the repository: a golden adapter cut down to two modules, the suites that are
shipped, tasks of every kind put together here, and, as words of the dictionaries, the string
literals and field names of the sources that parse. A fuzzer that knows `max_new_tokens` gets past
the first `if`.
"""

import itertools
import json
import re
import struct
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "fuzz" / "corpus"


def write(target, seeds):
    """One file per seed."""
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(seeds):
        (folder / f"seed-{index:03}").write_bytes(seed)
    print(f"{target}: {index + 1} seeds")


def write_words(target, *folders):
    """A libFuzzer dictionary of the literals and names in the sources below `folders`."""
    marks = "= [ ] { } , : \" ' \n [[ ]] true false null nan -1 0 1e308 99999999999999999999"
    words = set(marks.split(" "))
    for path in itertools.chain.from_iterable(sorted((ROOT / f).rglob("*.rs")) for f in folders):
        text = path.read_text()
        words.update(re.findall(r'"((?:[^"\\{}\n]){1,24})"', text))
        words.update(re.findall(r"^\s+(?:pub )?([a-z_]{1,24}): ", text, re.MULTILINE))
        words.update(re.findall(r"\s([A-Z][A-Za-z]{2,24}),$", text, re.MULTILINE))
    def quoted(word):
        plain = lambda c: " " < c < "\x7f" and c not in '"\\'
        return "".join(c if plain(c) else "".join(f"\\x{b:02x}" for b in c.encode()) for c in word)

    lines = [f'"{quoted(word)}"\n' for word in sorted(words) if word]
    (CORPUS / f"{target}.dict").write_text("".join(lines))


def adapters():
    """The golden adapter, cut to one module, in three types, with odd scales and shapes."""
    golden = ROOT / "tests/golden/forward/tiny-mha/adapters/a0"
    config = json.loads((golden / "adapter_config.json").read_text())
    raw = (golden / "adapter_model.safetensors").read_bytes()
    names = [name for name in json.loads(raw[8:8 + struct.unpack("<Q", raw[:8])[0]])
             if "layers.0.self_attn.q_proj" in name or "layers.1.mlp.up_proj" in name]
    short = {key: config[key] for key in ("peft_type", "r", "lora_alpha", "target_modules")}
    changes = [{}, {"use_rslora": True}, {"bias": "all"}, {"target_modules": "all-linear"},
               {"target_modules": r".*\.(q|up)_proj"}, {"layers_to_transform": [0, 1]},
               {"rank_pattern": {"up_proj": 3}, "alpha_pattern": {"up_proj": 1}},
               {"exclude_modules": ["v_proj"]}, {"modules_to_save": ["lm_head"]},
               {"use_dora": True}]
    for base, change, dtype in itertools.product([short, config], changes, ["F32", "F16", "BF16"]):
        fields = base | {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "up_proj"]} | change
        header, data = {"__metadata__": {"format": "pt"}}, b""
        for name in names:
            rank = 3 if "rank_pattern" in change and "up_proj" in name else 2
            shape = [rank, 4] if "lora_A" in name else [3, rank]
            values = [(i % 7 - 3) / 8 for i in range(shape[0] * shape[1])]
            packed = {"F32": lambda v: struct.pack("<f", v), "F16": lambda v: struct.pack("<e", v),
                      "BF16": lambda v: struct.pack("<f", v)[2:]}[dtype]
            chunk = b"".join(packed(value) for value in values)
            header[name] = {"dtype": dtype, "shape": shape,
                            "data_offsets": [len(data), len(data) + len(chunk)]}
            data += chunk
        text, head = json.dumps(fields).encode(), json.dumps(header).encode()
        yield struct.pack("<H", len(text)) + text + struct.pack("<Q", len(head)) + head + data


def tasks():
    """Answers, a task file, and the files it names, of every kind."""
    choice = {"dataset": "hellaswag", "icl_prompt": "Question: ...", "dev": [
        {"id": 7, "domain": "d", "question": "Which?", "choices": {"A": "one", "B": "a dog"},
         "answer": "B"},
        {"question": "Or?", "choices": {"yes": "Yes", "no": "no", "I": "it"}, "answer": "no"}],
        "test": [{"question": "Then?", "choices": {"A": "x", "B": "X y"}, "answer": "A"}]}
    exact = {"dataset": "gsm8k", "dev": [{"question": "6 * 6,000?", "answer": "36,000"},
             {"question": "Half?", "answer": "-0.50"}], "test": [{"question": "1?", "answer": "1"}]}
    words = {"dev": [{"question": "Is there a path?", "answer": "No"}], "test": []}
    prompts = {"dev": [{"prompt": "Once upon a time"}], "test": [{"prompt": ""}]}
    said = ["The answer is B. a dog", "(A) one\nno\nI think A and B",
            "36,000 = 36000.0\n-0.5 x\nNode", "true\nfalse", "-1.5\n-3.25\n0",
            "not A, \u2019B\u2019 1.2.3 .5 3rd", "0.25"]
    single = [("multiple-choice", choice), ("abstain", choice), ("exact-match", exact),
              ("exact-match", words), ("perplexity", prompts), ("perplexity", choice)]
    quirks = ["", "limit = { dev = 1, test = 1 }\n", "max_new_tokens = 3\nchat = true\n",
              "[quirks]\nchoice_parser = 'authors'\nexact_match = 'substring'\n"
              "abstain_cue = 'substring'\ntail_pieces = { dev = 2, test = 0 }\n"
              "pad_batch = { dev = 4, test = 1 }\n",
              "[quirks]\nchoice_parser = 'letters'\nexact_match = 'last-number'\n"]
    for (kind, data), quirk, answers in itertools.product(single, quirks, said):
        if quirk and kind == "perplexity" and not quirk.startswith("limit"):
            continue
        yield joined(answers, f"name = 't'\nkind = '{kind}'\ndata = 'd.json'\n{quirk}", data)
    part = "name = '{}'\nkind = '{}'\ndata = '{}'\n"
    for answers, zero in itertools.product(said, ["", "[quirks]\nmulti_zero = 'cent'\n"]):
        yield joined(answers, f"name = 'm'\nkind = 'multi'\ntasks = ['a.toml', 'b.toml']\n{zero}",
                     part.format("a", "multiple-choice", "c.json"), choice,
                     part.format("b", "exact-match", "e.json"), exact)
        yield joined(answers, "name = 'c'\nkind = 'command'\nprogram = ['./score', '--json']\n")


def joined(*texts):
    """The form the target `task` takes apart."""
    return "\0".join(t if isinstance(t, str) else json.dumps(t) for t in texts).encode()


def suites():
    """The shipped suites without their comments: whole, cut off, and with one row each."""
    for path in sorted((ROOT / "suites").glob("*.toml")):
        lines = [re.sub(r"\s*#.*", "", line) for line in path.read_text().splitlines()]
        text = "".join(f"{line}\n" for line in lines if line)
        yield text.encode()
        head, *rows = text.split("[[row]]")
        head, *columns = head.split("[[column]]")
        for index, row in enumerate(rows):
            named = [column for column in columns if f'"{column.split(chr(34))[1]}"' in row]
            named = [columns[index % len(columns)], *named]
            chosen = "".join(f"[[column]]{column}" for column in sorted(set(named)))
            yield f"{head}{chosen}[[row]]{row}".encode()
        for count in range(200, len(text), 200):
            yield text[:count].encode()


write("adapter", adapters())
write_words("adapter", "src/adapter", "src/tensors")
write("task", tasks())
write_words("task", "src/task")
if any((ROOT / "suites").glob("*.toml")):
    write("suite", suites())
    write_words("suite", "src/suite")
