// Edits name, tags, group and notes of one run or of all drawn runs, where the server allows it.

import { useState } from "preact/hooks";

import { AnswerError, api } from "../api";
import { route } from "../router";
import { drawnRuns, runById } from "../runs";
import type { RunRow } from "../types";
import { Dialog } from "./dialog";
import { focused } from "./row_focus";
import "./run_editor.css";

export function RunEditor(props: { open: boolean; onClose: () => void }) {
  const at = focused.value;
  const one = at !== null && "id" in at ? runById(at.id) : undefined;
  const drawn = drawnRuns.value.flatMap(({ id }) => runById(id) ?? []);
  return (
    <Dialog title="Change runs" open={props.open} onClose={props.onClose}>
      {props.open && (
        <Form
          key={one?.id ?? ""}
          one={one ?? (drawn.length === 1 ? drawn[0] : undefined)}
          drawn={drawn}
          onClose={props.onClose}
        />
      )}
    </Dialog>
  );
}

const tagsIn = (text: string): string[] =>
  text
    .split(",")
    .map((tag) => tag.trim())
    .filter((tag) => tag !== "");

function Form(props: { one: RunRow | undefined; drawn: readonly RunRow[]; onClose: () => void }) {
  const { one, drawn } = props;
  const [several, setSeveral] = useState(one === undefined);
  const [name, setName] = useState(one?.name ?? "");
  const [notes, setNotes] = useState(one?.notes ?? "");
  const [tags, setTags] = useState(one?.tags.join(", ") ?? "");
  const [added, setAdded] = useState("");
  const [removed, setRemoved] = useState("");
  const [group, setGroup] = useState(one?.group ?? "");
  const [groupAll, setGroupAll] = useState<string | null>(null);
  const [said, setSaid] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);

  const apply = async (event: Event): Promise<void> => {
    event.preventDefault();
    const project = route.peek().project ?? "";
    setBusy(true);
    let done = 0;
    try {
      if (!several && one !== undefined) {
        await api.edit({
          project,
          run: one.id,
          name: name.trim() === one.name || name.trim() === "" ? null : name.trim(),
          notes: notes === (one.notes ?? "") ? null : notes,
          tags: tags === one.tags.join(", ") ? null : tagsIn(tags),
          group: group === (one.group ?? "") ? null : group,
        });
      } else {
        const [more, less] = [tagsIn(added), new Set(tagsIn(removed))];
        for (const row of drawn) {
          const next = [...new Set([...row.tags, ...more])].filter((tag) => !less.has(tag));
          await api.edit({
            project,
            run: row.id,
            name: null,
            notes: null,
            tags: more.length || less.size ? next : null,
            group: groupAll,
          });
          done += 1;
        }
      }
      props.onClose();
    } catch (error) {
      if (!(error instanceof AnswerError)) throw error;
      setSaid(done > 0 ? `${done} of ${drawn.length} runs were changed, then: ${error.message}` : error.message);
    } finally {
      setBusy(false);
    }
  };
  return (
    <form class="run-changes" onSubmit={(event) => void apply(event)}>
      <div role="radiogroup" aria-label="Which runs">
        <label>
          <input
            type="radio"
            name="which"
            checked={!several}
            disabled={one === undefined}
            onChange={() => setSeveral(false)}
          />{" "}
          <span class="cut">{one === undefined ? "no run is focused" : one.name}</span>
        </label>
        <label>
          <input type="radio" name="which" checked={several} onChange={() => setSeveral(true)} /> the {drawn.length}{" "}
          that are drawn
        </label>
      </div>
      {several ? (
        <>
          <label>
            Add tags{" "}
            <input
              type="text"
              value={added}
              placeholder="one, another"
              onInput={(event) => setAdded(event.currentTarget.value)}
            />
          </label>
          <label>
            Remove tags <input type="text" value={removed} onInput={(event) => setRemoved(event.currentTarget.value)} />
          </label>
          <label>
            Group{" "}
            <input
              type="text"
              value={groupAll ?? ""}
              placeholder={groupAll === null ? "as they are" : "none"}
              onInput={(event) => setGroupAll(event.currentTarget.value)}
            />
          </label>
        </>
      ) : (
        <>
          <label>
            Name <input type="text" value={name} onInput={(event) => setName(event.currentTarget.value)} />
          </label>
          <label>
            Tags{" "}
            <input
              type="text"
              value={tags}
              placeholder="one, another"
              onInput={(event) => setTags(event.currentTarget.value)}
            />
          </label>
          <label>
            Group{" "}
            <input
              type="text"
              value={group}
              placeholder="none"
              onInput={(event) => setGroup(event.currentTarget.value)}
            />
          </label>
          <label>
            Notes <textarea rows={4} value={notes} onInput={(event) => setNotes(event.currentTarget.value)} />
          </label>
        </>
      )}
      {said !== null && (
        <p class="notice bad" role="alert">
          {said}
        </p>
      )}
      <div class="end">
        <button type="button" onClick={props.onClose}>
          Cancel
        </button>
        <button type="submit" class="primary" disabled={busy || (several && drawn.length === 0)}>
          Save
        </button>
      </div>
    </form>
  );
}
