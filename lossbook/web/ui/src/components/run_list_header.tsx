// The header of the run table: search, filter, counts, what is drawn, groups, columns, edit.

import { useEffect, useState } from "preact/hooks";
import { setSettings } from "../router";
import { DRAWN_AT_FIRST, drawnIds, rows, setDrawn, total } from "../runs";
import { bindShortcuts } from "../shortcuts";
import { ColumnChooser } from "./column_chooser";
import { FilterField } from "./filter_field";
import { RunEditor } from "./run_editor";
import { columnNamed, possibleColumns } from "./table_columns";
import { UrlTextField } from "./url_text_field";
import { filterText, groups, groupText, MOST_DRAWN, searchText, visibleRuns } from "./visible_runs";
import "./run_list_header.css";

const MOST_OFFERED = 200; // ways to group

export function RunListHeader(props: { compact: boolean; editable: boolean }) {
  const [choosing, setChoosing] = useState(false);
  const [changing, setChanging] = useState(false);
  const shown = visibleRuns.value;
  const drawn = drawnIds.value.size;
  const isNarrowed = Boolean(searchText.value) || Boolean(filterText.value);
  const all = total.value;
  useEffect(
    () =>
      props.editable
        ? bindShortcuts([{ key: "e", description: "change name, tags, group, notes", action: () => setChanging(true) }])
        : undefined,
    [props.editable],
  );
  return (
    <div class={`list-head ${props.compact ? "compact" : ""}`}>
      <div class="fields">
        <UrlTextField
          setting="q"
          label="Search runs"
          placeholder="Search name, tag, group, notes  /"
          class="search"
          slash
        />
        <FilterField />
      </div>
      <div class="buttons">
        <span class="count" role="status">
          {isNarrowed || rows.value.length < all ? `${shown.length.toLocaleString("en-US")} of ` : ""}
          {all.toLocaleString("en-US")} run{all === 1 ? "" : "s"}, {drawn.toLocaleString("en-US")} drawn
        </span>
        <GroupBy />
      </div>
      <div class="buttons">
        <button
          type="button"
          class="plain"
          disabled={shown.length === 0}
          title={`Draw what is shown, ${MOST_DRAWN} at the most`}
          onClick={() => setDrawn(shown.slice(0, MOST_DRAWN).map(({ id }) => id))}
        >
          {shown.length > MOST_DRAWN ? `Draw ${MOST_DRAWN}` : "Draw all"}
        </button>
        <button type="button" class="plain" title="Draw none" onClick={() => setDrawn([])}>
          None
        </button>
        <button
          type="button"
          class="plain"
          title={`Draw the newest ${DRAWN_AT_FIRST} runs, as at first`}
          onClick={() => setSettings({ runs: null })}
        >
          Newest {DRAWN_AT_FIRST}
        </button>
        <span class="space" />
        <button type="button" title="Which columns are shown" onClick={() => setChoosing(true)}>
          Columns
        </button>
        {props.editable && (
          <button type="button" title="Name, tags, group, notes (e)" onClick={() => setChanging(true)}>
            Change
          </button>
        )}
      </div>
      <ColumnChooser open={choosing} onClose={() => setChoosing(false)} />
      {props.editable && <RunEditor open={changing} onClose={() => setChanging(false)} />}
    </div>
  );
}

function GroupBy() {
  const by = groupText.value ?? "";
  const usual = ["group", "tags", "state", "host", "user"];
  const settings = possibleColumns.value.filter((name) => name.startsWith("config.")).slice(0, MOST_OFFERED);
  const offered = by === "" || usual.includes(by) || settings.includes(by) ? settings : [by, ...settings];
  const group = (name: string): void => setSettings({ group: name || null, folded: null });
  useEffect(
    () =>
      bindShortcuts([
        {
          key: "g",
          description: "group by: the next",
          action: () => {
            const all = [
              "",
              "group",
              "tags",
              ...possibleColumns
                .peek()
                .filter((name) => name.startsWith("config."))
                .slice(0, 6),
            ];
            group(all[(all.indexOf(groupText.peek() ?? "") + 1) % all.length] ?? "");
          },
        },
      ]),
    [],
  );
  return (
    <label title="Group the runs (g)">
      <span class="unseen">Group by</span>
      <select class="group-by" aria-label="Group by" value={by} onChange={(event) => group(event.currentTarget.value)}>
        <option value="">no groups</option>
        {usual.map((name) => (
          <option key={name} value={name}>
            by {columnNamed(name).title.toLowerCase()}
          </option>
        ))}
        {offered.map((name) => (
          <option key={name} value={name}>
            by {columnNamed(name).title}
          </option>
        ))}
      </select>
      {by !== "" && <span class="soft"> {groups.value.length}</span>}
    </label>
  );
}
