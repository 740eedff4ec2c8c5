// How the board is divided: the losses side by side, then metrics by the beginning of their names, the machine's own series last; what is
// the same of each layer stands in one line.

import type { Name } from "../types";

/** Series that differ in the number of their layer only. */
export interface LayerFamily {
  pattern: string; // `gradient/h.*.attn.weight`
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
const MACHINE = /^(system[./]|gpu|cpu_|memory_|disk_|network_|torch_gpu_)/;
const TRAINING = /^(train|training)$/;
const VALIDATION = /^(val|valid|validation|eval|dev|test)$/;
// A number that is a part of a path by itself, or ends one of its words: layers/3/x, h.3.x, layer_3.
const NUMBER = /(?<![0-9])[0-9]+(?=[./_\-]|$)/g;

function sectionOf(key: string): string {
  if (MACHINE.test(key)) return "machine";
  const slash = key.indexOf("/");
  if (slash > 0) return key.slice(0, slash);
  const word = key.split(/[_.]/, 1)[0]!;
  if (word !== key && (TRAINING.test(word) || VALIDATION.test(word))) return word;
  const dot = key.indexOf(".");
  return dot > 0 ? key.slice(0, dot) : "metrics";
}

function rankOfSection(name: string): number {
  if (name === LOSSES) return -1;
  if (TRAINING.test(name)) return 0;
  if (VALIDATION.test(name)) return 1;
  if (name === "machine") return 9;
  if (name === "metrics") return 2;
  return name === "time" || name === "throughput" ? 4 : 3;
}

function rankOfKey(key: string): number {
  if (/loss/i.test(key)) return 0;
  if (/perplexity|ppl|accuracy|\bacc\b|bits_per_byte|bpb/i.test(key)) return 1;
  return 2;
}

function isLoss(key: string): boolean {
  const section = sectionOf(key);
  return (TRAINING.test(section) || VALIDATION.test(section) || section === "metrics") && /(^|[/_])loss$/i.test(key);
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
  const words = trimmed.toLowerCase().split(/\s+/).filter((word) => word !== "");
  return (key) => words.every((word) => key.toLowerCase().includes(word));
}

/** The sections of a board. What was searched for is shown chart by chart, layers too. */
export function sectionsOf(metrics: readonly Name[], find: string): Section[] {
  const test = metricTest(find);
  const isSearched = find.trim() !== "";
  const own = metrics.filter(({ name, same_as }) => same_as === null && test !== null && test(name));
  const bySection = new Map<string, Name[]>();
  const losses = isSearched ? [] : own.filter(({ name }) => isLoss(name));
  const isTogether = losses.length > 1 && losses.length <= MOST_LOSSES;
  for (const metric of own) {
    const name = isTogether && losses.includes(metric) ? LOSSES : sectionOf(metric.name);
    const there = bySection.get(name);
    if (there) there.push(metric);
    else bySection.set(name, [metric]);
  }
  const sections = [...bySection].map(([name, all]): Section => {
    const isMachine = name === "machine";
    const families = isMachine || isSearched ? [] : familiesOf(all);
    const layered = new Set(families.flatMap(({ keys }) => keys));
    const charts = all.filter((metric) => !layered.has(metric.name));
    charts.sort((one, other) => rankOfKey(one.name) - rankOfKey(other.name) || collator.compare(one.name, other.name));
    return { name, metrics: charts, families, isMachine, isFirst: name === LOSSES };
  });
  return sections.sort((one, other) => rankOfSection(one.name) - rankOfSection(other.name) || collator.compare(one.name, other.name));
}

function familiesOf(metrics: readonly Name[]): LayerFamily[] {
  const byPattern = new Map<string, string[]>();
  for (const { name } of metrics) {
    const pattern = name.replace(NUMBER, "*");
    if (pattern === name) continue;
    const there = byPattern.get(pattern);
    if (there) there.push(name);
    else byPattern.set(pattern, [name]);
  }
  return [...byPattern].filter(([, keys]) => keys.length >= LAYERS).map(([pattern, keys]) => ({ pattern, keys }));
}
