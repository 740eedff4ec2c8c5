// The page's frame: where one is, whether the server answers, and which page stands below.

import "./style.css";

import { render, type ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";

import { api, useTransport } from "./api";
import { openCopy } from "./copy";
import { connection } from "./live";
import { ProjectPage } from "./pages/project";
import { RunPage } from "./pages/run";
import { StorePage } from "./pages/store";
import { Dialog } from "./parts/dialog";
import { followProject, runById } from "./runs";
import { bindKeys, isDark, keyBindings, linkTo, place, theme } from "./state";

function Top() {
  const { project, run } = place.value;
  const name = run === null ? null : runById(run)?.name ?? run;
  useEffect(() => {
    document.title = [name, project, "Lossbook"].filter((part) => part !== null).join(" · ");
  }, [name, project]);
  return (
    <header class="top">
      <nav aria-label="Where this is">
        <a class="brand" href={linkTo({})}>
          <svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true"><path d="M1 2c1 8 4 11 14 12" fill="none" stroke="currentColor" stroke-width="2" /></svg>
          Lossbook
        </a>
        {project !== null && <><span class="soft">/</span><a href={linkTo({ project }, place.value.settings)}>{project}</a></>}
        {name !== null && <><span class="soft">/</span><span aria-current="page">{name}</span></>}
      </nav>
      <span role="status" class="soft">
        {connection.value === "lost" ? <span class="tag" style={{ color: "var(--bad)" }}>no answer from the server; trying again</span>
          : connection.value === "still" ? <span class="tag">a copy: nothing new comes</span> : null}
      </span>
      <button class="plain" onClick={switchTheme} aria-label={isDark.value ? "Light colours" : "Dark colours"} title="Light or dark (t)">{isDark.value ? "Light" : "Dark"}</button>
    </header>
  );
}

function switchTheme(): void {
  theme.value = isDark.value ? "light" : "dark";
}

function Help() {
  const [open, setOpen] = useState(false);
  useEffect(() => bindKeys([
    { key: "?", does: "this list", act: () => setOpen((before) => !before) },
    { key: "t", does: "light or dark", act: switchTheme },
  ]), []);
  const seen = new Set<string>();
  const shown = keyBindings.value.filter(({ key, does }) => does !== "" && !seen.has(key) && seen.add(key));
  return (
    <>
      <button class="plain" onClick={() => setOpen(true)} title="Keys (?)" style={{ position: "fixed", right: "8px", bottom: "8px", zIndex: 20 }} aria-label="Keys">?</button>
      <Dialog title="Keys" open={open} onClose={() => setOpen(false)}>
        <table class="plain"><tbody>
          {shown.map(({ key, does }) => <tr key={key}><td><kbd>{key === " " ? "space" : key}</kbd></td><td>{does}</td></tr>)}
        </tbody></table>
      </Dialog>
    </>
  );
}

function Page(): ComponentChildren {
  const { project, run } = place.value;
  if (project === null) return <StorePage />;
  if (run !== null) return <RunPage key={run} />;
  return <ProjectPage key={project} />;
}

function App() {
  return <div class="page"><Top /><Page /><Help /></div>;
}

/** A copy of one project, or of one run, opens there: nobody wants to choose from a list of one. */
async function openWhatThereIs(): Promise<void> {
  const { projects } = await api.store();
  const only = projects[0];
  if (place.value.project !== null || only === undefined || projects.length > 1) return;
  const { rows } = await api.runs({ project: only.name });
  location.replace(linkTo({ project: only.name, run: rows.length === 1 ? rows[0]!.id : null }));
}

async function begin(): Promise<void> {
  const copy = await openCopy();
  if (copy !== null) {
    useTransport(copy);
    await openWhatThereIs();
  }
  followProject();
  render(<App />, document.getElementById("app")!);
}

void begin();
