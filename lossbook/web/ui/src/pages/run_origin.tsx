// Where a run comes from and where it goes: parent, code and host, attempts, mirrors.

import { CopyButton } from "../components/copy_button";
import { HighlightedText } from "../components/highlighted_text";
import { moment, value as valueText, withUnit } from "../format";
import { linkTo, route } from "../router";
import { runById } from "../runs";
import type { Follower, RunPage, RunRow } from "../types";

export function Lineage({ page }: { page: RunPage }) {
  if (page.parent === null && page.forks.length === 0) return null;
  const parent = page.parent;
  const parentRun = parent === null ? "" : String(parent.run);
  return (
    <section class="card" aria-label="Lineage">
      <header>
        <h2>Lineage</h2>
      </header>
      <dl class="facts-list">
        {parent !== null && (
          <>
            <dt>Forked from</dt>
            <dd>
              <a href={linkTo({ project: String(parent.project ?? page.project), run: parentRun })}>
                {runById(parentRun)?.name ?? parentRun}
              </a>{" "}
              at step {valueText(parent.step)}
            </dd>
          </>
        )}
        {page.forks.length > 0 && (
          <>
            <dt>Forks</dt>
            <dd>
              {page.forks.map((id) => (
                <div key={id}>
                  <a href={linkTo({ project: page.project, run: id })}>{runById(id)?.name ?? id}</a>
                </div>
              ))}
            </dd>
          </>
        )}
      </dl>
    </section>
  );
}

/** A remote as a link, if a browser can open it. */
function Remote(props: { address: string }) {
  if (/^https?:\/\//i.test(props.address))
    return (
      <a href={props.address} rel="noopener noreferrer" target="_blank">
        {props.address}
      </a>
    );
  return <span class="mono">{props.address}</span>;
}

export function Origin({ page, row }: { page: RunPage; row: RunRow }) {
  const { git, host } = page;
  const command = [...page.argv]
    .map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`))
    .join(" ");
  return (
    <section class="card" aria-label="Origin">
      <header>
        <h2>Origin</h2>
      </header>
      <dl class="facts-list">
        {command !== "" && (
          <>
            <dt>Command</dt>
            <dd class="mono command">
              <HighlightedText text={command} /> <CopyButton text={command} label="Copy the command line" />
            </dd>
          </>
        )}
        {page.cwd !== null && (
          <>
            <dt>Folder</dt>
            <dd class="mono">{page.cwd}</dd>
          </>
        )}
        {git !== null && (
          <>
            <dt>Git</dt>
            <dd>
              {git.branch != null && <span>{String(git.branch)} </span>}
              {git.commit != null && (
                <span class="mono">
                  {String(git.commit).slice(0, 10)} <CopyButton text={String(git.commit)} label="Copy the commit" />
                </span>
              )}
              {git.dirty === true && (
                <a
                  href={linkTo({ project: page.project, run: row.id, view: "code" }, route.value.settings)}
                  class="tag warning"
                >
                  changed since
                </a>
              )}
              {git.remote != null && (
                <div>
                  <Remote address={String(git.remote)} />
                </div>
              )}
            </dd>
          </>
        )}
        {host !== null && (
          <>
            <dt>Host</dt>
            <dd>
              {[host.name, host.os]
                .filter((one) => one != null)
                .map(String)
                .join(", ")}
            </dd>
            {host.user != null && (
              <>
                <dt>User</dt>
                <dd>{String(host.user)}</dd>
              </>
            )}
            {host.python != null && (
              <>
                <dt>Python</dt>
                <dd>
                  {String(host.python)}
                  {host.cpus != null && <>, {String(host.cpus)} CPUs</>}
                </dd>
              </>
            )}
          </>
        )}
        <dt>Started</dt>
        <dd>{moment(row.created, true)}</dd>
        <dt>Ended</dt>
        <dd>{page.ended === null ? "–" : moment(page.ended, true)}</dd>
      </dl>
    </section>
  );
}

export function Attempts({ page }: { page: RunPage }) {
  if (page.attempts.length === 0) return null;
  return (
    <section class="card" aria-label="Attempts">
      <header>
        <h2>Attempts</h2>
      </header>
      <table class="plain">
        <thead>
          <tr>
            <th class="number">#</th>
            <th>Started</th>
            <th>Host</th>
            <th class="number">Ranks</th>
            <th class="number">From step</th>
          </tr>
        </thead>
        <tbody>
          {page.attempts.map((attempt) => (
            <tr key={attempt.number} title={attempt.command ?? undefined}>
              <td class="number">{attempt.number}</td>
              <td>{moment(attempt.started)}</td>
              <td>{attempt.host ?? "–"}</td>
              <td class="number">{attempt.world_size}</td>
              <td class="number">{attempt.resume_step === null ? "–" : attempt.resume_step.toLocaleString("en-US")}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

export function Followers(props: { followers: readonly Follower[] }) {
  if (props.followers.length === 0) return null;
  return (
    <section class="card" aria-label="Mirrors">
      <header>
        <h2>Mirrors</h2>
      </header>
      <table class="plain">
        <thead>
          <tr>
            <th>Mirror</th>
            <th>State</th>
            <th class="number">Behind</th>
          </tr>
        </thead>
        <tbody>
          {props.followers.map((follower) => (
            <tr key={follower.name}>
              <td>
                {follower.link !== null && /^https?:\/\//i.test(follower.link) ? (
                  <a href={follower.link} rel="noopener noreferrer" target="_blank">
                    {follower.name}
                  </a>
                ) : (
                  follower.name
                )}
              </td>
              <td>
                {follower.state}
                {follower.error !== null && <div class="failed">{follower.error}</div>}
              </td>
              <td class="number">
                {follower.rows_behind === null
                  ? "–"
                  : withUnit(follower.rows_behind, follower.rows_behind === 1 ? "row" : "rows")}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
