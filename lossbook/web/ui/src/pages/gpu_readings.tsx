// Shows what each GPU reads: a table of bars, or a grid of squares when there are many.

import { bytes, number } from "../format";
import { route, setSettings } from "../router";
import type { Gpu, GpuReading } from "../types";

/** More GPUs than that are a grid of small squares, with the table folded below it. */
const MOST_LINES = 12;

interface Quantity {
  name: string;
  title: string;
  unit: string | null;
  text: (value: number) => string;
  full: (readings: readonly GpuReading[]) => number; // what a whole bar is
}

export const QUANTITIES: readonly Quantity[] = [
  {
    name: "utilisation_percent",
    title: "Utilisation",
    unit: "%",
    text: (value) => `${number(value, 3)} %`,
    full: () => 100,
  },
  { name: "memory_percent", title: "Memory", unit: "%", text: (value) => `${number(value, 3)} %`, full: () => 100 },
  {
    name: "memory_bytes",
    title: "Memory used",
    unit: "bytes",
    text: bytes,
    full: (readings) => most(readings, "memory_total_bytes") ?? most(readings, "memory_bytes") ?? 1,
  },
  {
    name: "power_watts",
    title: "Power",
    unit: "W",
    text: (value) => `${number(value, 3)} W`,
    full: (readings) => powerLimit(readings) ?? most(readings, "power_watts") ?? 1,
  },
  {
    name: "temperature_celsius",
    title: "Temperature",
    unit: "°C",
    text: (value) => `${number(value, 3)} °C`,
    full: () => 100,
  },
  {
    name: "memory_activity_percent",
    title: "Memory activity",
    unit: "%",
    text: (value) => `${number(value, 3)} %`,
    full: () => 100,
  },
];

function most(readings: readonly GpuReading[], quantity: string): number | null {
  return readings.find((one) => one.quantity === quantity)?.maximum ?? null;
}

/** The enforced limit, as the power in watts and in percent tell together. */
function powerLimit(readings: readonly GpuReading[]): number | null {
  const [watts, percent] = [most(readings, "power_watts"), most(readings, "power_percent")];
  return watts !== null && percent !== null && percent > 0 ? (watts / percent) * 100 : null;
}

type Statistic = "current" | "average" | "maximum";

const STATISTICS: readonly [Statistic, string][] = [
  ["current", "now"],
  ["average", "mean"],
  ["maximum", "max"],
];

export function readingOf(gpu: Gpu, quantity: string): GpuReading | undefined {
  return gpu.readings.find((one) => one.quantity === quantity);
}

export const nameOf = (gpu: Gpu, nodes: number): string =>
  `GPU ${gpu.index}${nodes > 1 && gpu.node !== null ? ` on ${gpu.node}` : ""}`;

export function GpuSection(props: { gpus: readonly Gpu[] }) {
  const { gpus } = props;
  const quantities = QUANTITIES.filter(({ name }) => gpus.some((gpu) => readingOf(gpu, name) !== undefined));
  const models = new Set(gpus.map(({ model }) => model).filter((model) => model !== null));
  const heading = (
    <h2>
      GPUs{" "}
      <span class="soft">
        {gpus.length}
        {models.size === 1 ? ` × ${[...models][0]}` : ""}
      </span>
    </h2>
  );
  if (gpus.length <= MOST_LINES)
    return (
      <section class="card" aria-label="GPUs">
        <header>{heading}</header>
        <GpuTable gpus={gpus} quantities={quantities} />
      </section>
    );
  return (
    <section class="card" aria-label="GPUs">
      <header>{heading}</header>
      <GpuGrid gpus={gpus} quantities={quantities} />
      <details class="folder">
        <summary>As a table</summary>
        <GpuTable gpus={gpus} quantities={quantities} />
      </details>
    </section>
  );
}

