"""Holds `model-swarms generate` to transformers and PEFT on one base model and adapter.

    python3 check_with_peft.py --base DIR --adapter DIR --prompts FILE.jsonl --binary PATH
                               [--max-new-tokens N]

PEFT must hold every tensor of the adapter's file, bit for bit, and no other; then every prompt is
continued greedily on both sides (f32 arithmetic, eager attention), and the texts, the ids and the
logits at the prompt's last position are compared. Prints one line for each mismatch and a summary;
exits with 0 if there is none, with 1 otherwise. Where two next tokens are within rounding of each
other, answers may part: such a line says "tie" and is no mismatch.
"""

import argparse
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

# Two sums of the same f32 products in different order: 1e-5 is usual for logits near 1.
ABSOLUTE, RELATIVE = 1e-4, 1e-5


def open_with_peft(base, adapter):
    """The adapted model, and a line for each tensor that PEFT does not hold as the file does."""
    complaints = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = AutoModelForCausalLM.from_pretrained(
            base, dtype=torch.float32, attn_implementation="eager"
        )
        model = PeftModel.from_pretrained(model, adapter).eval()
    texts = [str(warning.message) for warning in caught]
    complaints += [f"PEFT warns: {text}" for text in texts if "adapter keys" in text]

    file = load_file(Path(adapter) / "adapter_model.safetensors")
    seen = set()
    for name, module in model.named_modules():
        if "default" not in getattr(module, "lora_A", {}):
            continue
        for half in ("lora_A", "lora_B"):
            key = f"{name}.{half}.weight"
            seen.add(key)
            weight = getattr(module, half)["default"].weight.detach()
            if key not in file:
                complaints.append(f"{key}: the file has no such tensor")
            elif not torch.equal(weight, file[key].float()):
                complaints.append(f"{key}: PEFT holds other values than the file")
    complaints += [f"{key}: PEFT holds no such tensor" for key in sorted(set(file) - seen)]
    return model, complaints


@torch.no_grad()
def continue_with_peft(model, tokenizer, line, n_new):
    """The new ids, their text, and the logits of every step: (n_steps, vocab_size)."""
    ids = line["tokens"] if "tokens" in line else tokenizer(line["prompt"])["input_ids"]
    out = model.generate(
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=False,
        max_new_tokens=n_new,
        output_logits=True,
        return_dict_in_generate=True,
    )
    new_ids = out.sequences[0, len(ids) :].tolist()
    return new_ids, tokenizer.decode(new_ids, skip_special_tokens=True), torch.cat(out.logits)


def continue_with_ours(args):
    """The lines of `model-swarms generate`."""
    command = [args.binary, "generate", "--base", args.base, "--adapter", args.adapter]
    command += ["--prompts", args.prompts, "--logits"]
    command += ["--max-new-tokens", str(args.max_new_tokens)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{args.binary} ended with {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare(ours, ids, text, logits):
    """("same" | "tie" | "differs", what differs, the largest error of the logits)"""
    first = torch.tensor(ours["logits"], dtype=torch.float32)
    error = (first - logits[0]).abs()
    largest = error.max().item()
    if not bool((error <= ABSOLUTE + RELATIVE * logits[0].abs()).all()):
        return "differs", f"logits by up to {largest:.1e}", largest
    if ours["tokens"] == ids:
        if ours["text"] == text:
            return "same", "", largest
        return "differs", f"text {ours['text']!r}, PEFT's {text!r}", largest
    part = next(
        (at for at, (a, b) in enumerate(zip(ours["tokens"], ids)) if a != b),
        min(len(ids), len(ours["tokens"])),
    )
    what = f"ids {ours['tokens']}, PEFT's {ids}"
    if part >= min(len(ids), len(ours["tokens"])):
        return "differs", what, largest
    best = logits[part].max()
    gap = (best - logits[part][ours["tokens"][part]]).item()
    allowed = 2 * (ABSOLUTE + RELATIVE * best.abs().item())
    return "tie" if gap <= allowed else "differs", f"{what}; gap {gap:.1e}", largest


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("base", "adapter", "prompts", "binary"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--max-new-tokens", type=int, default=16)
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable_progress_bar()

    model, complaints = open_with_peft(args.base, args.adapter)
    for complaint in complaints:
        print(complaint)
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    text = Path(args.prompts).read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    ours = continue_with_ours(args)
    if [line["id"] for line in lines] != [line["id"] for line in ours]:
        print(f"{len(lines)} prompts, answers to {len(ours)}, or to others")
        return 1

    counts, largest = {"same": 0, "tie": 0, "differs": 0}, 0.0
    for line, our in zip(lines, ours):
        wanted = continue_with_peft(model, tokenizer, line, args.max_new_tokens)
        verdict, what, error = compare(our, *wanted)
        counts[verdict] += 1
        largest = max(largest, error)
        if verdict != "same":
            print(f"prompt {line['id']!r}: {verdict}: {what}")
    print(
        f"{len(lines)} prompts: {counts['same']} the same, {counts['tie']} ties, "
        f"{counts['differs']} mismatches; logits within {largest:.1e}; "
        f"{len(complaints)} complaints about tensors"
    )
    return 1 if counts["differs"] or complaints else 0


if __name__ == "__main__":
    sys.exit(main())
