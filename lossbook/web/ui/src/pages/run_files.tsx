// The files of a run's folder, with sizes and times, to view or to download.

import { useState } from "preact/hooks";

import { api, isLive } from "../api";
import { Dialog } from "../components/dialog";
import { HighlightedText } from "../components/highlighted_text";
import { SearchBox } from "../components/search_box";
import { useQuery } from "../components/use_query";
import { bytes, moment } from "../format";
import { route, setSettings } from "../router";
import type { File } from "../types";
import type { ViewProps } from "./view";

const SHOWN_AT_FIRST = 200;

/** What a folder of a run holds; docs/format.md. */
const FOLDERS: Record<string, string> = {
  files: "what the training put there",
  code: "what was run",
  console: "what was printed",
  journal: "live rows",
  metrics: "sealed series",
  events: "sealed events",
  followers: "mirrors and the monitor",
  media: "pictures, tables and other files of rows",
};

const TEXTS = /\.(txt|log|md|json|jsonl|ya?ml|toml|py|sh|csv|tsv|patch|cfg|ini)$/i;

export function FilesView({ page, live }: ViewProps) {
  const { answer, failure } = useQuery(
    `files ${page.project}/${page.row.id}`,
    (signal) => api.files({ project: page.project, run: page.row.id }, signal),
    live,
    3000,
  );
  const { settings } = route.value;
  const find = settings.get("files") ?? "";
  const looked = settings.get("file");
  if (answer === null)
    return (
      <p class="empty" role="status">
        {failure ?? "Asking for the files …"}
      </p>
    );
  if (!isLive())
    return (
      <p class="empty">
        Files are not part of a copy, but for the pictures that were logged. They stand in the run’s folder, where it
        was made.
      </p>
    );
  if (answer.files.length === 0)
    return (
      <p class="empty">
        No file. <code>run.save("samples.txt")</code> keeps one with the run.
      </p>
    );
  const found = answer.files.filter(({ path }) => path.toLowerCase().includes(find.toLowerCase()));
  const folders = new Map<string, File[]>();
  for (const file of found) {
    const folder = file.path.includes("/") ? file.path.slice(0, file.path.indexOf("/")) : "";
    folders.set(folder, [...(folders.get(folder) ?? []), file]);
  }
  const total = answer.files.reduce((sum, file) => sum + file.bytes, 0);
  const picture = answer.files.find(({ path, picture }) => picture && path === looked);
  return (
    <div class="padded files-view">
      <div class="bar">
        <SearchBox setting="files" label="Search the files" slash />
        <span class="soft">
          {answer.files.length.toLocaleString("en-US")}
          {answer.whole ? "" : "+"} files, {bytes(total)}
        </span>
        <span class="space" />
        <span class="soft mono">{page.path}</span>
      </div>
      {failure !== null && (
        <p class="notice warning" role="alert">
          {failure}
        </p>
      )}
      {!answer.whole && <p class="notice">There are more than these files; the rest is in the folder.</p>}
      {found.length === 0 && <p class="soft hint">No file has “{find}” in its name.</p>}
      {[...folders].map(([folder, files]) => (
        <Folder key={folder} page={page} folder={folder} files={files} find={find} />
      ))}
      <Dialog title={picture?.path ?? ""} open={picture !== undefined} wide onClose={() => setSettings({ file: null })}>
        {picture !== undefined && (
          <img
            class="preview"
            src={api.fileAddress({ project: page.project, run: page.row.id, path: picture.path })}
            alt={picture.path}
          />
        )}
      </Dialog>
    </div>
  );
}

function Folder(props: { page: ViewProps["page"]; folder: string; files: readonly File[]; find: string }) {
  const { page, folder, files, find } = props;
  const [all, setAll] = useState(false);
  // Folders that Lossbook keeps for itself are closed until somebody looks for something.
  const isOpen = find !== "" || ["", "files", "code", "console"].includes(folder);
  const shown = all ? files : files.slice(0, SHOWN_AT_FIRST);
  const within = folder === "" ? 0 : folder.length + 1;
  return (
    <details class="card folder" open={isOpen}>
      <summary>
        <b>{folder === "" ? "The run" : folder}</b>{" "}
        <span class="soft">
          {files.length.toLocaleString("en-US")} {files.length === 1 ? "file" : "files"},{" "}
          {bytes(files.reduce((sum, file) => sum + file.bytes, 0))}
          {FOLDERS[folder] === undefined ? "" : ` · ${FOLDERS[folder]}`}
        </span>
      </summary>
      <table class="plain">
        <thead>
          <tr>
            <th>Name</th>
            <th class="number">Size</th>
            <th>Changed</th>
            <th>
              <span class="unseen">What to do with it</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {shown.map((file) => {
            const address = api.fileAddress({ project: page.project, run: page.row.id, path: file.path });
            return (
              <tr key={file.path}>
                <td class="mono path">
                  {file.picture && (
                    <button
                      type="button"
                      class="thumbnail"
                      onClick={() => setSettings({ file: file.path })}
                      aria-label={`Look at ${file.path}`}
                    >
                      <img src={address} alt="" loading="lazy" width="28" height="28" />
                    </button>
                  )}
                  <HighlightedText text={file.path.slice(within)} find={find} />
                </td>
                <td class="number">{bytes(file.bytes)}</td>
                <td class="soft">{moment(file.changed)}</td>
                <td class="number">
                  {!file.picture && TEXTS.test(file.path) && (
                    <a
                      href={api.fileAddress({ project: page.project, run: page.row.id, path: file.path, text: true })}
                      target="_blank"
                      rel="noopener noreferrer"
                    >
                      Read
                    </a>
                  )}{" "}
                  <a
                    href={address}
                    download={file.path.slice(file.path.lastIndexOf("/") + 1)}
                    aria-label={`Save ${file.path}`}
                  >
                    Save
                  </a>
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {shown.length < files.length && (
        <p class="hint">
          <button type="button" onClick={() => setAll(true)}>
            Show all {files.length.toLocaleString("en-US")}
          </button>
        </p>
      )}
    </details>
  );
}
