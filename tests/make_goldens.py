"""Tiny models of many kinds with LoRA adapters, and what transformers and PEFT make of them.

    python3 make_goldens.py --out DIR [--tokenizer DIR] [--only NAME,NAME]

Writes DIR/forward/NAME/{model,adapters,golden.json,golden.safetensors} for every model below, and
DIR/forward/chat.json. The tests run over it with MODEL_SWARMS_GOLDEN=DIR. Weights come from the
names of model and tensor, so a second run makes the same files. Batch 1, f32 arithmetic, eager
attention, one thread. Prompts whose two best next tokens come within 1e-3 of each other for some
adapter are replaced, since rounding may decide between them. Needs torch, transformers and peft.
"""

import argparse
import json
import math
import os
import shutil
import sys
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
)
from transformers.utils import logging

MIN_GAP = 1e-3
NEW_TOKENS = 16
END_IDS = [1, 5]
TOKENIZER_SIZE = 1024  # ids from here up are in no prompt
# One less, equal and one more than the sizes at which the decoder cuts rows and columns.
LENGTHS = [1, 2, 3, 7, 8, 9, 11, 12, 13, 24, 31, 32, 33, 64, 65, 128, 255, 256, 257, 300, 513]
TEXTS = ["", "Yes", "What follows from a ⊕ b, and why?\n\n\tThink  twice."]

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PATTERNS = {
    # In the order of the file the first match decides; keys match from a dot on, to the end.
    "rank_pattern": {r"layers\.0\..*_proj": 5, r"mlp\.(up|down)_proj": 12, "q_proj": 1},
    "alpha_pattern": {"model.layers.1.self_attn.v_proj": 7, r".*\.[02]\.mlp\.gate_proj": 24},
}
# Changes to LoraConfig; "file" changes the saved adapter_config.json, "store" the tensors' type.
ADAPTERS = {
    "plain": {},
    "r1": {"r": 1, "lora_alpha": 3},
    "r3": {"r": 3, "lora_alpha": 8},
    "r64": {"r": 64, "lora_alpha": 32},
    "r100": {"r": 100, "lora_alpha": 32},
    "rslora": {"r": 6, "use_rslora": True},
    "patterns": PATTERNS,
    "rslora-patterns": {"use_rslora": True, **PATTERNS},
    "all-linear": {"file": {"target_modules": "all-linear"}},
    "expression": {"target_modules": r".*\.[12]\.(self_attn\.[qv]_proj|mlp\.down_proj)"},
    "excluded": {"exclude_modules": ["o_proj", "layers.1.mlp.up_proj"]},
    "some-layers": {"layers_to_transform": [0, 2]},
    "only-down": {"target_modules": ["down_proj"]},
    "only-k": {"target_modules": ["k_proj"], "r": 2},
    "stored-bf16": {"store": torch.bfloat16},
    "stored-f16": {"store": torch.float16},
}
FEW = ["plain", "patterns", "only-down"]

IDS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
SMALL = {"vocab_size": 1024, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3}


def heads(n_heads, n_kv_heads, head_dim):
    """The attention's sizes, as config.json names them."""
    return {
        "num_attention_heads": n_heads,
        "num_key_value_heads": n_kv_heads,
        "head_dim": head_dim,
    }


ODD = {"vocab_size": 1031, "hidden_size": 96, "intermediate_size": 344}
# name: (class, sizes, adapters, type of the saved weights, largest shard)
MODELS = {
    "gemma-mqa": (GemmaConfig, {**SMALL, **heads(4, 1, 64)}, list(ADAPTERS), "float32", None),
    "gemma-odd": (
        GemmaConfig,
        {**SMALL, **ODD, **heads(3, 3, 32)},
        FEW + ["r100"],
        "float32",
        None,
    ),
    "gemma-bf16": (
        GemmaConfig,
        {**SMALL, **heads(2, 2, 40)},
        FEW + ["stored-bf16"],
        "bfloat16",
        None,
    ),
    "gemma-wide": (
        GemmaConfig,
        {**SMALL, "hidden_size": 264, "intermediate_size": 776, **heads(2, 1, 264)},
        FEW,
        "float32",
        None,
    ),
    "mistral-window8": (
        MistralConfig,
        {**SMALL, **heads(8, 2, 16), "rms_norm_eps": 1e-5, "sliding_window": 8},
        FEW + ["r1"],
        "float32",
        None,
    ),
    "mistral-window100": (
        MistralConfig,
        {**SMALL, **heads(4, 4, 32), "sliding_window": 100, "rope_theta": 1e6},
        FEW,
        "bfloat16",
        None,
    ),
    "mistral-open": (
        MistralConfig,
        {**SMALL, **heads(6, 3, 20), "rms_norm_eps": 1e-5, "sliding_window": None},
        FEW + ["r3", "rslora"],
        "float32",
        None,
    ),
    "llama": (
        LlamaConfig,
        {**SMALL, **heads(4, 4, 32), "rope_theta": 5e5, "rms_norm_eps": 1e-5},
        FEW + ["rslora-patterns", "only-k", "stored-f16"],
        "float32",
        None,
    ),
    "llama-tied": (
        LlamaConfig,
        {
            **SMALL,
            **heads(4, 2, 32),
            "rope_theta": 5e5,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
        },
        FEW,
        "float16",
        None,
    ),
    "llama-head24": (
        LlamaConfig,
        {**SMALL, **ODD, **heads(4, 2, 24), "rms_norm_eps": 1e-5},
        FEW + ["r64", "all-linear"],
        "float32",
        None,
    ),
    "llama-f16-shards": (LlamaConfig, {**SMALL, **heads(8, 1, 16)}, FEW, "float16", "300KB"),
    "llama-one-layer": (
        LlamaConfig,
        {**SMALL, **ODD, "num_hidden_layers": 1, "intermediate_size": 8, **heads(1, 1, 2)},
        ["r1", "only-k"],
        "float32",
        None,
    ),
}


