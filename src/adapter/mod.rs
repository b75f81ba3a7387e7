//! PEFT LoRA adapters: configuration, mapped tensors, pools, saving.
