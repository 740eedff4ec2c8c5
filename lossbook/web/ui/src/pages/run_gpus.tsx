// The machines of a run: each GPU by node and rank, stragglers, and the hosts.

import { api } from "../api";
import { CurveChart } from "../charts/curve_chart";
import type { ChartSeries } from "../charts/types";
import { HighlightedText } from "../components/highlighted_text";
import { LazyMount } from "../components/lazy_mount";
import { useQuery } from "../components/use_query";
import { duration, number } from "../format";
import { paletteColor } from "../runs";
import { chartSettings } from "../settings";
import type { Gpu, Gpus, HostChart, RankSpeed, RunPage, RunRow } from "../types";
import { GpuSection, nameOf, QUANTITIES, readingOf } from "./gpu_readings";
import type { ViewProps } from "./view";

export function GpusView({ page, row, live }: ViewProps) {
  const { answer, failure } = useQuery(
    `gpus ${page.project}/${row.id}`,
    (signal) => api.gpus({ project: page.project, run: row.id }, signal),
    live,
  );
  if (answer === null)
    return (
      <p class="empty" role="status">
        {failure ?? "Asking for the machines …"}
      </p>
    );
  const hosts = hostCharts(answer.host, page, row);
  if (answer.gpus.length === 0 && answer.ranks.length < 2 && hosts.length === 0 && answer.overall.length === 0) {
    return (
      <p class="empty">
        Nothing is known of the machine. The follower beside a run samples it every two seconds:{" "}
        <code>lossbook.init(system_metrics=True)</code>, which is the default, and for NVIDIA{" "}
        <code>pip install 'lossbook[gpu]'</code>.
      </p>
    );
  }
  return (
    <div class="padded gpus-view">
      {failure !== null && (
        <p class="notice warning" role="alert">
          {failure}
        </p>
      )}
      {answer.findings.map((finding) => (
        <p key={finding} class="notice warning">
          <HighlightedText text={finding} />
        </p>
      ))}
      {answer.gpus.length === 0 && hosts.length > 0 && <p class="soft hint">No GPU was measured; the host was.</p>}
      {answer.gpus.length > 0 && <GpuSection gpus={answer.gpus} />}
      {answer.ranks.length > 1 && <Ranks answer={answer} />}
      {answer.gpus.length > 0 && (
        <section aria-label="GPU curves">
          <h2>Over time</h2>
          <div class="chart-grid">
            {gpuCharts(answer.gpus, page, row).map((chart) => (
              <Chart key={chart.title} {...chart} />
            ))}
          </div>
        </section>
      )}
      {hosts.length > 0 && (
        <section aria-label="Host">
          <h2>Host</h2>
          <div class="chart-grid">
            {hosts.map((chart) => (
              <Chart key={chart.title} {...chart} />
            ))}
          </div>
        </section>
      )}
    </div>
  );
}

function Ranks({ answer }: { answer: Gpus }) {
  const { ranks, rank_key: key } = answer;
  const slowest = [...ranks].sort((one, other) => other.slower_percent - one.slower_percent || one.rank - other.rank);
  const isTime = ranks.some(({ step_seconds }) => step_seconds !== null);
  const stragglers = ranks.filter(({ straggler }) => straggler);
  const time = (rank: RankSpeed): string =>
    rank.step_seconds !== null ? duration(rank.step_seconds) : rank.value == null ? "–" : number(rank.value);
  return (
    <section class="card" aria-label="Ranks">
      <header>
        <h2>
          Ranks <span class="soft">{ranks.length}, the slowest first</span>
        </h2>
        {stragglers.length > 0 && (
          <span class="tag warning">{stragglers.length === 1 ? "1 straggler" : `${stragglers.length} stragglers`}</span>
        )}
      </header>
      {key === null ? (
        <p class="soft hint">
          Which rank is slow is known where every rank logs its step time: <code>{'lossbook.init(ranks="all")'}</code>,
          and on each of them <code>{'run.log({"step_time": seconds}, step=step)'}</code>. Without{" "}
          <code>ranks="all"</code> rank 0 alone logs.
        </p>
      ) : (
        <div class="wide-table short">
          <table class="plain">
            <thead>
              <tr>
                <th class="number">Rank</th>
                <th>Node</th>
                <th class="number">{isTime ? "Step" : key}</th>
                <th class="number">Slower by</th>
                <th class="number">Last step</th>
                <th />
              </tr>
            </thead>
            <tbody>
              {slowest.map((rank) => (
                <tr key={rank.rank} class={rank.straggler ? "straggler" : ""}>
                  <td class="number">{rank.rank}</td>
                  <td>{rank.node ?? "–"}</td>
                  <td class="number">{time(rank)}</td>
                  <td class="number">
                    {rank.slower_percent > 0 ? "+" : ""}
                    {number(rank.slower_percent, 3)} %
                  </td>
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

interface ChartOf {
  title: string;
  unit: string | null;
  series: ChartSeries[];
}

function Chart(props: ChartOf) {
  return (
    <LazyMount height={300}>
      {() => <CurveChart title={props.title} series={props.series} settings={chartSettings.value} unit={props.unit} />}
    </LazyMount>
  );
}

function gpuCharts(gpus: readonly Gpu[], page: RunPage, row: RunRow): ChartOf[] {
  const nodes = new Set(gpus.map(({ node }) => node)).size;
  return QUANTITIES.map(({ name, title, unit }) => ({
    title: `GPU ${title.toLowerCase()}`,
    unit,
    series: gpus.flatMap((gpu, at) => {
      const key = readingOf(gpu, name)?.key;
      return key == null
        ? []
        : [
            {
              project: page.project,
              run: row.id,
              key,
              label: nameOf(gpu, nodes),
              color: paletteColor(at),
              group: null,
              state: row.state,
              created: row.created,
            },
          ];
    }),
  })).filter(({ series }) => series.length > 0);
}

/** Series of the host, each chart with one line for each node. */
function hostCharts(hosts: readonly HostChart[], page: RunPage, row: RunRow): ChartOf[] {
  return hosts.map(({ title, unit, series }) => ({
    title,
    unit,
    series: series.map(({ key, label }, at) => ({
      project: page.project,
      run: row.id,
      key,
      label,
      color: paletteColor(at),
      group: null,
      state: row.state,
      created: row.created,
    })),
  }));
}
