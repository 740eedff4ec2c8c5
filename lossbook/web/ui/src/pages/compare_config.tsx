// Compares configurations: settings against runs, the odd one out marked.

import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";

import { fileName, save } from "../charts/export";
import { CopyButton } from "../components/copy_button";
import { metricTest } from "../components/metric_sections";
import { asCsv, asMarkdown } from "../components/table_text";
import { UrlTextField } from "../components/url_text_field";
import { type GridCell, type GridColumn, VirtualGrid } from "../components/virtual_grid";
import { value as valueText } from "../format";
import { linkTo, navigate, route, setSettings } from "../router";
import { colorOf } from "../runs";
import type { Compared, RunRow } from "../types";
import { useCompared } from "./compare_runs";

const KEY_WIDTH = 220;
const RUN_WIDTH = 148;

interface Setting {
  name: string;
  texts: readonly (string | null)[]; // of each run; null: it has none
  odd: readonly boolean[];
  differs: boolean;
}

/** A value as a text that is the same for what is the same, and no other. */
function identity(any: unknown): string | null {
  return any === undefined ? null : JSON.stringify(any);
}

/** For each run whether it stands out: from the first where that is the baseline, else from more than half of all. */
function oddOnes(identities: readonly (string | null)[], hasBaseline: boolean): boolean[] {
  if (hasBaseline) return identities.map((one) => one !== identities[0]);
  const counts = new Map<string | null, number>();
  for (const one of identities) counts.set(one, (counts.get(one) ?? 0) + 1);
  const [usual, count] = [...counts].reduce((most, one) => (one[1] > most[1] ? one : most));
  return 2 * count > identities.length ? identities.map((one) => one !== usual) : identities.map(() => false);
}

export function compareSettings({ settings, config, baseline }: Compared): Setting[] {
  return settings.map((name) => {
    const identities = config.map((one) => identity(one[name]));
    return {
      name,
      texts: config.map((one) => (one[name] === undefined ? null : valueText(one[name]))),
      odd: oddOnes(identities, baseline !== null),
      differs: identities.some((one) => one !== identities[0]),
    };
  });
}

export function runHead(id: string, name: string): ComponentChildren {
  const { project, settings } = route.value;
  return (
    <a class="run-head-link" href={linkTo({ project, run: id }, settings)} title={name}>
      <i style={{ background: colorOf(id) }} aria-hidden="true" />
      <span class="cut">
        <bdi>{name}</bdi>
      </span>
    </a>
  );
}

