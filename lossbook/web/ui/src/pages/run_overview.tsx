// The overview of a run: key figures, notes, configuration, results, origin.

import { api } from "../api";
import { HighlightedText } from "../components/highlighted_text";
import { SearchBox } from "../components/search_box";
import { useQuery } from "../components/use_query";
import { ValueTree } from "../components/value_tree";
import { route } from "../router";
import type { RunPage, RunRow } from "../types";
import { keyFigures } from "./key_figures";
import { MetricsTable } from "./run_metrics";
import { Labels, Notes } from "./run_notes";
import { Attempts, Followers, Lineage, Origin } from "./run_origin";
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
              <header>
                <h2>Problems</h2>
              </header>
              <ul class="problems">
                {page.problems.map((problem) => (
                  <li key={problem}>
                    <HighlightedText text={problem} />
                  </li>
                ))}
              </ul>
            </section>
          )}
          <section class="card" aria-label="Configuration">
            <header>
              <h2>Configuration</h2>
              <SearchBox setting="config" label="Search the configuration" slash />
            </header>
            <ValueTree
              values={page.config}
              find={settings.get("config") ?? ""}
              nothing={'Nothing yet. lossbook.init(config={"lr": 3e-4}) records what a run was told.'}
            />
          </section>
          <section class="card" aria-label="Summary">
            <header>
              <h2>Summary</h2>
            </header>
            <ValueTree
              values={page.summary}
              find=""
              nothing={'Nothing yet. run.summary["accuracy"] = 0.91 puts a figure here.'}
            />
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

function KeyFigures({ page, row }: { page: RunPage; row: RunRow }) {
  return (
    <dl class="figures">
      {keyFigures(page, row).map(({ title, value, more }) => (
        <div key={title} class="card">
          <dt>{title}</dt>
          <dd>{value}</dd>
          {more !== undefined && <dd class="soft">{more}</dd>}
        </div>
      ))}
    </dl>
  );
}
