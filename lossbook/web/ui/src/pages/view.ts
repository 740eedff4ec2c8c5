// What every view of a run is given.

import type { RunPage, RunRow } from "../types";

export interface ViewProps {
  page: RunPage;
  row: RunRow;
  live: boolean; // the run goes on: ask again
}