function GpuTable(props: { gpus: readonly Gpu[]; quantities: readonly Quantity[] }) {
  const nodes = new Set(props.gpus.map(({ node }) => node)).size;
  // Memory in bytes says what memory in percent does, and more.
  const quantities = props.quantities.filter(
    ({ name }) => name !== "memory_percent" || !props.quantities.some((other) => other.name === "memory_bytes"),
  );
  return (
    <div class="wide-table">
      <table class="plain gpus">
        <thead>
          <tr>
            <th class="number">GPU</th>
            {nodes > 1 && <th>Node</th>}
            <th class="number">Rank</th>
            {quantities.map(({ name, title }) => (
              <th key={name}>
                {title} <span class="soft">now / mean / max</span>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {props.gpus.map((gpu) => (
            <tr key={`${gpu.node} ${gpu.index}`} class={gpu.active ? "" : "idle"}>
              <td class="number">{gpu.index}</td>
              {nodes > 1 && <td>{gpu.node ?? "–"}</td>}
              <td class="number">{gpu.rank ?? "–"}</td>
              {quantities.map((quantity) => (
                <td key={quantity.name}>
                  <Bar gpu={gpu} quantity={quantity} />
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Bar({ gpu, quantity }: { gpu: Gpu; quantity: Quantity }) {
  const reading = readingOf(gpu, quantity.name);
  if (reading === undefined) return <span class="soft">–</span>;
  const full = quantity.full(gpu.readings);
  const part = (value: number | null): number => Math.max(0, Math.min(100, ((value ?? 0) / full) * 100));
  const text = STATISTICS.map(([statistic]) => (reading[statistic] === null ? "–" : quantity.text(reading[statistic])));
  const throttled = quantity.name === "temperature_celsius" && readingOf(gpu, "throttled")?.current === 1;
  return (
    <div class="reading">
      <svg
        class="reading-bar"
        viewBox="0 0 100 6"
        preserveAspectRatio="none"
        role="img"
        aria-label={`${quantity.title}: now ${text[0]}, mean ${text[1]}, max ${text[2]}`}
      >
        <rect class="whole" x="0" y="0" width="100" height="6" />
        {reading.current !== null && (
          <rect
            class={quantity.name === "temperature_celsius" && reading.current >= 85 ? "hot" : "now"}
            x="0"
            y="0"
            width={part(reading.current)}
            height="6"
          />
        )}
        {reading.average !== null && <rect class="mean" x={part(reading.average) - 0.5} y="0" width="1" height="6" />}
        {reading.maximum !== null && (
          <rect class="max" x={Math.min(99.2, part(reading.maximum) - 0.4)} y="0" width="0.8" height="6" />
        )}
      </svg>
      <span class="reading-text">
        <b>{text[0]}</b>{" "}
        <span class="soft">
          {text[1]} / {text[2]}
        </span>
        {throttled && <span class="tag warning">throttled</span>}
      </span>
    </div>
  );
}

/** One square for each GPU, node by node, as dark as its reading is high. */
function GpuGrid(props: { gpus: readonly Gpu[]; quantities: readonly Quantity[] }) {
  const { settings } = route.value;
  const quantity = props.quantities.find(({ name }) => name === settings.get("quantity")) ?? props.quantities[0];
  const statistic = STATISTICS.find(([name]) => name === settings.get("statistic"))?.[0] ?? "current";
  if (quantity === undefined) return null;
  const nodes = new Map<string, Gpu[]>();
  for (const gpu of props.gpus) nodes.set(gpu.node ?? "", [...(nodes.get(gpu.node ?? "") ?? []), gpu]);
  return (
    <div class="gpu-grid">
      <div class="bar">
        <label>
          Shown{" "}
          <select value={quantity.name} onChange={(event) => setSettings({ quantity: event.currentTarget.value })}>
            {props.quantities.map(({ name, title }) => (
              <option key={name} value={name}>
                {title}
              </option>
            ))}
          </select>
        </label>
        <span role="group" aria-label="Statistic">
          {STATISTICS.map(([name, title]) => (
            <button
              type="button"
              key={name}
              aria-pressed={name === statistic}
              onClick={() => setSettings({ statistic: name === "current" ? null : name })}
            >
              {title}
            </button>
          ))}
        </span>
      </div>
      {[...nodes].map(([node, gpus]) => (
        <div key={node} class="gpu-node">
          {nodes.size > 1 && <span class="soft node">{node}</span>}
          <ul aria-label={`${quantity.title} of the GPUs${node === "" ? "" : ` of ${node}`}`}>
            {gpus.map((gpu) => {
              const value = readingOf(gpu, quantity.name)?.[statistic] ?? null;
              const share = value === null ? 0 : Math.max(0, Math.min(1, value / quantity.full(gpu.readings)));
              const words = `${nameOf(gpu, nodes.size)}: ${value === null ? "not known" : quantity.text(value)}`;
              return (
                <li
                  key={gpu.index}
                  title={words}
                  style={{ "--share": `${Math.round(share * 100)}%` }}
                  class={share > 0.55 ? "high" : ""}
                >
                  <span class="unseen">{words}</span>
                  <span aria-hidden="true">
                    {value === null
                      ? "–"
                      : quantity.name === "memory_bytes"
                        ? number(value / 2 ** 30, 2)
                        : number(Math.round(value))}
                  </span>
                </li>
              );
            })}
          </ul>
        </div>
      ))}
    </div>
  );
}