def noise(shape, *names):
    """Standard normal values that follow from the names."""
    key = [int(byte) for byte in "/".join(names).encode()]
    values = np.random.default_rng(key).standard_normal(tuple(shape), dtype=np.float32)
    return torch.from_numpy(values)


def fill_model(name, model):
    """Weights under which the next token depends on the whole prompt.

    A random model with tied embeddings repeats what it has just read; a final norm whose gains
    have mean zero breaks that.
    """
    tied = model.config.tie_word_embeddings
    gemma = model.config.model_type == "gemma"
    for key, parameter in model.named_parameters():
        values = noise(parameter.shape, name, key)
        if key == "model.norm.weight" and tied:
            values = values - (1.0 if gemma else 0.0)
        elif "norm" in key:
            values = 0.1 * values + (0.0 if gemma else 1.0)
        elif "embed_tokens" in key and not tied:
            pass
        elif "embed_tokens" in key or "lm_head" in key:
            values = values * 0.2 * math.sqrt(128 / model.config.hidden_size)
            values[END_IDS] *= 1.5  # so that some answers end early
        else:
            gain = 2.0 if "o_proj" in key or "down_proj" in key else 1.2
            values = values * gain / math.sqrt(parameter.shape[1])
        with torch.no_grad():
            parameter.copy_(values)


def rope(sizes, config_class):
    """transformers 5 wants the rotary base among rope_parameters."""
    sizes = dict(sizes)
    theta = sizes.pop("rope_theta", 10000.0)
    sizes["rope_parameters"] = {"rope_type": "default", "rope_theta": theta}
    return config_class(**IDS, **sizes, max_position_embeddings=4096)


def make_model(name, folder, tokenizer):
    """Writes the model's directory and returns the model as it is read back, in f32."""
    config_class, sizes, _, dtype, shard = MODELS[name]
    model = AutoModelForCausalLM.from_config(rope(sizes, config_class)).float().eval()
    fill_model(name, model)
    model.generation_config.eos_token_id = END_IDS
    model.generation_config.pad_token_id = 0
    more = {} if shard is None else {"max_shard_size": shard}
    model.to(getattr(torch, dtype)).save_pretrained(folder, **more)
    if (shard is not None) != (folder / "model.safetensors.index.json").exists():
        sys.exit(f"{name}: wanted {'shards' if shard else 'one file'}")
    tokenizer.save_pretrained(folder)
    return open_model(folder)


def open_model(folder):
    """The model in f32 with eager attention."""
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def make_adapter(owner, name, base, folder):
    """Writes a PEFT adapter; the base model is left as it was."""
    changes = dict(ADAPTERS[name])
    in_file, store = changes.pop("file", {}), changes.pop("store", None)
    settings = {"r": 8, "lora_alpha": 16, "target_modules": LINEARS, "task_type": "CAUSAL_LM"}
    model = get_peft_model(base, LoraConfig(**{**settings, **changes}))
    for key, parameter in model.named_parameters():
        if "lora_" not in key:
            continue
        gain = 1 / math.sqrt(parameter.shape[1]) if "lora_A" in key else 0.05
        with torch.no_grad():
            parameter.copy_(gain * noise(parameter.shape, owner, name, key))
    model.base_model.model.name_or_path = ""
    model.save_pretrained(folder)
    model.unload()
    if in_file:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **in_file}, indent=2))
    if store is not None:
        path = folder / "adapter_model.safetensors"
        tensors = {key: value.to(store) for key, value in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})


