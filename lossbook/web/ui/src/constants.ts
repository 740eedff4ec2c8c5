// Made by scripts/web_types.py from the Python files named below: change those, and run it again.

/** lossbook/metrics.py */
export const TRAIN_SPLITS = ["train", "training"] as const;

/** lossbook/metrics.py */
export const EVAL_SPLITS = ["val", "valid", "validation", "eval", "dev", "test"] as const;

/** lossbook/metrics.py: the name that examples use for a training loss */
export const EXAMPLE_METRIC = "train/loss" as const;

/** lossbook/metrics.py: likewise for a validation loss */
export const EXAMPLE_EVAL_METRIC = "val/loss" as const;

/** lossbook/curves/layers.py */
export const PARAMETER_WORDS = ["beta", "bias", "embed_tokens", "embedding", "gamma", "kernel", "lm_head", "ln_f", "scale", "weight", "wpe", "wte"] as const;

/** lossbook/reading/where.py: what a filter can say of a run */
export const RUN_FIELDS = ["alerts", "attempts", "created", "duration", "ended", "error", "group", "host", "id", "last_step", "name", "notes", "project", "rows", "state", "tags", "user"] as const;

/** lossbook/web/api/curves.py */
export const CURVE_FIELDS = ["x", "x_end", "first", "last", "min", "max", "min_x", "max_x", "mean", "count", "nonfinite"] as const;

/** lossbook/web/api/curves.py */
export const BAND_FIELDS = ["x", "mean", "low", "high", "count"] as const;
