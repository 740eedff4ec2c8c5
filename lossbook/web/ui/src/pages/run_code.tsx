// The code of a run: its commit and uncommitted changes, the script, the packages, the environment.

import { useRef, useState } from "preact/hooks";

import { api } from "../api";
import { CopyButton } from "../components/copy_button";
import { HighlightedText } from "../components/highlighted_text";
import { SearchBox } from "../components/search_box";
import { useQuery } from "../components/use_query";
import { ValueTree } from "../components/value_tree";
import { VirtualList, type VirtualListHandle } from "../components/virtual_list";
import { route, setSettings } from "../router";
import type { Code } from "../types";
import type { ViewProps } from "./view";

const LINE = 18;

export function CodeView({ page }: ViewProps) {
  const { settings } = route.value;
  const chosen = settings.get("attempt");
  const attempt = chosen === null || !/^\d+$/.test(chosen) ? null : Number(chosen);
  const { answer: code, failure } = useQuery(
    `code ${page.project}/${page.row.id} ${attempt} ${page.attempts.length}`,
    (signal) => api.code({ project: page.project, run: page.row.id, ...(attempt === null ? {} : { attempt }) }, signal),
    false,
  );
  if (code === null)
    return (
      <p class="empty" role="status">
        {failure ?? "Asking for the code …"}
      </p>
    );
  const hasSomething =
    code.git !== null ||
    code.diff !== null ||
    code.script !== null ||
    code.packages !== null ||
    code.environment !== null;
  if (!hasSomething)
    return (
      <p class="empty">
        No code was kept. A run that <code>lossbook.init()</code> begins in a script keeps the script, its packages and,
        inside a Git repository, the commit and what was changed since.
      </p>
    );
  return (
    <div class="padded code-view">
      {failure !== null && (
        <p class="notice warning" role="alert">
          {failure}
        </p>
      )}
      {code.problems.map((problem) => (
        <p key={problem} class="notice warning">
          {problem}
        </p>
      ))}
      {code.attempts.length > 1 && (
        <div class="bar">
          <label>
            Attempt{" "}
            <select
              value={String(code.attempt)}
              onChange={(event) => setSettings({ attempt: event.currentTarget.value })}
            >
              {code.attempts.map((one) => (
                <option key={one} value={String(one)}>
                  {one}
                </option>
              ))}
            </select>
          </label>
        </div>
      )}
      <Commit git={code.git} />
      <Difference code={code} />
      {code.script !== null && <Lines title={code.script_name ?? "Script"} label="Script" text={code.script} />}
      <Packages text={code.packages} />
      {code.environment !== null && (
        <section class="card" aria-label="Environment">
          <header>
            <h2>Environment</h2>
            <SearchBox setting="environment" label="Search the environment" />
          </header>
          <ValueTree values={code.environment} find={settings.get("environment") ?? ""} nothing="Nothing was kept." />
        </section>
      )}
    </div>
  );
}

function Commit({ git }: { git: Record<string, unknown> | null }) {
  if (git === null || git.commit == null) {
    return (
      <section class="card" aria-label="Git">
        <header>
          <h2>Git</h2>
        </header>
        <p class="soft hint">The script was not in a Git repository.</p>
      </section>
    );
  }
  const commit = String(git.commit);
  const remote = git.remote == null ? null : String(git.remote);
  return (
    <section class="card" aria-label="Git">
      <header>
        <h2>Git</h2>
      </header>
      <dl class="facts-list">
        <dt>Commit</dt>
        <dd class="mono">
          {commit} <CopyButton text={commit} label="Copy the commit" />
        </dd>
        {git.branch != null && (
          <>
            <dt>Branch</dt>
            <dd>{String(git.branch)}</dd>
          </>
        )}
        {remote !== null && (
          <>
            <dt>Remote</dt>
            <dd>
              {/^https?:\/\//i.test(remote) ? (
                <a href={remote} rel="noopener noreferrer" target="_blank">
                  {remote}
                </a>
              ) : (
                <span class="mono">{remote}</span>
              )}
            </dd>
          </>
        )}
        <dt>Changes</dt>
        <dd>
          {git.dirty === true
            ? "files were changed since the commit"
            : git.dirty === false
              ? "none since the commit"
              : "not known"}
        </dd>
      </dl>
    </section>
  );
}

interface Changed {
  path: string;
  line: number; // of the diff
  added: number;
  removed: number;
}

