// A run at a glance: key figures, notes, what it was told, what it measured, where it ran and what came of it.

import { useState } from "preact/hooks";

import { AnswerError, api, isLive } from "../api";
import { asNumber, duration, moment, number, short, value as valueText, withUnit } from "../format";
import { useQuery } from "../components/use_query";
import { CopyButton } from "../components/copy_button";
import { HighlightedText } from "../components/highlighted_text";
import { SearchBox } from "../components/search_box";
import { ValueTree } from "../components/value_tree";
import { runById } from "../runs";
import { linkTo, route } from "../router";
import type { Follower, Metric, Role, RunPage, RunRow } from "../types";
import { MetricsTable } from "./run_metrics";
import type { ViewProps } from "./view";

export function OverviewView(props: ViewProps & { onEdited: (row: RunRow) => void }) {
  const { page, row } = props;
  const { answer: store } = useQuery("store", (signal) => api.store(signal), false);
  const { settings } = route.value;
  return (
    <div class="overview">
      <KeyFigures page={page} row={row} />
      <div class="columns">
        <div class="wide">
          <Notes page={page} row={row} editable={store?.editable ?? null} onEdited={props.onEdited} />
          {page.problems.length > 0 && (
            <section class="card" aria-label="Problems">
              <header><h2>Problems</h2></header>
              <ul class="problems">{page.problems.map((problem) => <li key={problem}><HighlightedText text={problem} /></li>)}</ul>
            </section>
          )}
          <section class="card" aria-label="Configuration">
            <header><h2>Configuration</h2><SearchBox setting="config" label="Search the configuration" slash /></header>
            <ValueTree values={page.config} find={settings.get("config") ?? ""} nothing={'Nothing yet. lossbook.init(config={"lr": 3e-4}) records what a run was told.'} />
          </section>
          <section class="card" aria-label="Summary">
            <header><h2>Summary</h2></header>
            <ValueTree values={page.summary} find="" nothing={'Nothing yet. run.summary["accuracy"] = 0.91 puts a figure here.'} />
          </section>
          <MetricsTable page={page} />
        </div>
        <div class="narrow">
          <Labels page={page} row={row} editable={store?.editable ?? null} onEdited={props.onEdited} />
          <Lineage page={page} />
          <Origin page={page} row={row} />
          <Attempts page={page} />
          <Followers followers={page.followers} />
        </div>
      </div>
    </div>
  );
}

// -- key figures ---------------------------------------------------------------------------------------------------

const LOSSES = [["Training loss", "train-loss"], ["Validation loss", "val-loss"], ["Test loss", "test-loss"]] as const;

export interface Figure {
  title: string;
  value: string;
  more?: string | undefined;
}

/** What a run came to, by the roles of its metrics. */
export function keyFigures(page: Pick<RunPage, "metrics" | "key_metrics" | "gpus">, row: Pick<RunRow, "duration" | "last_step">): Figure[] {
  const byKey = new Map(page.metrics.map((metric) => [metric.key, metric]));
  const byRole = new Map(page.key_metrics.map((one) => [one.role, one]));
  const metricOf = (role: Role): Metric | undefined => byKey.get(byRole.get(role)?.key ?? "");
  const figures: Figure[] = [];
  for (const [title, role] of LOSSES) {
    const metric = metricOf(role);
    if (metric === undefined) continue;
    const [best, step] = metric.goal === "maximize" ? [metric.max, metric.max_step] : [metric.min, metric.min_step];
    figures.push({ title, value: number(asNumber(metric.last)), more: atStep(metric.last_step) });
    figures.push({ title: `Best ${title.toLowerCase()}`, value: number(asNumber(best)), more: atStep(step) });
  }
  const tokens = asNumber(metricOf("tokens")?.last);
  if (tokens !== null) figures.push({ title: "Tokens", value: short(tokens) });
  const speed = metricOf("speed");
  if (speed !== undefined) figures.push({ title: capitalised(speed.unit ?? speed.key), value: short(asNumber(speed.last) ?? NaN), more: `mean ${short(asNumber(speed.mean) ?? NaN)}` });
  const utilisation = asNumber(metricOf("utilisation")?.last);
  if (utilisation !== null) figures.push({ title: "MFU", value: `${number(utilisation * (byRole.get("utilisation")?.percent_factor ?? 1), 3)} %` });
  const { gpus } = page;
  if (gpus > 0) figures.push({ title: "GPU hours", value: number((gpus * row.duration) / 3600, 3), more: `${gpus} ${gpus === 1 ? "GPU" : "GPUs"}` });
  figures.push({ title: "Steps", value: row.last_step === null ? "–" : row.last_step.toLocaleString("en-US"), more: duration(row.duration) });
  return figures;
}

const capitalised = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

