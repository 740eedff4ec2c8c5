// The editable part of a run: notes, name, group and tags.

import { useState } from "preact/hooks";
import { AnswerError, api, isLive } from "../api";
import { CopyButton } from "../components/copy_button";
import { HighlightedText } from "../components/highlighted_text";
import { linkTo } from "../router";
import type { RunPage, RunRow } from "../types";

function HowToEdit({ row }: { row: RunRow }) {
  if (!isLive()) return row.notes ? null : <p class="soft hint">None.</p>;
  return (
    <p class="soft hint">
      {row.notes ? "" : "None yet. "}This page only reads: <code>lossbook serve --edit</code> lets it change notes,
      names and tags; <code>lossbook note {row.id} "…"</code> writes notes from a terminal.
    </p>
  );
}

export function Notes({
  page,
  row,
  editable,
  onEdited,
}: {
  page: RunPage;
  row: RunRow;
  editable: boolean | null;
  onEdited: (row: RunRow) => void;
}) {
  const [draft, setDraft] = useState<{ text: string; base: string } | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const [saving, setSaving] = useState(false);
  const notes = row.notes ?? "";

  async function save(): Promise<void> {
    if (draft === null || saving) return;
    setSaving(true);
    try {
      const now = (await api.run({ project: page.project, run: row.id })).row.notes ?? "";
      if (now !== draft.base) {
        setFailure(
          "The notes were changed by somebody else meanwhile: theirs stand below. Save again to put yours in their place.",
        );
        setDraft({ ...draft, base: now });
        return;
      }
      onEdited(await api.edit({ project: page.project, run: row.id, notes: draft.text }));
      setDraft(null);
      setFailure(null);
    } catch (error) {
      setFailure(error instanceof AnswerError ? error.message : String(error));
    } finally {
      setSaving(false);
    }
  }

  function cancel(): void {
    setDraft(null);
    setFailure(null);
  }

  return (
    <section class="card notes" aria-label="Notes">
      <header>
        <h2>Notes</h2>
        {editable && draft === null && (
          <button type="button" class="plain" onClick={() => setDraft({ text: notes, base: notes })}>
            {notes === "" ? "Write" : "Edit"}
          </button>
        )}
      </header>
      {draft === null ? (
        notes !== "" ? (
          <pre class="prose">
            <HighlightedText text={notes} />
          </pre>
        ) : (
          editable !== false && <p class="soft hint">None yet.</p>
        )
      ) : (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            void save();
          }}
        >
          <textarea
            aria-label="Notes"
            rows={Math.max(4, Math.min(20, draft.text.split("\n").length + 1))}
            value={draft.text}
            ref={(element) => {
              if (element !== null && draft.text === draft.base && document.activeElement === document.body)
                element.focus();
            }}
            onInput={(event) => setDraft({ ...draft, text: event.currentTarget.value })}
            onKeyDown={(event) => {
              if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
                event.preventDefault();
                void save();
              }
              if (event.key === "Escape") {
                event.stopPropagation();
                cancel();
              }
            }}
          />
          {failure !== null && (
            <p class="notice warning" role="alert">
              {failure}
            </p>
          )}
          {failure !== null && draft.base !== "" && (
            <pre class="prose theirs" role="note" aria-label="The notes as they are now">
              <HighlightedText text={draft.base} />
            </pre>
          )}
          <div class="acts">
            <button type="submit" class="primary" disabled={saving} title="Ctrl+Enter">
              Save
            </button>
            <button type="button" onClick={cancel}>
              Cancel
            </button>
          </div>
        </form>
      )}
      {editable === false && <HowToEdit row={row} />}
    </section>
  );
}

export function Labels({
  page,
  row,
  editable,
  onEdited,
}: {
  page: RunPage;
  row: RunRow;
  editable: boolean | null;
  onEdited: (row: RunRow) => void;
}) {
  const [draft, setDraft] = useState<{ name: string; group: string; tags: string } | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  async function save(): Promise<void> {
    if (draft === null) return;
    const tags = draft.tags
      .split(",")
      .map((tag) => tag.trim())
      .filter((tag) => tag !== "");
    try {
      onEdited(
        await api.edit({
          project: page.project,
          run: row.id,
          name: draft.name === row.name ? null : draft.name,
          group: draft.group === (row.group ?? "") ? null : draft.group,
          tags: tags.join(",") === row.tags.join(",") ? null : tags,
        }),
      );
      setDraft(null);
      setFailure(null);
    } catch (error) {
      setFailure(error instanceof AnswerError ? error.message : String(error));
    }
  }
  return (
    <section class="card" aria-label="Labels">
      <header>
        <h2>Labels</h2>
        {editable && draft === null && (
          <button
            type="button"
            class="plain"
            onClick={() => setDraft({ name: row.name, group: row.group ?? "", tags: row.tags.join(", ") })}
          >
            Edit
          </button>
        )}
      </header>
      {draft === null ? (
        <dl class="facts-list">
          <dt>Name</dt>
          <dd>{row.name}</dd>
          <dt>Project</dt>
          <dd>
            <a href={linkTo({ project: page.project })}>{page.project}</a>
          </dd>
          <dt>Group</dt>
          <dd>{row.group ?? "–"}</dd>
          <dt>Tags</dt>
          <dd>
            {row.tags.length > 0
              ? row.tags.map((tag) => (
                  <span key={tag} class="tag">
                    {tag}
                  </span>
                ))
              : "–"}
          </dd>
          <dt>Id</dt>
          <dd class="mono">
            {row.id} <CopyButton text={row.id} label="Copy the id" />
          </dd>
          <dt>Folder</dt>
          <dd class="mono">
            {page.path} <CopyButton text={page.path} label="Copy the folder's path" />
          </dd>
        </dl>
      ) : (
        <form
          class="labels"
          onSubmit={(event) => {
            event.preventDefault();
            void save();
          }}
          onKeyDown={(event) => event.key === "Escape" && setDraft(null)}
        >
          <label>
            Name
            <input
              type="text"
              value={draft.name}
              onInput={(event) => setDraft({ ...draft, name: event.currentTarget.value })}
            />
          </label>
          <label>
            Group
            <input
              type="text"
              value={draft.group}
              placeholder="none"
              onInput={(event) => setDraft({ ...draft, group: event.currentTarget.value })}
            />
          </label>
          <label>
            Tags
            <input
              type="text"
              value={draft.tags}
              placeholder="one, another"
              onInput={(event) => setDraft({ ...draft, tags: event.currentTarget.value })}
            />
          </label>
          {failure !== null && (
            <p class="notice bad" role="alert">
              {failure}
            </p>
          )}
          <div class="acts">
            <button type="submit" class="primary">
              Save
            </button>
            <button type="button" onClick={() => setDraft(null)}>
              Cancel
            </button>
          </div>
        </form>
      )}
    </section>
  );
}
