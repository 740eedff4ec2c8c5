// The projects of a store.

import { useEffect, useState } from "preact/hooks";

import { AnswerError, api } from "../api";
import { ago } from "../format";
import { poll } from "../polling";
import { linkTo } from "../router";
import type { Store } from "../types";

export function StorePage() {
  const [store, setStore] = useState<Store | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  useEffect(
    () =>
      poll(3000, async (signal) => {
        try {
          setStore(await api.store(signal));
          setFailure(null);
        } catch (error) {
          if (error instanceof AnswerError) setFailure(error.message);
          throw error;
        }
      }),
    [],
  );
  if (store === null)
    return (
      <main class="main">
        <p class="empty" role="status">
          {failure ?? "Opening the store …"}
        </p>
      </main>
    );
  return (
    <main class="main" style={{ padding: "16px" }}>
      <h1 class="mono" style={{ marginBottom: "12px" }}>
        {store.location}
      </h1>
      {store.source !== null && (
        <p class="soft" style={{ marginBottom: "12px" }}>
          Runs of {store.source}, read where they are.
        </p>
      )}
      {failure !== null && (
        <p class="notice bad" role="alert">
          {failure}
        </p>
      )}
      {(store.unreadable ?? []).slice(0, 20).map((sentence) => (
        <p key={sentence} class="notice bad" role="status">
          {sentence}
        </p>
      ))}
      {store.projects.length === 0 ? (
        <p class="empty">
          No run yet. The first call of <code>lossbook.init()</code> that writes to this store makes one; it appears
          here by itself.
        </p>
      ) : (
        <table class="plain" style={{ maxWidth: "900px" }}>
          <thead>
            <tr>
              <th>Project</th>
              <th class="number">Runs</th>
              <th class="number">Running</th>
              <th>Newest run</th>
            </tr>
          </thead>
          <tbody>
            {store.projects.map((project) => (
              <tr key={project.name}>
                <td>
                  <a href={linkTo({ project: project.name })}>{project.name}</a>
                </td>
                <td class="number">{project.runs.toLocaleString("en-US")}</td>
                <td class="number">
                  {project.running > 0 ? <span class="state running">{project.running}</span> : "–"}
                </td>
                <td class="soft">{ago(project.newest)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </main>
  );
}