function KeyFigures({ page, row }: { page: RunPage; row: RunRow }) {
  return (
    <dl class="figures">
      {keyFigures(page, row).map(({ title, value, more }) => <div key={title} class="card"><dt>{title}</dt><dd>{value}</dd>{more !== undefined && <dd class="soft">{more}</dd>}</div>)}
    </dl>
  );
}

function atStep(step: number | null): string | undefined {
  return step === null ? undefined : `at step ${step.toLocaleString("en-US")}`;
}

// -- what a person may change ----------------------------------------------------------------------------------------

function HowToEdit({ row }: { row: RunRow }) {
  if (!isLive()) return row.notes ? null : <p class="soft hint">None.</p>;
  return <p class="soft hint">{row.notes ? "" : "None yet. "}This page only reads: <code>lossbook serve --edit</code> lets it change notes, names and tags; <code>lossbook note {row.id} "…"</code> writes notes from a terminal.</p>;
}

function Notes({ page, row, editable, onEdited }: { page: RunPage; row: RunRow; editable: boolean | null; onEdited: (row: RunRow) => void }) {
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
        setFailure("The notes were changed by somebody else meanwhile: theirs stand below. Save again to put yours in their place.");
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
        {editable && draft === null && <button class="plain" onClick={() => setDraft({ text: notes, base: notes })}>{notes === "" ? "Write" : "Edit"}</button>}
      </header>
      {draft === null
        ? notes !== "" ? <pre class="prose"><HighlightedText text={notes} /></pre> : editable !== false && <p class="soft hint">None yet.</p>
        : (
          <form onSubmit={(event) => { event.preventDefault(); void save(); }}>
            <textarea
              aria-label="Notes" rows={Math.max(4, Math.min(20, draft.text.split("\n").length + 1))} value={draft.text}
              ref={(element) => { if (element !== null && draft.text === draft.base && document.activeElement === document.body) element.focus(); }}
              onInput={(event) => setDraft({ ...draft, text: event.currentTarget.value })}
              onKeyDown={(event) => {
                if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); void save(); }
                if (event.key === "Escape") { event.stopPropagation(); cancel(); }
              }}
            />
            {failure !== null && <p class="notice warning" role="alert">{failure}</p>}
            {failure !== null && draft.base !== "" && <pre class="prose theirs" aria-label="The notes as they are now"><HighlightedText text={draft.base} /></pre>}
            <div class="acts"><button type="submit" class="primary" disabled={saving} title="Ctrl+Enter">Save</button><button type="button" onClick={cancel}>Cancel</button></div>
          </form>
        )}
      {editable === false && <HowToEdit row={row} />}
    </section>
  );
}

