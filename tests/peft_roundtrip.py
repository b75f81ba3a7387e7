"""What PEFT sees in an adapter folder: `python peft_roundtrip.py ADAPTER BASE`.

Opens the adapter with PeftModel.from_pretrained on the base model and prints one JSON object a
line: per module its rank, its scale, the norms of A and B and whether both equal the file's bit
for bit; then a summary. Exits with 1 if PEFT missed a tensor, or holds one that the file does not
have.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def main() -> int:
    adapter, base = sys.argv[1:]
    file = load_file(Path(adapter) / "adapter_model.safetensors")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        model = PeftModel.from_pretrained(model, adapter)
    texts = [str(warning.message) for warning in caught]
    complaints = [text for text in texts if "adapter keys" in text]

    seen = set()
    all_equal = True
    for name, module in model.named_modules():
        if not hasattr(module, "lora_A") or "default" not in module.lora_A:
            continue
        line = {"module": name, "rank": module.r["default"], "scale": module.scaling["default"]}
        for half in ("lora_A", "lora_B"):
            weight = getattr(module, half)["default"].weight.detach()
            key = f"{name}.{half}.weight"
            seen.add(key)
            line[f"norm_{half}"] = weight.double().norm().item()
            equal = key in file and torch.equal(weight, file[key].float())
            line[f"{half}_equal"] = equal
            all_equal &= equal
        print(json.dumps(line))
    lost = sorted(set(file) - seen)
    ok = all_equal and not lost and not complaints and bool(seen)
    print(json.dumps({"tensors": len(seen), "lost": lost, "complaints": complaints, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
