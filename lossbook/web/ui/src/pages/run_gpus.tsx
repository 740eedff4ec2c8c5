// What the machines of a run did: each GPU by node and rank, which rank the others wait for, and the hosts.

import { CurveChart } from "../charts/curve_chart";
import { api } from "../api";
import { bytes, duration, number } from "../format";
import { useQuery } from "../components/use_query";
import { LazyMount } from "../components/lazy_mount";
import { HighlightedText } from "../components/highlighted_text";
import { paletteColor } from "../runs";
import { route, setSettings } from "../router";
import { chartSettings } from "../settings";
import type { Gpu, GpuReading, Gpus, HostChart, RankSpeed, RunPage, RunRow } from "../types";
import type { ChartSeries } from "../charts/types";
import type { ViewProps } from "./view";

/** More GPUs than that are a grid of small squares, with the table folded below it. */
const MOST_LINES = 12;

interface Quantity {
  name: string;
  title: string;
  unit: string | null;
  text: (value: number) => string;
  full: (readings: readonly GpuReading[]) => number; // what a whole bar is
}

const QUANTITIES: readonly Quantity[] = [
  { name: "utilisation_percent", title: "Utilisation", unit: "%", text: (value) => `${number(value, 3)} %`, full: () => 100 },
  { name: "memory_percent", title: "Memory", unit: "%", text: (value) => `${number(value, 3)} %`, full: () => 100 },
  { name: "memory_bytes", title: "Memory used", unit: "bytes", text: bytes, full: (readings) => most(readings, "memory_total_bytes") ?? most(readings, "memory_bytes") ?? 1 },
  { name: "power_watts", title: "Power", unit: "W", text: (value) => `${number(value, 3)} W`, full: (readings) => powerLimit(readings) ?? most(readings, "power_watts") ?? 1 },
  { name: "temperature_celsius", title: "Temperature", unit: "°C", text: (value) => `${number(value, 3)} °C`, full: () => 100 },
  { name: "memory_activity_percent", title: "Memory activity", unit: "%", text: (value) => `${number(value, 3)} %`, full: () => 100 },
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
const STATISTICS: readonly [Statistic, string][] = [["current", "now"], ["average", "mean"], ["maximum", "max"]];

function readingOf(gpu: Gpu, quantity: string): GpuReading | undefined {
  return gpu.readings.find((one) => one.quantity === quantity);
}

const nameOf = (gpu: Gpu, nodes: number): string => `GPU ${gpu.index}${nodes > 1 && gpu.node !== null ? ` on ${gpu.node}` : ""}`;

export function GpusView({ page, row, live }: ViewProps) {
  const { answer, failure } = useQuery(`gpus ${page.project}/${row.id}`, (signal) => api.gpus({ project: page.project, run: row.id }, signal), live);
  if (answer === null) return <p class="empty" role="status">{failure ?? "Asking for the machines …"}</p>;
  const hosts = hostCharts(answer.host, page, row);
  if (answer.gpus.length === 0 && answer.ranks.length < 2 && hosts.length === 0 && answer.overall.length === 0) {
    return <p class="empty">Nothing is known of the machine. The follower beside a run samples it every two seconds: <code>lossbook.init(system_metrics=True)</code>, which is the default, and for NVIDIA <code>pip install 'lossbook[gpu]'</code>.</p>;
  }
  return (
    <div class="padded gpus-view">
      {failure !== null && <p class="notice warning" role="alert">{failure}</p>}
      {answer.findings.map((finding) => <p key={finding} class="notice warning"><HighlightedText text={finding} /></p>)}
      {answer.gpus.length === 0 && hosts.length > 0 && <p class="soft hint">No GPU was measured; the host was.</p>}
      {answer.gpus.length > 0 && <GpuSection gpus={answer.gpus} />}
      {answer.ranks.length > 1 && <Ranks answer={answer} />}
      {answer.gpus.length > 0 && (
        <section aria-label="GPU curves">
          <h2>Over time</h2>
          <div class="chart-grid">{gpuCharts(answer.gpus, page, row).map((chart) => <Chart key={chart.title} {...chart} />)}</div>
        </section>
      )}
      {hosts.length > 0 && (
        <section aria-label="Host">
          <h2>Host</h2>
          <div class="chart-grid">{hosts.map((chart) => <Chart key={chart.title} {...chart} />)}</div>
        </section>
      )}
    </div>
  );
}

// -- each GPU --------------------------------------------------------------------------------------------------------

function GpuSection(props: { gpus: readonly Gpu[] }) {
  const { gpus } = props;
  const quantities = QUANTITIES.filter(({ name }) => gpus.some((gpu) => readingOf(gpu, name) !== undefined));
  const models = new Set(gpus.map(({ model }) => model).filter((model) => model !== null));
  const heading = <h2>GPUs <span class="soft">{gpus.length}{models.size === 1 ? ` × ${[...models][0]}` : ""}</span></h2>;
  if (gpus.length <= MOST_LINES) return <section class="card" aria-label="GPUs"><header>{heading}</header><GpuTable gpus={gpus} quantities={quantities} /></section>;
  return (
    <section class="card" aria-label="GPUs">
      <header>{heading}</header>
      <GpuGrid gpus={gpus} quantities={quantities} />
      <details class="folder"><summary>As a table</summary><GpuTable gpus={gpus} quantities={quantities} /></details>
    </section>
  );
}

function GpuTable(props: { gpus: readonly Gpu[]; quantities: readonly Quantity[] }) {
  const nodes = new Set(props.gpus.map(({ node }) => node)).size;
  // Memory in bytes says what memory in percent does, and more.
  const quantities = props.quantities.filter(({ name }) => name !== "memory_percent" || !props.quantities.some((other) => other.name === "memory_bytes"));
  return (
    <div class="wide-table">
      <table class="plain gpus">
        <thead>
          <tr>
            <th class="number">GPU</th>{nodes > 1 && <th>Node</th>}<th class="number">Rank</th>
            {quantities.map(({ name, title }) => <th key={name}>{title} <span class="soft">now / mean / max</span></th>)}
          </tr>
        </thead>
        <tbody>
          {props.gpus.map((gpu) => (
            <tr key={`${gpu.node} ${gpu.index}`} class={gpu.active ? "" : "idle"}>
              <td class="number">{gpu.index}</td>{nodes > 1 && <td>{gpu.node ?? "–"}</td>}
              <td class="number">{gpu.rank ?? "–"}</td>
              {quantities.map((quantity) => <td key={quantity.name}><Bar gpu={gpu} quantity={quantity} /></td>)}
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
      <svg class="reading-bar" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label={`${quantity.title}: now ${text[0]}, mean ${text[1]}, max ${text[2]}`}>
        <rect class="whole" x="0" y="0" width="100" height="6" />
        {reading.current !== null && <rect class={quantity.name === "temperature_celsius" && reading.current >= 85 ? "hot" : "now"} x="0" y="0" width={part(reading.current)} height="6" />}
        {reading.average !== null && <rect class="mean" x={part(reading.average) - 0.5} y="0" width="1" height="6" />}
        {reading.maximum !== null && <rect class="max" x={Math.min(99.2, part(reading.maximum) - 0.4)} y="0" width="0.8" height="6" />}
      </svg>
      <span class="reading-text"><b>{text[0]}</b> <span class="soft">{text[1]} / {text[2]}</span>{throttled && <span class="tag warning">throttled</span>}</span>
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
        <label>Shown <select value={quantity.name} onChange={(event) => setSettings({ quantity: event.currentTarget.value })}>{props.quantities.map(({ name, title }) => <option key={name} value={name}>{title}</option>)}</select></label>
        <span role="group" aria-label="Statistic">{STATISTICS.map(([name, title]) => <button key={name} aria-pressed={name === statistic} onClick={() => setSettings({ statistic: name === "current" ? null : name })}>{title}</button>)}</span>
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
                <li key={gpu.index} title={words} style={{ "--share": `${Math.round(share * 100)}%` }} class={share > 0.55 ? "high" : ""}>
                  <span class="unseen">{words}</span><span aria-hidden="true">{value === null ? "–" : quantity.name === "memory_bytes" ? number(value / 2 ** 30, 2) : number(Math.round(value))}</span>
                </li>
              );
            })}
          </ul>
        </div>
      ))}
    </div>
  );
}

