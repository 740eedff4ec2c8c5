// The page's frame: breadcrumbs, the state of the connection, and the page that the address names.

import "./style.css";

import { type ComponentChildren, render } from "preact";
import { useEffect, useState } from "preact/hooks";

import { api, setTransport } from "./api";
import { Dialog } from "./components/dialog";
import { openExportedPage } from "./html_export";
import { ProjectPage } from "./pages/project";
import { RunPage } from "./pages/run";
import { StorePage } from "./pages/store";
import { connection } from "./polling";
import { linkTo, route } from "./router";
import { followProject, runById } from "./runs";
import { bindShortcuts, shortcuts } from "./shortcuts";
import { isDark, theme } from "./theme";

function Top() {
  const { project, run } = route.value;
  const name = run === null ? null : (runById(run)?.name ?? run);
  useEffect(() => {
    document.title = [name, project, "Lossbook"].filter((part) => part !== null).join(" · ");
  }, [name, project]);
  return (
    <header class="top">
      <nav aria-label="Where this is">
        <a class="brand" href={linkTo({})}>
          <svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true">
            <path d="M1 2c1 8 4 11 14 12" fill="none" stroke="currentColor" stroke-width="2" />
          </svg>
          Lossbook
        </a>
        {project !== null && (
          <>
            <span class="soft">/</span>
            <a href={linkTo({ project }, route.value.settings)}>{project}</a>
          </>
        )}
        {name !== null && (
          <>
            <span class="soft">/</span>
            <span aria-current="page">{name}</span>
          </>
        )}
      </nav>
      <span role="status" class="soft">
        {connection.value === "lost" ? (
          <span class="tag" style={{ color: "var(--bad)" }}>
            no answer from the server; trying again
          </span>
        ) : connection.value === "still" ? (
          <span class="tag">a copy: nothing new comes</span>
        ) : null}
      </span>
      <button
        type="button"
        class="plain"
        onClick={switchTheme}
        aria-label={isDark.value ? "Light colours" : "Dark colours"}
        title="Light or dark (t)"
      >
        {isDark.value ? "Light" : "Dark"}
      </button>
    </header>
  );
}

function switchTheme(): void {
  theme.value = isDark.value ? "light" : "dark";
}

function Help() {
  const [open, setOpen] = useState(false);
  useEffect(
    () =>
      bindShortcuts([
        { key: "?", description: "this list", action: () => setOpen((before) => !before) },
        { key: "t", description: "light or dark", action: switchTheme },
      ]),
    [],
  );
  const seen = new Set<string>();
  const shown = shortcuts.value.filter(({ key, description }) => description !== "" && !seen.has(key) && seen.add(key));
  return (
    <>
      <button
        type="button"
        class="plain"
        onClick={() => setOpen(true)}
        title="Keys (?)"
        style={{ position: "fixed", right: "8px", bottom: "8px", zIndex: 20 }}
        aria-label="Keys"
      >
        ?
      </button>
      <Dialog title="Keys" open={open} onClose={() => setOpen(false)}>
        <table class="plain">
          <tbody>
            {shown.map(({ key, description }) => (
              <tr key={key}>
                <td>
                  <kbd>{key === " " ? "space" : key}</kbd>
                </td>
                <td>{description}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Dialog>
    </>
  );
}

function Page(): ComponentChildren {
  const { project, run } = route.value;
  if (project === null) return <StorePage />;
  if (run !== null) return <RunPage key={run} />;
  return <ProjectPage key={project} />;
}

function App() {
  return (
    <div class="page">
      <Top />
      <Page />
      <Help />
    </div>
  );
}

/** A copy of one project, or of one run, opens there: nobody wants to choose from a list of one. */
async function openWhatThereIs(): Promise<void> {
  const { projects } = await api.store();
  const only = projects[0];
  if (route.value.project !== null || only === undefined || projects.length > 1) return;
  const { rows } = await api.runs({ project: only.name });
  location.replace(linkTo({ project: only.name, run: rows.length === 1 ? rows[0]!.id : null }));
}

async function begin(): Promise<void> {
  const copy = await openExportedPage();
  if (copy !== null) {
    setTransport(copy);
    await openWhatThereIs();
  }
  followProject();
  render(<App />, document.getElementById("app")!);
}

void begin();
