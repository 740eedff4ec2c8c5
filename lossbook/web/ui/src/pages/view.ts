// The props of every tab of a run.

import type { RunPage, RunRow } from "../types";

export interface ViewProps {
  page: RunPage;
  row: RunRow;
  live: boolean; // the run goes on: ask again
}