export function ConfigView(props: { rows: readonly RunRow[] }) {
  const { settings } = route.value;
  const showsAll = settings.get("every") === "1";
  const turned = settings.get("turn") === "1";
  const find = settings.get("find") ?? "";
  const { answer, failure, left } = useCompared(props.rows, { everySetting: showsAll });
  const all = useMemo(() => (answer === null ? [] : compareSettings(answer)), [answer]);
  const test = metricTest(find);
  const shown = useMemo(() => {
    return all.filter(
      ({ name, texts, differs }) =>
        (showsAll || differs) && (test === null || test(name) || texts.some((text) => text !== null && test(text))),
    );
  }, [all, find, showsAll]);
  const runs = answer?.runs ?? [];
  const idOf = (at: number): string => String(runs[at]?.id ?? "");
  const nameOf = (at: number): string => String(runs[at]?.name ?? "");

  const cellOf = (setting: Setting, run: number): GridCell => {
    const text = setting.texts[run];
    if (text === null || text === undefined)
      return {
        text: "–",
        title: `${nameOf(run)} has no ${setting.name}`,
        class: `soft ${setting.odd[run] ? "odd" : ""}`,
      };
    return { text: <bdi>{text}</bdi>, title: `${setting.name} = ${text}`, class: setting.odd[run] ? "odd" : "" };
  };
  const keyCell = (setting: Setting): GridCell => ({
    text: <bdi>{setting.name}</bdi>,
    title: setting.name,
    class: setting.differs ? "key" : "key soft",
  });
  const columns: GridColumn[] = turned
    ? [
        { name: "run", head: "Run", width: KEY_WIDTH },
        ...shown.map(({ name }) => ({
          name,
          head: (
            <span class="cut" title={name}>
              <bdi>{name}</bdi>
            </span>
          ),
          width: RUN_WIDTH,
        })),
      ]
    : [
        { name: "key", head: "Setting", width: KEY_WIDTH },
        ...runs.map((_, at) => ({
          name: idOf(at),
          head: runHead(idOf(at), nameOf(at)),
          width: RUN_WIDTH,
          ...(idOf(at) === answer?.baseline ? { class: "held" } : {}),
        })),
      ];
  const asRows = (): string[][] => {
    const line = (setting: Setting): string[] => [setting.name, ...setting.texts.map((text) => text ?? "")];
    const table = [["setting", ...runs.map((_, at) => nameOf(at))], ...shown.map(line)];
    return turned ? table[0]!.map((_, column) => table.map((row) => row[column]!)) : table;
  };
  const count = turned ? runs.length : shown.length;
  const rows = answer === null ? [] : asRows();
  return (
    <>
      <div class="compare-bar" role="toolbar" aria-label="Configuration">
        <UrlTextField setting="find" label="Find settings" placeholder="Find: names or values" slash />
        <button
          type="button"
          aria-pressed={showsAll}
          onClick={() => setSettings({ every: showsAll ? null : "1" })}
          title="Also what is the same in all runs"
        >
          All settings
        </button>
        <button
          type="button"
          aria-pressed={turned}
          onClick={() => setSettings({ turn: turned ? null : "1" })}
          title="A line for each run in place of a column"
        >
          Runs as rows
        </button>
        <span class="soft" role="status">
          {answer === null
            ? failure === null
              ? "Comparing …"
              : ""
            : `${shown.length.toLocaleString("en-US")} ${showsAll ? "settings" : shown.length === 1 ? "setting differs" : "settings differ"}${left > 0 ? `; ${left.toLocaleString("en-US")} more runs are left out` : ""}`}
        </span>
        <span class="space" />
        {answer !== null && (
          <>
            <CopyButton class="" text={asMarkdown(rows)} label="Copy as Markdown">
              Copy Markdown
            </CopyButton>
            <CopyButton class="" text={asCsv(rows)} label="Copy as CSV">
              Copy CSV
            </CopyButton>
            <button
              type="button"
              onClick={() => save(fileName(`${route.value.project}-configuration`, "csv"), asCsv(rows), "text/csv")}
            >
              Save CSV
            </button>
          </>
        )}
      </div>
      {failure !== null && (
        <p class="notice bad" role="alert">
          {failure}
        </p>
      )}
      {answer !== null && shown.length === 0 && (
        <p class="empty">
          {find !== "" ? `No setting here fits “${find}”.` : "All of these runs have the same configuration."}
        </p>
      )}
      {answer !== null && shown.length > 0 && (
        <VirtualGrid
          label={`Configuration of ${runs.length} runs`}
          columns={columns}
          count={count}
          lineKey={(line) => (turned ? idOf(line) : shown[line]!.name)}
          lineClass={(line) => (turned && idOf(line) === answer.baseline ? "held" : "")}
          cell={(line, column) => {
            if (turned)
              return column === 0
                ? { text: runHead(idOf(line), nameOf(line)), title: nameOf(line) }
                : cellOf(shown[column - 1]!, line);
            return column === 0 ? keyCell(shown[line]!) : cellOf(shown[line]!, column - 1);
          }}
          onEnter={(line, column) => {
            const run = turned ? line : column - 1;
            if (run >= 0 && idOf(run)) navigate({ project: route.value.project, run: idOf(run) });
          }}
        />
      )}
      {answer !== null && shown.length > 0 && (
        <p class="compare-foot soft">
          <i class="odd-sign" aria-hidden="true" />{" "}
          {answer.baseline !== null ? "not as the baseline has it" : "not as more than half of the runs have it"}
        </p>
      )}
    </>
  );
}
