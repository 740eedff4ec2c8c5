// Smooths curves of an exported page; a bucket weighs as many rows as it has, as in lossbook/curves/smoothing.py.

/** Smooth the means of buckets; what is not finite stays as it is. `smoothing` as in "ema:0.99", "mean:50". */
export function smooth(
  means: Float64Array,
  counts: Float64Array,
  nonfinite: Float64Array,
  smoothing: string,
): Float64Array {
  const [kind = "", text = ""] = smoothing.split(":");
  const amount = Number(text);
  const line = Float64Array.from(means);
  const kept = [...means.keys()].filter((at) => Number.isFinite(means[at]!));
  if (kept.length === 0 || !Number.isFinite(amount) || amount <= 0) return line;
  const weights = kept.map((at) => Math.max(1, counts[at]! - nonfinite[at]!));
  if (kind === "ema") {
    let average = 0;
    let seen = 0;
    kept.forEach((at, position) => {
      seen += weights[position]!;
      const decay = amount ** weights[position]!;
      average = decay * average + (1 - decay) * means[at]!;
      // Divided as Adam's moments are, so that the first value is the first.
      line[at] = average / (1 - amount ** seen);
    });
    return line;
  }
  const usual = [...weights].sort((one, other) => one - other)[weights.length >> 1]!;
  const width = Math.max(1, kind === "gaussian" ? amount / usual : Math.round(amount / usual));
  const reach = kind === "gaussian" ? Math.ceil(4 * width) : Math.floor((width - 1) / 2);
  kept.forEach((at, position) => {
    const from = Math.max(0, position - reach);
    const to = Math.min(kept.length - 1, kind === "gaussian" ? position + reach : position + Math.floor(width / 2));
    const window = kept.slice(from, to + 1).map((one) => means[one]!);
    if (kind === "median") {
      window.sort((one, other) => one - other);
      const middle = window.length >> 1;
      line[at] = window.length % 2 ? window[middle]! : (window[middle - 1]! + window[middle]!) / 2;
      return;
    }
    let sum = 0;
    let weight = 0;
    window.forEach((value, one) => {
      const share = kind === "gaussian" ? Math.exp(-((from + one - position) ** 2) / (2 * width * width)) : 1;
      sum += share * value;
      weight += share;
    });
    line[at] = sum / weight;
  });
  return line;
}