@torch.no_grad()
def answer(model, ids, tokenizer):
    """Greedy continuation of one prompt: golden.json's form, and the first logits."""
    out = model.generate(
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        output_logits=True,
        return_dict_in_generate=True,
    )
    new_ids = out.sequences[0, len(ids) :].tolist()
    best = [logits[0].float().topk(2).values for logits in out.logits]
    gap = min((two[0] - two[1]).item() for two in best)
    text = tokenizer.decode(new_ids, skip_special_tokens=True)
    stopped = new_ids[-1] in END_IDS
    output = {"new_ids": new_ids, "new_text": text.strip(), "min_gap": gap, "stopped": stopped}
    return output, out.logits[0][0].float()


def candidates(name, vocab_size, tokenizer):
    """For each prompt to be made: a function from the attempt's number to {text, input_ids}."""

    def random_prompt(length):
        def attempt(number):
            seed = [int(byte) for byte in f"{name}/{length}/{number}".encode()]
            draws = np.random.default_rng(seed)
            most = min(vocab_size, TOKENIZER_SIZE)
            ids = [2] + draws.integers(6, most, length - 1).tolist()
            return {"text": None, "input_ids": ids}

        return attempt

    def text_prompt(text):
        def attempt(number):
            text_now = text + (f" ({number})" if number else "")
            return {"text": text_now, "input_ids": tokenizer(text_now)["input_ids"]}

        return attempt

    return [text_prompt(text) for text in TEXTS] + [random_prompt(n) for n in LENGTHS[1:]]


def make_golden(name, out, tokenizer):
    """All of one model's files."""
    folder = out / "forward" / name
    shutil.rmtree(folder, ignore_errors=True)
    base = make_model(name, folder / "model", tokenizer)
    adapters = MODELS[name][2]
    for adapter in adapters:
        make_adapter(name, adapter, base, folder / "adapters" / adapter)
    models = {None: open_model(folder / "model")}
    for adapter in adapters:
        fresh = open_model(folder / "model")
        models[adapter] = PeftModel.from_pretrained(fresh, folder / "adapters" / adapter).eval()

    prompts, answers = [], {adapter: [] for adapter in models}
    for attempt in candidates(name, base.config.vocab_size, tokenizer):
        for number in range(100):
            prompt = attempt(number)
            found = {}
            for adapter, model in models.items():
                found[adapter] = answer(model, prompt["input_ids"], tokenizer)
                if found[adapter][0]["min_gap"] < MIN_GAP:
                    break
            else:
                break
        else:
            sys.exit(f"{name}: no prompt like {prompt} is clear")
        prompts.append(prompt)
        for adapter, one in found.items():
            answers[adapter].append(one)

    cases, tensors = [], {}
    for adapter, model in models.items():
        key = f"logits.{adapter or 'base'}"
        tensors[key] = torch.stack([logits for _, logits in answers[adapter]])
        outputs = [output for output, _ in answers[adapter]]
        error = f64_error(model, prompts, tensors[key])
        cases.append({"adapter": adapter, "logits": key, "f32_noise": error, "outputs": outputs})
    save_file(tensors, folder / "golden.safetensors")
    golden = {"model": name, "prompts": prompts, "cases": cases}
    (folder / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")
    gap = min(output["min_gap"] for case in cases for output in case["outputs"])
    worst = max(case["f32_noise"] for case in cases)
    stopped = sum(output["stopped"] for case in cases for output in case["outputs"])
    spread = tensors["logits.base"].std().item()
    print(
        f"{name}: {len(cases)} cases, {len(prompts)} prompts, {stopped} answers stopped; "
        f"min_gap {gap:.1e}, f32 noise {worst:.1e}, spread of logits {spread:.2f}",
        flush=True,
    )


@torch.no_grad()
def f64_error(model, prompts, logits):
    """How far the logits are from those of f64 products (norms and rotations stay in f32)."""
    model.double()
    worst = 0.0
    for prompt, ours in zip(prompts, logits):
        theirs = model(input_ids=torch.tensor([prompt["input_ids"]])).logits[0, -1]
        worst = max(worst, (theirs - ours.double()).abs().max().item())
    return worst


def make_chat(out, tokenizer):
    """A conversation as the tokenizer's template renders it."""
    messages = [
        {"role": "user", "content": " Which is larger, 9 or 11?\n"},
        {"role": "assistant", "content": "11"},
        {"role": "user", "content": "<b>Why?</b> “Explain” {{ it }}."},
    ]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    chat = {"messages": messages, "rendered": rendered, "ids": ids}
    (out / "forward" / "chat.json").write_text(json.dumps(chat, ensure_ascii=False, indent=1))


def main():
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    core = here / "golden" / "forward" / "tiny-mha-bf16" / "model"
    parser.add_argument("--tokenizer", type=Path, default=core)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(MODELS))
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    (args.out / "forward").mkdir(parents=True, exist_ok=True)
    for name in args.only:
        make_golden(name, args.out, tokenizer)
    make_chat(args.out, tokenizer)


if __name__ == "__main__":
    main()
