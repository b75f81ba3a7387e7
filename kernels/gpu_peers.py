"""What others need for the same work on the same GPU, as TOML: cuBLAS through PyTorch for the
products of a layer; transformers and PEFT for what one particle answers.

    python3 gpu_peers.py FOLDER [--device cuda|cpu] [--rows N] [--particles N]
                         [--parts gemm,peft,authors]

FOLDER is what the bench `swarm_gpu` has written: base, experts/NN, prompts.json (token ids) and,
if it has run to its end, answers.json: what the first expert answered there.

    gemm     torch.nn.functional.linear in bf16 at the shapes of the base, N rows
    peft     the base kept loaded in bf16, an expert a particle by set_adapter, prompts sorted by
             length in batches of 64, padded on the left with a mask, generate()
    authors  as the paper's program: base and expert loaded anew for each particle, in f16, batches
             of 10 in the file's order, no mask; its tokenizer's time is not counted

Adapters stay in bf16 beside the base, which is faster than PEFT's default of f32. No token ends an
answer, so that the work is known. What was left out of an iteration is said by the number of
particles; seconds are of one.
"""

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import torch

N_NEW = 10


def say(key, value):
    """One line of TOML, at once: what follows may fail."""
    text = json.dumps(value) if isinstance(value, str) else f"{value:.6e}"
    print(f"{key} = {text}", flush=True)


class Clock:
    """Seconds of what is done within it, the device's work included."""

    def __init__(self, device):
        self.device = device

    def now(self):
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def seconds(self, run):
        started = self.now()
        run()
        return self.now() - started


def gemm(folder, clock, n_rows):
    """The products of a layer. Operands and results are larger than the second-level cache."""
    config = json.loads((folder / "base/config.json").read_text())
    dim, ffn_dim, head_dim = map(config.get, ("hidden_size", "intermediate_size", "head_dim"))
    q_dim = config["num_attention_heads"] * head_dim
    kv_dim = config["num_key_value_heads"] * head_dim
    total = 0.0
    for name, n_in, n_out in (
        ("qkv", dim, q_dim + 2 * kv_dim),
        ("o", q_dim, dim),
        ("gate_up", dim, 2 * ffn_dim),
        ("down", ffn_dim, dim),
    ):
        x = torch.rand(n_rows, n_in, device=clock.device).mul_(2).sub_(1).bfloat16()
        w = torch.rand(n_out, n_in, device=clock.device).mul_(2).sub_(1).bfloat16()

        def run(n_runs):
            for _ in range(n_runs):
                torch.nn.functional.linear(x, w)

        run(3)
        n_runs = max(1, int(0.02 / max(clock.seconds(lambda: run(1)), 1e-6)))
        seconds = statistics.median(clock.seconds(lambda: run(n_runs)) / n_runs for _ in range(10))
        say(f"cublas_seconds_{name}", seconds)
        total += seconds
    say("cublas_seconds", total)


def without_end(model):
    """A model whose answers have as many tokens as are asked for."""
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model.eval()


def padded(prompts, device):
    """Ids and mask of a batch, padded on the left."""
    longest = max(map(len, prompts))
    ids = [[0] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def generated(model, ids, **more):
    out = model.generate(ids, max_new_tokens=N_NEW, min_new_tokens=N_NEW, do_sample=False, **more)
    assert out.shape[1] == ids.shape[1] + N_NEW
    return out[:, ids.shape[1] :].tolist()


@torch.inference_mode()
def peft(folder, clock, prompts, n_particles):
    """A particle's median seconds, and the first expert's answers."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    experts = sorted((folder / "experts").iterdir())[:n_particles]
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.bfloat16)
    base = base.to(clock.device)
    names = [expert.name for expert in experts]
    model = PeftModel.from_pretrained(
        without_end(base), experts[0], adapter_name=names[0], autocast_adapter_dtype=False
    )
    for name, expert in zip(names[1:], experts[1:]):
        model.load_adapter(expert, adapter_name=name, autocast_adapter_dtype=False)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    batches = [order[first : first + 64] for first in range(0, len(order), 64)]
    inputs = [padded([prompts[i] for i in batch], clock.device) for batch in batches]
    answers = {}

    def particle(name):
        model.set_adapter(name)
        for batch, (ids, mask) in zip(batches, inputs):
            for i, new in zip(batch, generated(model, ids, attention_mask=mask)):
                answers[name, i] = new

    model.set_adapter(names[0])
    generated(model, inputs[0][0], attention_mask=inputs[0][1])  # kernels are chosen, memory taken
    seconds = [clock.seconds(lambda: particle(name)) for name in names]
    say("peft_particles", float(len(seconds)))
    say("peft_seconds_per_particle", statistics.median(seconds))
    return [answers[names[0], i] for i in range(len(prompts))]


@torch.inference_mode()
def authors(folder, clock, prompts):
    """One particle as the paper's program measures it."""
    from transformers import AutoModelForCausalLM

    expert = min((folder / "experts").iterdir())

    def particle():
        model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float16)
        model.load_adapter(str(expert))
        without_end(model.to(clock.device))
        for first in range(0, len(prompts), 10):
            generated(model, padded(prompts[first : first + 10], clock.device)[0])

    say("authors_particles", 1.0)
    say("authors_seconds_per_particle", clock.seconds(particle))


def compare(folder, answers):
    """How often both sides take the same first token, which follows equal texts, and the same whole
    answer. In bf16 two tokens within rounding of each other may be taken for one another, and then
    the rest differs; a wrong model would agree once in its vocabulary."""
    path = folder / "answers.json"
    if not path.exists():
        return
    ours = json.loads(path.read_text())
    firsts = [our[0] == their[0] for our, their in zip(ours, answers)]
    whole = [our == their[: len(our)] for our, their in zip(ours, answers)]
    say("same_first_tokens", sum(firsts) / len(firsts))
    say("same_answers", sum(whole) / len(whole))
    say("different_first_tokens_of_all_answers", float(len({our[0] for our in ours})))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--particles", type=int, default=2)
    parser.add_argument("--parts", default="gemm,peft,authors")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    clock, parts = Clock(args.device), args.parts.split(",")
    say("torch", torch.__version__)
    failed = []

    def attempt(part, run):
        # One peer that is not there, or breaks, must not hide the others.
        if part not in parts:
            return
        started = time.perf_counter()
        try:
            run()
        except Exception as error:
            failed.append(part)
            print(f"# {part}: {type(error).__name__}: {str(error).splitlines()[:1]}", flush=True)
        print(f"# {part} took {time.perf_counter() - started:.1f} s", flush=True)

    attempt("gemm", lambda: gemm(args.folder, clock, args.rows))
    if "peft" in parts or "authors" in parts:
        import peft as peft_package
        import transformers

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        say("transformers", transformers.__version__)
        say("peft", peft_package.__version__)
        prompts = json.loads((args.folder / "prompts.json").read_text())
    attempt("peft", lambda: compare(args.folder, peft(args.folder, clock, prompts, args.particles)))
    if args.device == "cuda":
        torch.cuda.empty_cache()
    attempt("authors", lambda: authors(args.folder, clock, prompts))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
