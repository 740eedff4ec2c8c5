// Chooses the columns of the table: shows those in use, in order, and searches all others.

import { useState } from "preact/hooks";

import { names } from "../runs";
import { Dialog } from "./dialog";
import { columnNames, moveColumn, possibleColumns, showColumns } from "./table_columns";
import "./column_chooser.css";

const MOST_LISTED = 200;

export function ColumnChooser(props: { open: boolean; onClose: () => void }) {
  return (
    <Dialog title="Columns" open={props.open} onClose={props.onClose}>
      {props.open && <Chooser />}
    </Dialog>
  );
}

function Chooser() {
  const [find, setFind] = useState("");
  const [statistic, setStatistic] = useState("");
  const [over, setOver] = useState<number | null>(null);
  const chosen = columnNames.value;
  const words = find
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== "");
  const found = possibleColumns.value.filter(
    (name) => !chosen.includes(name) && words.every((word) => name.toLowerCase().includes(word)),
  );
  const listed = found.slice(0, MOST_LISTED);
  const isMetric = (name: string): boolean => names.value?.metrics.some((metric) => metric.name === name) ?? false;
  return (
    <div class="column-chooser">
      <div>
        <div class="row">
          <input
            type="search"
            autofocus
            aria-label="Find a column"
            placeholder="Find: config, summary, metrics"
            value={find}
            spellcheck={false}
            onInput={(event) => setFind(event.currentTarget.value)}
          />
          <select
            aria-label="What of a metric"
            value={statistic}
            onChange={(event) => setStatistic(event.currentTarget.value)}
          >
            <option value="">last</option>
            {["min", "max", "mean", "count", "min_step", "max_step"].map((one) => (
              <option key={one} value={`.${one}`}>
                {one.replace("_", " at ")}
              </option>
            ))}
          </select>
        </div>
        <ul aria-label="Columns to add">
          {listed.map((name) => (
            <li key={name}>
              <button
                type="button"
                class="plain cut"
                aria-label={`Add ${name}`}
                title={name}
                onClick={() => showColumns([...chosen, isMetric(name) ? name + statistic : name])}
              >
                <span aria-hidden="true">+ </span>
                <bdi>{name}</bdi>
              </button>
            </li>
          ))}
        </ul>
        <p class="soft" role="status">
          {found.length === 0
            ? "Nothing is called like this."
            : found.length > listed.length
              ? `${(found.length - listed.length).toLocaleString("en-US")} more: search for them`
              : `${found.length.toLocaleString("en-US")} to add`}
        </p>
      </div>
      <div>
        <div class="row">
          <h3>Shown</h3>
          <button type="button" onClick={() => showColumns(null)}>
            As at first
          </button>
        </div>
        <ol aria-label="Columns shown">
          {chosen.map((name, at) => (
            <li
              key={name}
              draggable
              class={over === at ? "over" : ""}
              onDragStart={(event) => event.dataTransfer?.setData("text/x-lossbook-column", name)}
              onDragOver={(event) => {
                event.preventDefault();
                setOver(at);
              }}
              onDragLeave={() => setOver(null)}
              onDrop={(event) => {
                event.preventDefault();
                setOver(null);
                const moved = event.dataTransfer?.getData("text/x-lossbook-column");
                if (moved && moved !== name) moveColumn(moved, at);
              }}
            >
              <span class="cut" title={name}>
                <bdi>{name}</bdi>
              </span>
              <button
                type="button"
                class="plain"
                disabled={at === 0}
                aria-label={`Move ${name} up`}
                onClick={() => moveColumn(name, at - 1)}
              >
                ↑
              </button>
              <button
                type="button"
                class="plain"
                disabled={at === chosen.length - 1}
                aria-label={`Move ${name} down`}
                onClick={() => moveColumn(name, at + 1)}
              >
                ↓
              </button>
              <button
                type="button"
                class="plain"
                aria-label={`Hide ${name}`}
                onClick={() => showColumns(chosen.filter((one) => one !== name))}
              >
                ✕
              </button>
            </li>
          ))}
        </ol>
      </div>
    </div>
  );
}