function Labels({ page, row, editable, onEdited }: { page: RunPage; row: RunRow; editable: boolean | null; onEdited: (row: RunRow) => void }) {
  const [draft, setDraft] = useState<{ name: string; group: string; tags: string } | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  async function save(): Promise<void> {
    if (draft === null) return;
    const tags = draft.tags.split(",").map((tag) => tag.trim()).filter((tag) => tag !== "");
    try {
      onEdited(await api.edit({
        project: page.project, run: row.id,
        name: draft.name === row.name ? null : draft.name,
        group: draft.group === (row.group ?? "") ? null : draft.group,
        tags: tags.join(",") === row.tags.join(",") ? null : tags,
      }));
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
        {editable && draft === null && <button class="plain" onClick={() => setDraft({ name: row.name, group: row.group ?? "", tags: row.tags.join(", ") })}>Edit</button>}
      </header>
      {draft === null ? (
        <dl class="facts-list">
          <dt>Name</dt><dd>{row.name}</dd>
          <dt>Project</dt><dd><a href={linkTo({ project: page.project })}>{page.project}</a></dd>
          <dt>Group</dt><dd>{row.group ?? "–"}</dd>
          <dt>Tags</dt><dd>{row.tags.length > 0 ? row.tags.map((tag) => <span key={tag} class="tag">{tag}</span>) : "–"}</dd>
          <dt>Id</dt><dd class="mono">{row.id} <CopyButton text={row.id} label="Copy the id" /></dd>
          <dt>Folder</dt><dd class="mono">{page.path} <CopyButton text={page.path} label="Copy the folder's path" /></dd>
        </dl>
      ) : (
        <form class="labels" onSubmit={(event) => { event.preventDefault(); void save(); }} onKeyDown={(event) => event.key === "Escape" && setDraft(null)}>
          <label>Name<input type="text" value={draft.name} onInput={(event) => setDraft({ ...draft, name: event.currentTarget.value })} /></label>
          <label>Group<input type="text" value={draft.group} placeholder="none" onInput={(event) => setDraft({ ...draft, group: event.currentTarget.value })} /></label>
          <label>Tags<input type="text" value={draft.tags} placeholder="one, another" onInput={(event) => setDraft({ ...draft, tags: event.currentTarget.value })} /></label>
          {failure !== null && <p class="notice bad" role="alert">{failure}</p>}
          <div class="acts"><button type="submit" class="primary">Save</button><button type="button" onClick={() => setDraft(null)}>Cancel</button></div>
        </form>
      )}
    </section>
  );
}

// -- where it comes from ---------------------------------------------------------------------------------------------

function Lineage({ page }: { page: RunPage }) {
  if (page.parent === null && page.forks.length === 0) return null;
  const parent = page.parent;
  const parentRun = parent === null ? "" : String(parent.run);
  return (
    <section class="card" aria-label="Lineage">
      <header><h2>Lineage</h2></header>
      <dl class="facts-list">
        {parent !== null && <><dt>Forked from</dt><dd><a href={linkTo({ project: String(parent.project ?? page.project), run: parentRun })}>{runById(parentRun)?.name ?? parentRun}</a> at step {valueText(parent.step)}</dd></>}
        {page.forks.length > 0 && <><dt>Forks</dt><dd>{page.forks.map((id) => <div key={id}><a href={linkTo({ project: page.project, run: id })}>{runById(id)?.name ?? id}</a></div>)}</dd></>}
      </dl>
    </section>
  );
}

/** A remote as a link, if a browser can open it. */
function Remote(props: { address: string }) {
  if (/^https?:\/\//i.test(props.address)) return <a href={props.address} rel="noopener noreferrer" target="_blank">{props.address}</a>;
  return <span class="mono">{props.address}</span>;
}

function Origin({ page, row }: { page: RunPage; row: RunRow }) {
  const { git, host } = page;
  const command = [...page.argv].map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(" ");
  return (
    <section class="card" aria-label="Origin">
      <header><h2>Origin</h2></header>
      <dl class="facts-list">
        {command !== "" && <><dt>Command</dt><dd class="mono command"><HighlightedText text={command} /> <CopyButton text={command} label="Copy the command line" /></dd></>}
        {page.cwd !== null && <><dt>Folder</dt><dd class="mono">{page.cwd}</dd></>}
        {git !== null && (
          <>
            <dt>Git</dt>
            <dd>
              {git.branch != null && <span>{String(git.branch)} </span>}
              {git.commit != null && <span class="mono">{String(git.commit).slice(0, 10)} <CopyButton text={String(git.commit)} label="Copy the commit" /></span>}
              {git.dirty === true && <a href={linkTo({ project: page.project, run: row.id, view: "code" }, route.value.settings)} class="tag warning">changed since</a>}
              {git.remote != null && <div><Remote address={String(git.remote)} /></div>}
            </dd>
          </>
        )}
        {host !== null && (
          <>
            <dt>Host</dt>
            <dd>{[host.name, host.os].filter((one) => one != null).map(String).join(", ")}</dd>
            {host.user != null && <><dt>User</dt><dd>{String(host.user)}</dd></>}
            {host.python != null && <><dt>Python</dt><dd>{String(host.python)}{host.cpus != null && <>, {String(host.cpus)} CPUs</>}</dd></>}
          </>
        )}
        <dt>Started</dt><dd>{moment(row.created, true)}</dd>
        <dt>Ended</dt><dd>{page.ended === null ? "–" : moment(page.ended, true)}</dd>
      </dl>
    </section>
  );
}

function Attempts({ page }: { page: RunPage }) {
  if (page.attempts.length === 0) return null;
  return (
    <section class="card" aria-label="Attempts">
      <header><h2>Attempts</h2></header>
      <table class="plain">
        <thead><tr><th class="number">#</th><th>Started</th><th>Host</th><th class="number">Ranks</th><th class="number">From step</th></tr></thead>
        <tbody>
          {page.attempts.map((attempt) => (
            <tr key={attempt.number} title={attempt.command ?? undefined}>
              <td class="number">{attempt.number}</td><td>{moment(attempt.started)}</td><td>{attempt.host ?? "–"}</td><td class="number">{attempt.world_size}</td>
              <td class="number">{attempt.resume_step === null ? "–" : attempt.resume_step.toLocaleString("en-US")}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function Followers(props: { followers: readonly Follower[] }) {
  if (props.followers.length === 0) return null;
  return (
    <section class="card" aria-label="Mirrors">
      <header><h2>Mirrors</h2></header>
      <table class="plain">
        <thead><tr><th>Mirror</th><th>State</th><th class="number">Behind</th></tr></thead>
        <tbody>
          {props.followers.map((follower) => (
            <tr key={follower.name}>
              <td>{follower.link !== null && /^https?:\/\//i.test(follower.link) ? <a href={follower.link} rel="noopener noreferrer" target="_blank">{follower.name}</a> : follower.name}</td>
              <td>{follower.state}{follower.error !== null && <div class="failed">{follower.error}</div>}</td>
              <td class="number">{follower.rows_behind === null ? "–" : withUnit(follower.rows_behind, follower.rows_behind === 1 ? "row" : "rows")}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
