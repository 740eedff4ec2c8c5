// Formats numbers, times, units and axes; the same wording as `lossbook.formatting` uses in a terminal.

/** A value as JSON has it: numbers that are not finite come as their names. */
export function asNumber(value: unknown): number | null {
  if (typeof value === "number") return value;
  if (value === "NaN") return NaN;
  if (value === "Infinity") return Infinity;
  if (value === "-Infinity") return -Infinity;
  return null;
}

const WHOLE = new Intl.NumberFormat("en-US"); // made once: a table asks for thousands

/** A number in as many digits as are told apart: 3.2041, 0.0003, 1.2e-7, 124,439,808. */
export function number(value: number | null | undefined, digits = 5): string {
  if (value === null || value === undefined) return "–";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e15) return WHOLE.format(value);
  if (size >= 1e6 || size < 1e-4)
    return value
      .toExponential(Math.max(digits - 2, 1))
      .replace(/\.?0+e/, "e")
      .replace("e+", "e");
  return String(Number(value.toPrecision(digits)));
}

/** A large number in few characters, as axes have it: 1.2k, 50k, 3.4M, 2.1G, 1.5T, 12P. */
export function short(value: number): string {
  const size = Math.abs(value);
  for (const [factor, letter] of [
    [1e18, "E"],
    [1e15, "P"],
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ] as const) {
    if (size >= factor) return `${Number((value / factor).toPrecision(4))}${letter}`;
  }
  return number(value, 4);
}

/** Seconds: 0.42 s, 12 s, 3 min 20 s, 2 h 5 min, 3 d 4 h. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 0) return `−${duration(-seconds)}`;
  if (seconds < 10) return `${Number(seconds.toPrecision(2))} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  const parts: [number, string][] = [
    [Math.floor(whole / 86400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"],
    [whole % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(" ");
}

/** Bytes in binary units: 512 B, 1.5 KiB, 79.2 GiB. */
export function bytes(count: number | null | undefined): string {
  if (count === null || count === undefined || !Number.isFinite(count)) return "–";
  let size = count;
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (Math.abs(size) < 1024 || unit === "TiB") return `${unit === "B" ? size : Number(size.toPrecision(3))} ${unit}`;
    size /= 1024;
  }
  return "";
}

/** Unix seconds as the reader's local time: 2026-11-21 14:05. */
export function moment(seconds: number | null | undefined, withSeconds = false): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds === 0) return "unknown";
  const at = new Date(seconds * 1000);
  const two = (value: number) => String(value).padStart(2, "0");
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}${withSeconds ? `:${two(at.getSeconds())}` : ""}`;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock}`;
}

/** How long ago: just now, 5 min ago, 3 h ago, 2 d ago, then the date. */
export function ago(seconds: number, now: number = Date.now() / 1000): string {
  if (seconds === 0) return "unknown";
  const passed = now - seconds;
  if (passed < 60) return "just now";
  if (passed < 3600) return `${Math.floor(passed / 60)} min ago`;
  if (passed < 86400) return `${Math.floor(passed / 3600)} h ago`;
  if (passed < 30 * 86400) return `${Math.floor(passed / 86400)} d ago`;
  return moment(seconds).slice(0, 10);
}

/** Any value of a configuration or a summary on one line. */
export function value(any: unknown): string {
  const known = asNumber(any);
  if (known !== null) return number(known);
  if (any === null || any === undefined) return "–";
  if (typeof any === "string") return any;
  return JSON.stringify(any);
}

/** A value of a unit, as `lossbook.metrics` names units. */
export function withUnit(amount: number | null | undefined, unit: string | null | undefined): string {
  if (amount === null || amount === undefined) return "–";
  switch (unit) {
    case "s":
    case "seconds":
      return duration(amount);
    case "B":
    case "bytes":
      return bytes(amount);
    case "%":
    case "percent":
      return `${number(amount, 4)} %`;
    case "share":
      return `${number(amount * 100, 4)} %`;
    case null:
    case undefined:
    case "":
      return number(amount);
    default:
      return `${number(amount)} ${unit}`;
  }
}

/** What people call an axis. */
export function axisTitle(x: string): string {
  const titles: Record<string, string> = {
    step: "step",
    gradient_step: "gradient step",
    tokens: "tokens",
    flops: "FLOPs",
    wallclock: "wallclock (running)",
    elapsed: "wallclock (with gaps)",
    time: "time of day",
  };
  return titles[x] ?? x;
}

/** A place on an axis. */
export function axisValue(x: string, at: number): string {
  if (x === "time") return moment(at, true);
  if (x === "wallclock" || x === "elapsed") return duration(at);
  return Math.abs(at) >= 1e7 ? short(at) : number(at, 7);
}
