// Divides metrics into sections: losses first, then by prefix, the machine's series last; per-layer series share one
// line.

import { EVAL_SPLITS, PARAMETER_WORDS, TRAIN_SPLITS } from "../constants";
import type { Name, Role } from "../types";

/** Series that differ in the number of their layer only. */
export interface LayerFamily {
  pattern: string; // `layers/*/grad_norm`, or `gradient/**` for all parameters
  keys: readonly string[];
}

export interface Section {
  name: string;
  metrics: readonly Name[]; // each a chart
  families: readonly LayerFamily[];
  isMachine: boolean;
  isFirst: boolean; // the losses, larger than the rest
}

/** What everybody looks at first stands together: training and validation loss, whatever their prefix. */
const LOSSES = "loss";
const MOST_LOSSES = 4;
/** So many series with one pattern are layers; fewer are a few metrics with numbers in their names. */
const LAYERS = 6;
const TRAINING: ReadonlySet<string> = new Set(TRAIN_SPLITS);
const VALIDATION: ReadonlySet<string> = new Set(EVAL_SPLITS);
// A number that is a part of a path by itself, or ends one of its words: layers/3/x, h.3.x, layer_3.
const NUMBER = /(?<![A-Za-z0-9])[0-9]+(?![A-Za-z0-9])|(?<=[A-Za-z_])[0-9]+(?=$|[/.])/g;
const PARAMETERS: ReadonlySet<string> = new Set(PARAMETER_WORDS);

function sectionOf({ name: key, role }: Name): string {
  if (role === "machine") return "machine";
  const slash = key.indexOf("/");
  if (slash > 0) return key.slice(0, slash);
  const word = key.split(/[_.]/, 1)[0]!;
  if (word !== key && (TRAINING.has(word) || VALIDATION.has(word))) return word;
  const dot = key.indexOf(".");
  return dot > 0 ? key.slice(0, dot) : "metrics";
}

function rankOfSection(name: string): number {
  if (name === LOSSES) return -1;
  if (TRAINING.has(name)) return 0;
  if (VALIDATION.has(name)) return 1;
  if (name === "machine") return 9;
  if (name === "metrics") return 2;
  return name === "time" || name === "throughput" ? 4 : 3;
}

/** Metrics of these roles come first in their section, in this order. */
const RANKS: Partial<Record<Role, number>> = { "train-loss": 0, "val-loss": 0, "test-loss": 0, loss: 0, quality: 1 };

function rankOf({ role }: Name): number {
  return (role === null ? undefined : RANKS[role]) ?? 2;
}

/** A loss of the model, in contrast to one of a part of it such as `moe/aux_loss`. */
function isMainLoss(metric: Name): boolean {
  if (metric.role !== "loss") return metric.role !== null && RANKS[metric.role] === 0;
  const section = sectionOf(metric);
  return TRAINING.has(section) || VALIDATION.has(section) || section === "metrics";
}

const collator = new Intl.Collator("en", { numeric: true });

/** What a person typed to find charts: words that must all be there, or a /regular expression/. Null: it is not one. */
export function metricTest(text: string): ((key: string) => boolean) | null {
  const trimmed = text.trim();
  if (trimmed.length > 1 && trimmed.startsWith("/") && trimmed.endsWith("/")) {
    try {
      const expression = new RegExp(trimmed.slice(1, -1), "i");
      return (key) => expression.test(key);
    } catch {
      return null;
    }
  }
  const words = trimmed
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== "");
  return (key) => words.every((word) => key.toLowerCase().includes(word));
}

/** What finds the series of a family. */
export function searchFor(pattern: string): string {
  return `/^${pattern
    .replace(/[.+?^${}()|[\]\\/]/g, "\\$&")
    .replace("**", ".+")
    .replace("*", "\\d+")}$/`;
}

/** The sections of a board. What was searched for is shown chart by chart, layers too. */
export function sectionsOf(metrics: readonly Name[], find: string): Section[] {
  const test = metricTest(find);
  const isSearched = find.trim() !== "";
  const own = metrics.filter(({ name, same_as }) => same_as === null && test !== null && test(name));
  const bySection = new Map<string, Name[]>();
  const losses = isSearched ? [] : own.filter(isMainLoss);
  const isTogether = losses.length > 1 && losses.length <= MOST_LOSSES;
  for (const metric of own) {
    const name = isTogether && losses.includes(metric) ? LOSSES : sectionOf(metric);
    const there = bySection.get(name);
    if (there) there.push(metric);
    else bySection.set(name, [metric]);
  }
  const sections = [...bySection].map(([name, all]): Section => {
    const isMachine = name === "machine";
    const families = isMachine || isSearched ? [] : familiesOf(all);
    const layered = new Set(families.flatMap(({ keys }) => keys));
    const charts = all.filter((metric) => !layered.has(metric.name));
    charts.sort((one, other) => rankOf(one) - rankOf(other) || collator.compare(one.name, other.name));
    return { name, metrics: charts, families, isMachine, isFirst: name === LOSSES };
  });
  return sections.sort(
    (one, other) => rankOfSection(one.name) - rankOfSection(other.name) || collator.compare(one.name, other.name),
  );
}

/** As lossbook/curves/layers.py has them, so that each has its heat map: series that differ in one number, or in a parameter's path. */
function familiesOf(metrics: readonly Name[]): LayerFamily[] {
  const byPattern = new Map<string, string[]>();
  const paths = new Map<string, string[]>();
  const patternsOf = new Map<string, string[]>();
  const add = (to: Map<string, string[]>, name: string, key: string): void =>
    void (to.get(name)?.push(key) ?? to.set(name, [key]));
  for (const { name: key } of metrics) {
    for (const { index, 0: digits } of key.matchAll(NUMBER)) {
      const pattern = `${key.slice(0, index)}*${key.slice(index + digits.length)}`;
      add(byPattern, pattern, key);
      add(patternsOf, key, pattern);
    }
    const slash = key.indexOf("/");
    if (slash > 0 && isParameter(key.slice(slash + 1))) add(paths, `${key.slice(0, slash)}/**`, key);
  }
  // Of a name with several numbers, the one that varies over most names is its layer's; the first among equals.
  const chosen = new Map<string, string[]>();
  for (const [key, patterns] of patternsOf) {
    const best = patterns.reduce((most, one) =>
      byPattern.get(one)!.length > byPattern.get(most)!.length ? one : most,
    );
    add(chosen, best, key);
  }
  const wide = (from: Map<string, string[]>): LayerFamily[] =>
    [...from].filter(([, keys]) => keys.length >= LAYERS).map(([pattern, keys]) => ({ pattern, keys }));
  const families = wide(paths);
  const covered = new Set(families.flatMap(({ keys }) => keys));
  return [...families, ...wide(chosen).filter(({ keys }) => !keys.every((key) => covered.has(key)))];
}

function isParameter(path: string): boolean {
  const words = path.split(/[./]/);
  return words.length > 1 && words.some((word) => PARAMETERS.has(word));
}
