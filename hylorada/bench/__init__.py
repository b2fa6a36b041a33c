"""The benchmark: what each part costs beside PEFT and beside the untouched base model, as ratios within one run."""