// -- ranks -----------------------------------------------------------------------------------------------------------

function Ranks({ answer }: { answer: Gpus }) {
  const { ranks, rank_key: key } = answer;
  const slowest = [...ranks].sort((one, other) => other.slower_percent - one.slower_percent || one.rank - other.rank);
  const isTime = ranks.some(({ step_seconds }) => step_seconds !== null);
  const stragglers = ranks.filter(({ straggler }) => straggler);
  const time = (rank: RankSpeed): string => (rank.step_seconds !== null ? duration(rank.step_seconds) : rank.value == null ? "–" : number(rank.value));
  return (
    <section class="card" aria-label="Ranks">
      <header><h2>Ranks <span class="soft">{ranks.length}, the slowest first</span></h2>{stragglers.length > 0 && <span class="tag warning">{stragglers.length === 1 ? "1 straggler" : `${stragglers.length} stragglers`}</span>}</header>
      {key === null
        ? <p class="soft hint">Which rank is slow is known where every rank logs its step time: <code>{'lossbook.init(ranks="all")'}</code>, and on each of them <code>{'run.log({"step_time": seconds}, step=step)'}</code>. Without <code>ranks="all"</code> rank 0 alone logs.</p>
        : (
          <div class="wide-table short">
            <table class="plain">
              <thead><tr><th class="number">Rank</th><th>Node</th><th class="number">{isTime ? "Step" : key}</th><th class="number">Slower by</th><th class="number">Last step</th><th /></tr></thead>
              <tbody>
                {slowest.map((rank) => (
                  <tr key={rank.rank} class={rank.straggler ? "straggler" : ""}>
                    <td class="number">{rank.rank}</td><td>{rank.node ?? "–"}</td><td class="number">{time(rank)}</td>
                    <td class="number">{rank.slower_percent > 0 ? "+" : ""}{number(rank.slower_percent, 3)} %</td>
                    <td class="number">{rank.last_step == null ? "–" : number(rank.last_step)}</td>
                    <td>{rank.straggler && <span class="tag warning">straggler</span>}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
    </section>
  );
}

// -- curves ----------------------------------------------------------------------------------------------------------

interface ChartOf {
  title: string;
  unit: string | null;
  series: ChartSeries[];
}

function Chart(props: ChartOf) {
  return <LazyMount height={300}>{() => <CurveChart title={props.title} series={props.series} settings={chartSettings.value} unit={props.unit} />}</LazyMount>;
}

function gpuCharts(gpus: readonly Gpu[], page: RunPage, row: RunRow): ChartOf[] {
  const nodes = new Set(gpus.map(({ node }) => node)).size;
  return QUANTITIES.map(({ name, title, unit }) => ({
    title: `GPU ${title.toLowerCase()}`, unit,
    series: gpus.flatMap((gpu, at) => {
      const key = readingOf(gpu, name)?.key;
      return key == null ? [] : [{ project: page.project, run: row.id, key, label: nameOf(gpu, nodes), color: paletteColor(at), group: null, state: row.state }];
    }),
  })).filter(({ series }) => series.length > 0);
}

/** Series of the host, each chart with one line for each node. */
function hostCharts(hosts: readonly HostChart[], page: RunPage, row: RunRow): ChartOf[] {
  return hosts.map(({ title, unit, series }) => ({
    title, unit, series: series.map(({ key, label }, at) => ({ project: page.project, run: row.id, key, label, color: paletteColor(at), group: null, state: row.state })),
  }));
}