function changedFiles(lines: readonly string[]): Changed[] {
  const files: Changed[] = [];
  lines.forEach((line, at) => {
    const head = /^diff --git "?a\/.*?"? "?b\/(.*?)"?$/.exec(line);
    const file = files.at(-1);
    if (head !== null) files.push({ path: head[1]!, line: at, added: 0, removed: 0 });
    else if (file !== undefined && line.startsWith("+") && !line.startsWith("+++ ")) file.added += 1;
    else if (file !== undefined && line.startsWith("-") && !line.startsWith("--- ")) file.removed += 1;
  });
  return files;
}

function kindOf(line: string): string {
  if (line.startsWith("diff --git")) return "file";
  if (line.startsWith("@@")) return "hunk";
  if (line.startsWith("+++ ") || line.startsWith("--- ") || line.startsWith("index ")) return "soft";
  return line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : "";
}

function Difference({ code }: { code: Code }) {
  const list = useRef<VirtualListHandle>(null);
  if (code.diff === null || code.diff === "") {
    return (
      <section class="card" aria-label="Changes">
        <header>
          <h2>Changes</h2>
        </header>
        <p class="soft hint">
          {code.git?.dirty === true ? "What was changed was not kept." : "Nothing was changed since the commit."}
        </p>
      </section>
    );
  }
  const lines = code.diff.replace(/\n$/, "").split("\n");
  const files = changedFiles(lines);
  return (
    <section class="card" aria-label="Changes">
      <header>
        <h2>
          Changes{" "}
          <span class="soft">
            {files.length.toLocaleString("en-US")} {files.length === 1 ? "file" : "files"}
            {code.diff_truncated ? ", cut" : ""}
          </span>
        </h2>
        <CopyButton class="" text={code.diff} label="Copy the diff">
          Copy
        </CopyButton>
      </header>
      <ul class="changed-files">
        {files.slice(0, 500).map((file) => (
          <li key={file.line}>
            <button type="button" class="plain mono" onClick={() => list.current?.show(file.line, "start")}>
              {file.path}
            </button>
            <span class="added">+{file.added}</span> <span class="removed">−{file.removed}</span>
          </li>
        ))}
      </ul>
      <VirtualList
        count={lines.length}
        lineHeight={LINE}
        label="Changes since the commit"
        role="list"
        class="lines diff"
        handle={list}
        maxHeight={Math.min(620, lines.length * LINE + 14)}
        line={(at) => (
          <div key={at} role="listitem" class={`line ${kindOf(lines[at]!)}`} style={{ height: `${LINE}px` }}>
            <span class="text">
              <HighlightedText text={lines[at]!} />
            </span>
          </div>
        )}
      />
    </section>
  );
}

function Lines(props: { title: string; label: string; text: string }) {
  const lines = props.text.replace(/\n$/, "").split("\n");
  return (
    <section class="card" aria-label={props.label}>
      <header>
        <h2 class="mono">{props.title}</h2>
        <CopyButton class="" text={props.text} label={`Copy ${props.title}`}>
          Copy
        </CopyButton>
      </header>
      <VirtualList
        count={lines.length}
        lineHeight={LINE}
        label={props.title}
        class="lines"
        maxHeight={Math.min(520, lines.length * LINE + 14)}
        line={(at) => (
          <div key={at} role="listitem" class="line" style={{ height: `${LINE}px` }}>
            <span class="line-number">{at + 1}</span>
            <span class="text">
              <HighlightedText text={lines[at]!} />
            </span>
          </div>
        )}
      />
    </section>
  );
}

const PACKAGES_AT_FIRST = 300;

function Packages(props: { text: string | null }) {
  const [all, setAll] = useState(false);
  if (props.text === null) return null;
  const find = route.value.settings.get("packages") ?? "";
  const packages = props.text.split("\n").filter((line) => line.trim() !== "");
  const found = packages.filter((line) => line.toLowerCase().includes(find.toLowerCase()));
  const shown = all ? found : found.slice(0, PACKAGES_AT_FIRST);
  return (
    <section class="card" aria-label="Packages">
      <header>
        <h2>
          Packages <span class="soft">{packages.length.toLocaleString("en-US")}</span>
        </h2>
        <SearchBox setting="packages" label="Search the packages" slash />
      </header>
      {found.length === 0 && <p class="soft hint">No package has “{find}” in its name.</p>}
      <ul class="packages mono">
        {shown.map((line) => (
          <li key={line}>
            <HighlightedText text={line} find={find} />
          </li>
        ))}
      </ul>
      {shown.length < found.length && (
        <p class="hint">
          <button type="button" onClick={() => setAll(true)}>
            Show all {found.length.toLocaleString("en-US")}
          </button>
        </p>
      )}
    </section>
  );
}
